//! Memory between medium and network.

use std::fs::File;
use std::io::IoSliceMut;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags};

use super::limits;

/// Buffers of [`limits::CHUNK_BYTES`] that are used again: the C library gives memory of that size
/// back to the kernel at once, and the kernel would have to clear each page of the next anew.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers {
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
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
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}

impl Buffers {
    fn take(&self, length: usize) -> Vec<u8> {
        if length > limits::SMALL_CHUNK_BYTES {
            let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(buffer) = spare.pop() {
                return buffer;
            }
            return vec![0; limits::CHUNK_BYTES];
        }
        vec![0; length]
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() == limits::CHUNK_BYTES && spare.len() < limits::SPARE_CHUNKS {
            spare.push(buffer);
        }
    }

    fn filled(&self, buffer: Vec<u8>, filled: usize) -> Bytes {
        let home = self.clone();
        Bytes::from_owner(Filled {
            buffer,
            filled,
            home,
        })
    }

    /// Reads at most `length` bytes, at most a chunk, that the page cache has. `None` if it has
    /// none of them, or the file system can't tell (preadv2(2), `RWF_NOWAIT`). Never waits for a
    /// medium.
    pub(super) fn read_cached(&self, file: &File, offset: u64, length: usize) -> Option<Bytes> {
        let mut buffer = self.take(length);
        let wanted = length.min(buffer.len());
        let read = buffer.get_mut(..wanted).map_or(Ok(0), |wanted| {
            let mut slices = [IoSliceMut::new(wanted)];
            rustix::io::preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT)
        });
        match read {
            Ok(read) if read > 0 => Some(self.filled(buffer, read)),
            _ => {
                self.give_back(buffer);
                None
            }
        }
    }

    /// Reads `length` bytes, or a chunk if that is less. Waits for the medium. An end of the file
    /// before that is an error: its size was checked when it was opened.
    pub(super) fn read(&self, file: &File, offset: u64, length: usize) -> std::io::Result<Bytes> {
        let mut buffer = self.take(length);
        let wanted = length.min(buffer.len());
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..wanted).filter(|r| !r.is_empty()) {
            match rustix::io::pread(file, rest, offset + filled as u64) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.filled(buffer, filled))
    }
}
