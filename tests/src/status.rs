//! Reading a node's status port.

use std::time::Duration;

use image_layout::status::{Outcome, Stage, StageReport, StatusLine};

use crate::port::{Port, PortError};

/// A node's status lines.
pub type StatusPort = Port<StatusLine>;

impl StatusPort {
    /// The last report of a stage, if it ended.
    pub fn stage(&self, stage: Stage) -> Option<StageReport> {
        last_of(&self.lines(), stage).cloned()
    }

    /// Waits until the last report of `stage` has this outcome.
    ///
    /// # Errors
    /// As for [`Port::wait`].
    pub fn wait_stage(
        &self,
        stage: Stage,
        outcome: Outcome,
        bound: Duration,
    ) -> Result<StageReport, PortError> {
        self.wait(&format!("stage {stage} {outcome:?}"), bound, |lines| {
            last_of(lines, stage)
                .filter(|report| report.outcome == outcome)
                .cloned()
        })
    }
}

fn last_of(lines: &[StatusLine], stage: Stage) -> Option<&StageReport> {
    lines.iter().rev().find_map(|line| match line {
        StatusLine::Stage(report) if report.stage == stage => Some(report),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    fn port() -> (UnixStream, StatusPort) {
        let (node, host) = UnixStream::pair().unwrap();
        let log = tempfile::tempfile().unwrap();
        (node, StatusPort::follow(host, log))
    }

    fn stage(stage: &str, outcome: &str) -> String {
        format!(
            "{{\"event\":\"stage\",\"stage\":\"{stage}\",\"outcome\":\"{outcome}\",\
             \"detail\":\"d\",\"at\":1.5,\"took\":0.5}}\n"
        )
    }

    #[test]
    fn the_last_report_of_a_stage_counts() {
        let (mut node, port) = port();
        node.write_all(stage("network", "failed").as_bytes())
            .unwrap();
        port.wait_stage(Stage::Network, Outcome::Failed, LONG)
            .unwrap();
        let late = port.wait_stage(Stage::Network, Outcome::Done, SHORT);
        assert!(matches!(late, Err(PortError::Late { .. })));
        node.write_all(stage("network", "done").as_bytes()).unwrap();
        port.wait_stage(Stage::Network, Outcome::Done, LONG)
            .unwrap();
        assert_eq!(port.stage(Stage::Network).unwrap().outcome, Outcome::Done);
    }

    #[test]
    fn lines_in_pieces_are_put_together() {
        let (mut node, port) = port();
        let line = stage("media", "done");
        let (head, tail) = line.split_at(20);
        node.write_all(head.as_bytes()).unwrap();
        node.write_all(tail.as_bytes()).unwrap();
        port.wait_stage(Stage::Media, Outcome::Done, LONG).unwrap();
    }

    #[test]
    fn a_machine_that_ends_stops_the_wait_at_once() {
        let (node, port) = port();
        drop(node);
        let ended = port.wait_stage(Stage::Run, Outcome::Done, LONG);
        assert!(matches!(ended, Err(PortError::Ended { .. })));
    }

    #[test]
    fn prose_on_the_port_is_an_error() {
        let (mut node, port) = port();
        node.write_all(b"hello\n").unwrap();
        let strange = port.wait_stage(Stage::Run, Outcome::Done, LONG);
        assert!(matches!(strange, Err(PortError::Strange(text)) if text == "hello"));
    }
}
