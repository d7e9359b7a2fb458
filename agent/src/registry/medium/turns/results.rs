//! What came of reading, and who is given it.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use super::{Given, Position, PositionId, State, Step, Turns};

type Failure = Option<Arc<std::io::Error>>;

impl Turns {
    /// What came of a step: bytes, fewer than it said if an error follows them. Returns whom to
    /// wake.
    pub(in super::super) fn done(
        &mut self,
        step: &Step,
        bytes: &Bytes,
        error: Option<std::io::Error>,
    ) -> Vec<Waker> {
        let failure = error.map(Arc::new);
        if let Some(position) = step.position {
            self.has_read(step, position, bytes.len() as u64, failure.is_some());
        }
        let woken = self.give(step, bytes, &failure);
        if failure.is_some() && step.position.is_some() {
            // the others go on
            self.turn = None;
            self.queue(step.blob);
        }
        woken
    }

    /// Moves a position on.
    fn has_read(&mut self, step: &Step, id: PositionId, read: u64, failed: bool) {
        let after = step.offset + read;
        self.small_credit = (self.small_credit + read / super::SMALL_SHARE).min(super::SMALL);
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.position == id) {
            turn.used += read;
        }
        let Some(blob) = self.blobs.get_mut(&step.blob) else {
            return;
        };
        let Some(at) = blob.positions.iter().position(|p| p.id == id) else {
            return;
        };
        let mut position = blob.positions.swap_remove(at);
        position.next = after;
        position.failed |= failed;
        // positions that this one has reached are one with it from here
        let met = |p: &mut Position| p.next >= step.offset && p.next <= after && !p.failed;
        for other in blob.positions.extract_if(.., met) {
            for id in &other.streams {
                if let Some(stream) = self.streams.get_mut(id) {
                    stream.position = Some(position.id);
                }
            }
            position.streams.extend(other.streams);
        }
        blob.positions.push(position);
    }

    /// Gives what was read to all of the blob's streams that wait for a byte of it.
    fn give(&mut self, step: &Step, bytes: &Bytes, failure: &Failure) -> Vec<Waker> {
        let read = bytes.len() as u64;
        let after = step.offset + read;
        let mut woken = Vec::new();
        let Some(blob) = self.blobs.get(&step.blob) else {
            return woken;
        };
        for id in &blob.streams {
            let Some(stream) = self.streams.get_mut(id).filter(|stream| stream.waits()) else {
                continue;
            };
            let given = match failure {
                _ if (step.offset..after).contains(&stream.offset) => {
                    let from = (stream.offset - step.offset) as usize;
                    let to = read.min(stream.end - step.offset) as usize;
                    Given::Bytes(bytes.slice(from..to), blob.tells)
                }
                Some(error) if stream.offset == after => Given::Failed(Arc::clone(error)),
                // may be fine beyond what is broken: at a position of its own
                Some(_) if step.position.is_some() && stream.position == step.position => {
                    Given::Again
                }
                _ => continue,
            };
            let given = State::Given(given);
            if let State::Waiting(waker) = std::mem::replace(&mut stream.state, given) {
                woken.push(waker);
            }
        }
        woken
    }

    /// Gives an error to all who wait.
    pub(in super::super) fn fail(&mut self, error: std::io::Error) -> Vec<Waker> {
        let error = Arc::new(error);
        let mut woken = Vec::new();
        for stream in self.streams.values_mut().filter(|stream| stream.waits()) {
            let given = State::Given(Given::Failed(Arc::clone(&error)));
            if let State::Waiting(waker) = std::mem::replace(&mut stream.state, given) {
                woken.push(waker);
            }
        }
        woken
    }
}
