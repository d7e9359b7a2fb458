//! Reading what the stand-in for k3s reports, `tests/probe`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::port::{Port, PortError};

/// Name of the virtio-serial port that carries the lines.
pub const PORT: &str = "org.haulboot.probe";

/// One line of the probe: an object with `event` and what belongs to it.
pub type ProbeLine = BTreeMap<String, Value>;

/// What the probe reported since the machine's start, over all of its own starts.
pub type ProbePort = Port<ProbeLine>;

impl ProbePort {
    /// Waits for a line that has all these keys with these values. A text fits where it is part of
    /// the line's.
    ///
    /// # Errors
    /// As for [`Port::wait`].
    pub fn wait_line(&self, wanted: &ProbeLine, bound: Duration) -> Result<(), PortError> {
        let what = format!("a line of the probe with {wanted:?}");
        self.wait(&what, bound, |lines| {
            lines.iter().any(|line| fits(line, wanted)).then_some(())
        })
    }

    /// That no line so far has all these keys with these values.
    ///
    /// # Errors
    /// When one has.
    pub fn no_line(&self, unwanted: &ProbeLine) -> Result<()> {
        match self.lines().iter().find(|line| fits(line, unwanted)) {
            Some(line) => bail!("the probe reported {line:?}"),
            None => Ok(()),
        }
    }

    /// That it is up, has checked at least so many conditions, and that none of them failed.
    ///
    /// # Errors
    /// With every condition that failed and what was found instead.
    pub fn no_condition_fails(&self, at_least: usize) -> Result<()> {
        let lines = self.lines();
        let of = |event: &str| -> Vec<&ProbeLine> {
            lines
                .iter()
                .filter(|line| line.get("event").is_some_and(|found| found == event))
                .collect()
        };
        let conditions = of("condition");
        let failed: Vec<String> = conditions
            .iter()
            .filter(|line| line.get("ok") != Some(&Value::Bool(true)))
            .map(|line| {
                let text = |key: &str| line.get(key).map_or_else(String::new, Value::to_string);
                format!("{}: found {}", text("name"), text("found"))
            })
            .collect();
        ensure!(failed.is_empty(), "conditions fail: {}", failed.join("; "));
        let refused = of("refused");
        ensure!(refused.is_empty(), "the probe refuses: {refused:?}");
        ensure!(!of("up").is_empty(), "the probe never came up");
        ensure!(
            conditions.len() >= at_least,
            "the probe checked {} conditions, not {at_least}",
            conditions.len()
        );
        Ok(())
    }
}

fn fits(line: &ProbeLine, wanted: &ProbeLine) -> bool {
    wanted
        .iter()
        .all(|(key, wanted)| match (line.get(key), wanted) {
            (Some(Value::String(found)), Value::String(wanted)) => found.contains(wanted.as_str()),
            (found, wanted) => found == Some(wanted),
        })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use serde_json::json;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn port(lines: &[Value]) -> ProbePort {
        let (mut node, host) = UnixStream::pair().unwrap();
        for line in lines {
            writeln!(node, "{line}").unwrap();
        }
        let port = ProbePort::follow(host, tempfile::tempfile().unwrap());
        let all = lines.len();
        port.wait("all lines", LONG, |lines| {
            (lines.len() == all).then_some(())
        })
        .unwrap();
        port
    }

    fn condition(name: &str, ok: bool) -> Value {
        json!({"event": "condition", "name": name, "ok": ok, "found": "this"})
    }

    #[test]
    fn a_condition_that_fails_is_named_with_what_was_found() {
        let up = json!({"event": "up", "role": "server", "node": "n"});
        let port = port(&[condition("a", true), condition("b", false), up]);
        let error = port.no_condition_fails(1).unwrap_err().to_string();
        assert_eq!(error, "conditions fail: \"b\": found \"this\"");
    }

    #[test]
    fn too_few_conditions_and_a_probe_that_is_not_up_are_no_success() {
        let up = json!({"event": "up", "role": "agent", "node": "n"});
        let all = [condition("a", true), up];
        port(&all).no_condition_fails(1).unwrap();
        assert!(port(&all).no_condition_fails(2).is_err());
        assert!(port(&all[..1]).no_condition_fails(1).is_err());
        let refused = [&all[..], &[json!({"event": "refused", "why": "CA"})]].concat();
        assert!(port(&refused).no_condition_fails(1).is_err());
    }

    #[test]
    fn a_line_fits_by_a_part_of_its_text() {
        let port = port(&[json!({"event": "refused", "why": "wrong CA hash"})]);
        let wanted = |why: &str| {
            ProbeLine::from([
                ("event".to_owned(), json!("refused")),
                ("why".to_owned(), json!(why)),
            ])
        };
        port.wait_line(&wanted("CA hash"), LONG).unwrap();
        assert!(port.no_line(&wanted("CA hash")).is_err());
        port.no_line(&wanted("token")).unwrap();
        assert!(port.wait_line(&wanted("token"), LONG).is_err());
    }
}
