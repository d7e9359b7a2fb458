//! Reading a virtio-serial port on which a machine writes lines of JSON.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A line is never longer; a machine that writes longer ones is broken.
const LINE_BYTES: u64 = 64 << 10;

/// Why what was waited for didn't come.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
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
    /// It wrote something that is no line of this port.
    #[error("the port carried {0:?}, which is no line of its kind")]
    Strange(String),
}

/// The lines that came so far, and a way to wait for the next.
#[derive(Debug)]
pub struct Port<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    lines: Vec<T>,
    strange: Option<String>,
    ended: bool,
}

impl<T: Clone + Serialize + DeserializeOwned + Send + 'static> Port<T> {
    /// Reads `port` to its end on a thread of its own and copies what comes to `log`.
    pub fn follow(port: impl Read + Send + 'static, log: File) -> Port<T> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                lines: Vec::new(),
                strange: None,
                ended: false,
            }),
            changed: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        std::thread::spawn(move || read(port, log, &writer));
        Port { shared }
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<T> {
        self.lock().lines.clone()
    }

    /// Waits until `found` finds something in the lines so far.
    ///
    /// # Errors
    /// When the bound passes or the machine ends first; `what` is for the message.
    pub fn wait<F>(
        &self,
        what: &str,
        bound: Duration,
        found: impl Fn(&[T]) -> Option<F>,
    ) -> Result<F, PortError> {
        let deadline = Instant::now() + bound;
        let mut state = self.lock();
        loop {
            if let Some(strange) = &state.strange {
                return Err(PortError::Strange(strange.clone()));
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
                return Err(PortError::Ended { what, last });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(PortError::Late { what, bound, last });
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn read<T: DeserializeOwned>(port: impl Read, mut log: File, shared: &Shared<T>) {
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
