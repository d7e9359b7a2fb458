//! What a child writes to its standard output and error: into a bounded log, the last lines kept.

use std::io::{ErrorKind, PipeReader, Read};

use super::logs::BoundedLog;
use super::tail::Tail;

/// Bytes of one read, and reads in one turn of the loop: a child that says much must not keep PID 1
/// from everything else.
const READ_BYTES: usize = 32 << 10;
const READS_A_TURN: usize = 8;

/// Where a child's output goes.
#[derive(Debug)]
pub(super) struct Output {
    /// `None` where the log can't be written; the child runs all the same.
    log: Option<BoundedLog>,
    /// The last lines.
    pub(super) tail: Tail,
}

impl Output {
    /// Into this log.
    pub(super) fn new(log: Option<BoundedLog>, tail: Tail) -> Output {
        Output { log, tail }
    }

    /// Takes what can be read from the child's pipe, as much as one turn of the loop allows.
    /// Returns whether the pipe is still open.
    pub(super) fn take(&mut self, pipe: &mut PipeReader) -> bool {
        let mut buffer = vec![0; READ_BYTES];
        for _ in 0..READS_A_TURN {
            match pipe.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    if let Some(log) = &mut self.log {
                        log.append(bytes);
                    }
                    self.tail.append(bytes);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        true
    }
}
