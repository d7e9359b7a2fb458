//! Unpacking on one core while another hashes and writes.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes in one buffer.
const BUFFER: usize = 1 << 20;
/// Buffers on their way.
const BUFFERS: usize = 4;

/// Reads ahead of its user, by a few MiB, on a thread of its own. The thread ends when the source
/// does, or at its next buffer after this was dropped.
pub(super) struct ReadAhead {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
    current: Vec<u8>,
    taken: usize,
}

impl ReadAhead {
    /// Starts reading `source`.
    pub(super) fn new(mut source: Box<dyn Read + Send>) -> io::Result<ReadAhead> {
        let (send_full, full) = sync_channel(BUFFERS);
        let (empty, take_empty) = sync_channel::<Vec<u8>>(BUFFERS + 2);
        let thread = std::thread::Builder::new()
            .name("read-ahead".into())
            .spawn(move || {
                loop {
                    let mut buffer = take_empty
                        .try_recv()
                        .unwrap_or_else(|_| Vec::with_capacity(BUFFER));
                    buffer.clear();
                    let outcome = source.by_ref().take(BUFFER as u64).read_to_end(&mut buffer);
                    let last = outcome.is_err() || buffer.len() < BUFFER;
                    // what came before an error is still good
                    if !buffer.is_empty() && send_full.send(Ok(buffer)).is_err() {
                        return;
                    }
                    if let Err(error) = outcome {
                        // the receiver may be gone, and then nobody wants to know
                        let _ = send_full.send(Err(error));
                    }
                    if last {
                        return;
                    }
                }
            })?;
        Ok(ReadAhead {
            full,
            empty: Some(empty),
            thread: Some(thread),
            current: Vec::new(),
            taken: 0,
        })
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.current.len() {
            match self.full.recv() {
                Ok(next) => {
                    let used = std::mem::replace(&mut self.current, next?);
                    self.taken = 0;
                    if let Some(empty) = &self.empty {
                        // no room is no harm: the thread makes itself a new buffer
                        let _ = empty.try_send(used);
                    }
                }
                Err(_) => {
                    let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
                    return match ended {
                        Ok(()) => Ok(0),
                        Err(_) => Err(io::Error::other("the decoder gave up")),
                    };
                }
            }
        }
        let rest = self.current.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.taken += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_arrives_in_order() {
        let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut read = Vec::new();
        let source = Box::new(io::Cursor::new(bytes.clone()));
        ReadAhead::new(source)
            .unwrap()
            .read_to_end(&mut read)
            .unwrap();
        assert!(read == bytes);
    }

    #[test]
    fn an_error_comes_after_what_was_read_before_it() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
        let mut read = Vec::new();
        let error = ReadAhead::new(Box::new((&b"good"[..]).chain(Fails)))
            .unwrap()
            .read_to_end(&mut read)
            .unwrap_err();
        assert_eq!(
            (read.as_slice(), error.kind()),
            (&b"good"[..], io::ErrorKind::UnexpectedEof)
        );
    }
}
