//! Memory between medium and network.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::limits;
use super::medium::{Cached, Source};

/// Sizes of buffers, in bytes, and how many of each are kept.
const SIZES: [(usize, usize); 3] = [
    (limits::SMALL_CHUNK_BYTES, 0),
    (limits::CHUNK_BYTES, limits::SPARE_CHUNKS),
    (limits::LARGE_CHUNK_BYTES, limits::SPARE_LARGE_CHUNKS),
];

/// Buffers that are used again: the C library gives memory of their size back to the kernel at
/// once, and the kernel would have to clear each page of the next anew.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    spare: Mutex<Vec<Vec<u8>>>,
    /// Bytes of buffers that the network has not taken yet.
    held: AtomicUsize,
}

/// A buffer of which the first bytes are filled; goes back when the network has taken them.
struct Filled {
    buffer: Vec<u8>,
    filled: usize,
    home: Buffers,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let held = &self.home.shared.held;
        held.fetch_sub(self.buffer.len(), Ordering::Relaxed);
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}

impl Buffers {
    /// Bytes that may be read at once. What is held decides, not who is there: the last bytes of
    /// an answer wait for the network when its stream has ended.
    pub(super) fn chunk(&self) -> usize {
        let held = self.shared.held.load(Ordering::Relaxed);
        if held < limits::HELD_FOR_LARGE_CHUNKS {
            limits::LARGE_CHUNK_BYTES
        } else if held < limits::HELD_FOR_CHUNKS {
            limits::CHUNK_BYTES
        } else {
            limits::SMALL_CHUNK_BYTES
        }
    }

    /// A buffer of at least `length` bytes, or of the largest size.
    fn take(&self, length: usize) -> Vec<u8> {
        let sizes = SIZES.iter().map(|&(size, _)| size);
        let size = sizes.filter(|&size| size >= length).min();
        let size = size.unwrap_or(limits::LARGE_CHUNK_BYTES);
        let mut spare = self
            .shared
            .spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match spare.iter().rposition(|buffer| buffer.len() == size) {
            Some(at) => spare.swap_remove(at),
            None => {
                drop(spare);
                vec![0; size]
            }
        }
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut spare = self
            .shared
            .spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let same = spare.iter().filter(|b| b.len() == buffer.len()).count();
        let kept = SIZES.iter().find(|&&(size, _)| size == buffer.len());
        if kept.is_some_and(|&(_, most)| same < most) {
            spare.push(buffer);
        }
    }

    fn filled(&self, buffer: Vec<u8>, filled: usize) -> Bytes {
        let home = self.clone();
        self.shared.held.fetch_add(buffer.len(), Ordering::Relaxed);
        Bytes::from_owner(Filled {
            buffer,
            filled,
            home,
        })
    }

    /// Takes at most `length` bytes, at most a large chunk, that memory has. Never waits for a
    /// medium.
    pub(super) fn cached(
        &self,
        source: &dyn Source,
        offset: u64,
        length: usize,
    ) -> Result<Bytes, NotCached> {
        let mut buffer = self.take(length);
        let wanted = length.min(buffer.len());
        let found = match buffer.get_mut(..wanted) {
            Some(wanted) => source.cached(wanted, offset),
            None => Cached::Absent,
        };
        match found {
            Cached::Found(found) => return Ok(self.filled(buffer, found)),
            Cached::Absent | Cached::Unknown => self.give_back(buffer),
        }
        Err(match found {
            Cached::Unknown => NotCached::Unknown,
            _ => NotCached::Absent,
        })
    }

    /// Reads `length` bytes, or a large chunk if that is less. Waits for the medium. Bytes before
    /// an error come with it. An end of the file before that is an error: its size was checked
    /// when it was opened.
    pub(super) fn read(
        &self,
        source: &dyn Source,
        offset: u64,
        length: usize,
    ) -> (Bytes, Option<std::io::Error>) {
        let mut buffer = self.take(length);
        let wanted = length.min(buffer.len());
        let mut filled = 0;
        let mut failed = None;
        while let Some(rest) = buffer.get_mut(filled..wanted).filter(|r| !r.is_empty()) {
            match source.read(rest, offset + filled as u64) {
                Ok(0) => {
                    failed = Some(std::io::ErrorKind::UnexpectedEof.into());
                    break;
                }
                Ok(read) => filled += read,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        (self.filled(buffer, filled), failed)
    }
}

/// Why memory gave no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotCached {
    /// It has not the first of them.
    Absent,
    /// It can't be asked.
    Unknown,
}
