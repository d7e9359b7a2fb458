//! Reading a node's status port.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use image_layout::status::{Outcome, Stage, StageReport, StatusLine};

/// A line is never longer; a node that writes longer ones is broken.
const LINE_BYTES: u64 = 64 << 10;

/// Why what was waited for didn't come.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// It took too long.
    #[error("{what} did not come within {} s; last came: {last}", bound.as_secs())]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        bound: Duration,
        /// The last line.
        last: String,
    },
    /// The machine went down first.
    #[error("the machine ended before {what} came; last came: {last}")]
    Ended {
        /// What was waited for.
        what: String,
        /// The last line.
        last: String,
    },
    /// The node wrote something that is no status line.
    #[error("the status port carried {0:?}, which is no status line")]
    Strange(String),
}

/// The lines a node wrote so far, and a way to wait for the next.
#[derive(Debug)]
pub struct StatusPort {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<StatusLine>,
    strange: Option<String>,
    ended: bool,
}

impl StatusPort {
    /// Reads `port` to its end on a thread of its own and copies what comes to `log`.
    pub fn follow(port: impl Read + Send + 'static, log: File) -> StatusPort {
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        std::thread::spawn(move || read(port, log, &writer));
        StatusPort { shared }
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<StatusLine> {
        self.lock().lines.clone()
    }

    /// The last report of a stage, if it ended.
    pub fn stage(&self, stage: Stage) -> Option<StageReport> {
        last_of(&self.lock().lines, stage).cloned()
    }

    /// Waits until `found` finds something in the lines so far.
    ///
    /// # Errors
    /// When the bound passes or the machine ends first; `what` is for the message.
    pub fn wait<T>(
        &self,
        what: &str,
        bound: Duration,
        found: impl Fn(&[StatusLine]) -> Option<T>,
    ) -> Result<T, StatusError> {
        let deadline = Instant::now() + bound;
        let mut state = self.lock();
        loop {
            if let Some(strange) = &state.strange {
                return Err(StatusError::Strange(strange.clone()));
            }
            if let Some(found) = found(&state.lines) {
                return Ok(found);
            }
            let what = what.to_owned();
            let last = state.lines.last().map_or_else(
                || "nothing".to_owned(),
                |line| serde_json::to_string(line).unwrap_or_default(),
            );
            if state.ended {
                return Err(StatusError::Ended { what, last });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(StatusError::Late { what, bound, last });
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until the last report of `stage` has this outcome.
    ///
    /// # Errors
    /// As for [`StatusPort::wait`].
    pub fn wait_stage(
        &self,
        stage: Stage,
        outcome: Outcome,
        bound: Duration,
    ) -> Result<StageReport, StatusError> {
        self.wait(&format!("stage {stage} {outcome:?}"), bound, |lines| {
            last_of(lines, stage)
                .filter(|report| report.outcome == outcome)
                .cloned()
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn last_of(lines: &[StatusLine], stage: Stage) -> Option<&StageReport> {
    lines.iter().rev().find_map(|line| match line {
        StatusLine::Stage(report) if report.stage == stage => Some(report),
        _ => None,
    })
}

fn read(port: impl Read, mut log: File, shared: &Shared) {
    let mut port = BufReader::new(port);
    loop {
        let mut line = Vec::new();
        let read = port.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line);
        let ended = !matches!(read, Ok(1..));
        // The log is for people; a full disk must not stop the test.
        let _ = log.write_all(&line);
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if !text.is_empty() {
            match serde_json::from_str(text) {
                Ok(line) => state.lines.push(line),
                Err(_) => state.strange = Some(text.to_owned()),
            }
        }
        state.ended = ended;
        drop(state);
        shared.changed.notify_all();
        if ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert!(matches!(late, Err(StatusError::Late { .. })));
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
        assert!(matches!(ended, Err(StatusError::Ended { .. })));
    }

    #[test]
    fn prose_on_the_port_is_an_error() {
        let (mut node, port) = port();
        node.write_all(b"hello\n").unwrap();
        let strange = port.wait_stage(Stage::Run, Outcome::Done, LONG);
        assert!(matches!(strange, Err(StatusError::Strange(text)) if text == "hello"));
    }
}
