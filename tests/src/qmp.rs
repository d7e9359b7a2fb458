//! QEMU's control protocol (QEMU: docs/interop/qmp-spec.txt): one JSON object a line.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long QEMU may take to answer a command. It answers at once unless the host is busy.
const ANSWER_BOUND: Duration = Duration::from_secs(30);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The connection broke: QEMU ended.
    #[error("talking to QEMU")]
    Io(#[from] io::Error),
    /// QEMU said something that is no JSON.
    #[error("reading QEMU's answer")]
    Json(#[from] serde_json::Error),
    /// QEMU refused the command.
    #[error("QEMU refuses {command}: {why}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's words.
        why: String,
    },
    /// Nothing came within the bound.
    #[error("QEMU did not send {what} within {} s", bound.as_secs())]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        bound: Duration,
    },
}

/// A connection to one QEMU.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
    partial: Vec<u8>,
    events: Vec<Value>,
}

impl Qmp {
    /// Shakes hands over a connection that QEMU made.
    ///
    /// # Errors
    /// When QEMU ends or doesn't answer.
    pub fn over(stream: UnixStream) -> Result<Qmp, QmpError> {
        let mut qmp = Qmp {
            stream: BufReader::new(stream),
            partial: Vec::new(),
            events: Vec::new(),
        };
        let deadline = Instant::now() + ANSWER_BOUND;
        while qmp
            .next("a greeting", deadline, ANSWER_BOUND)?
            .get("QMP")
            .is_none()
        {}
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns what it returns.
    ///
    /// # Errors
    /// When QEMU refuses it, ends or doesn't answer.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let mut line = json!({"execute": command, "arguments": arguments}).to_string();
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes())?;
        let deadline = Instant::now() + ANSWER_BOUND;
        loop {
            let mut answer = self.next(command, deadline, ANSWER_BOUND)?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(QmpError::Refused {
                    command: command.to_owned(),
                    why: error["desc"].as_str().unwrap_or_default().to_owned(),
                });
            }
            self.events.push(answer);
        }
    }

    /// Waits for an event for which `wanted` holds; events that came before count too, once.
    ///
    /// # Errors
    /// When it doesn't come within the bound, or QEMU ends.
    pub fn wait_event(
        &mut self,
        name: &str,
        bound: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, QmpError> {
        let deadline = Instant::now() + bound;
        let fits = |event: &Value| event["event"] == name && wanted(&event["data"]);
        loop {
            if let Some(at) = self.events.iter().position(&fits) {
                return Ok(self.events.remove(at)["data"].take());
            }
            let event = self.next(name, deadline, bound)?;
            self.events.push(event);
        }
    }

    fn next(&mut self, what: &str, deadline: Instant, bound: Duration) -> Result<Value, QmpError> {
        let late = || QmpError::Late {
            what: what.to_owned(),
            bound,
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late());
            }
            self.stream.get_ref().set_read_timeout(Some(left))?;
            match self.stream.read_until(b'\n', &mut self.partial) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(_) => {
                    let line = std::mem::take(&mut self.partial);
                    return Ok(serde_json::from_slice(&line)?);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that says `answers`, one for each line it hears, after a greeting.
    fn qmp(answers: &'static [&'static str]) -> Qmp {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut theirs = BufReader::new(theirs);
            theirs.get_mut().write_all(b"{\"QMP\": {}}\r\n").unwrap();
            for answer in ["{\"return\": {}}"].iter().chain(answers) {
                let mut heard = String::new();
                theirs.read_line(&mut heard).unwrap();
                theirs.get_mut().write_all(answer.as_bytes()).unwrap();
                theirs.get_mut().write_all(b"\r\n").unwrap();
            }
        });
        Qmp::over(ours).unwrap()
    }

    #[test]
    fn events_between_command_and_answer_are_kept() {
        let mut qmp = qmp(&[
            "{\"event\": \"RESET\", \"data\": {\"guest\": true}}\r\n{\"return\": {\"a\": 1}}",
        ]);
        assert_eq!(qmp.execute("query-a", json!({})).unwrap()["a"], 1);
        let data = qmp.wait_event("RESET", Duration::from_secs(9), |data| {
            data["guest"] == true
        });
        assert_eq!(data.unwrap()["guest"], true);
    }

    #[test]
    fn a_refusal_carries_qemus_words() {
        let mut qmp = qmp(&["{\"error\": {\"class\": \"GenericError\", \"desc\": \"no disk\"}}"]);
        let refused = qmp.execute("device_del", json!({"id": "x"})).unwrap_err();
        assert_eq!(refused.to_string(), "QEMU refuses device_del: no disk");
    }

    #[test]
    fn an_event_that_never_comes_is_waited_for_within_the_bound() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs
            .write_all(b"{\"QMP\": {}}\n{\"return\": {}}\n")
            .unwrap();
        let mut qmp = Qmp::over(ours).unwrap();
        let late = qmp.wait_event("SHUTDOWN", Duration::from_millis(50), |_| true);
        assert!(matches!(late, Err(QmpError::Late { .. })));
    }
}
