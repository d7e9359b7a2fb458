//! What blobs are read from.

use std::fs::File;
use std::io::IoSliceMut;
use std::sync::Arc;

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

use super::super::layout::BlobFile;

/// What memory has of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::registry) enum Cached {
    /// So many bytes, at least one, were there and are in the buffer.
    Found(usize),
    /// Not the first byte.
    Absent,
    /// Whoever has the blob can't say without reading the medium.
    Unknown,
}

/// A blob's bytes. Offsets count from the blob's first byte.
///
/// A trait so that tests have media that are slow, forgetful or broken.
pub(in crate::registry) trait Source: Send + Sync {
    /// Copies what memory has. Does not wait for the medium.
    fn cached(&self, buffer: &mut [u8], offset: u64) -> Cached;

    /// Reads at least one byte, if there is one; waits for the medium.
    fn read(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize>;

    /// Lets the medium begin to read, without waiting for it.
    fn prepare(&self, offset: u64, length: u64);

    /// Gives up the memory that keeps these bytes.
    fn forget(&self, offset: u64, length: u64);
}

/// How much the kernel reads for one piece of advice: more is cut off, at the medium's largest
/// request or the device's read-ahead, 128 KiB by default (Linux: `mm/readahead.c`).
const ADVICE_BYTES: u64 = 128 << 10;

/// A part of a file.
#[derive(Debug)]
pub(in crate::registry) struct FilePart {
    file: Arc<File>,
    start: u64,
}

impl FilePart {
    /// A blob's part of its file. The kernel's own read-ahead is switched off for it: it would
    /// read out of turn.
    pub(in crate::registry) fn of(blob: BlobFile) -> FilePart {
        // advice only: what can't take it reads as it would have
        let _ = rustix::fs::fadvise(&blob.file, 0, None, Advice::Random);
        FilePart {
            file: blob.file,
            start: blob.start,
        }
    }

    fn advise(&self, offset: u64, length: u64, advice: Advice) {
        let Some(length) = std::num::NonZeroU64::new(length) else {
            return;
        };
        let _ = rustix::fs::fadvise(&self.file, self.start + offset, Some(length), advice);
    }
}

impl Source for FilePart {
    fn cached(&self, buffer: &mut [u8], offset: u64) -> Cached {
        let mut slices = [IoSliceMut::new(buffer)];
        let at = self.start + offset;
        match rustix::io::preadv2(&self.file, &mut slices, at, ReadWriteFlags::NOWAIT) {
            Ok(read) if read > 0 => Cached::Found(read),
            // preadv2(2): file systems such as FAT's and NFS's never tell
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Cached::Unknown,
            // the end of a file that should be longer, and errors, are for `read` to find
            Ok(_) | Err(_) => Cached::Absent,
        }
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        loop {
            match rustix::io::pread(&self.file, &mut *buffer, self.start + offset) {
                Err(Errno::INTR) => {}
                read => return Ok(read?),
            }
        }
    }

    fn prepare(&self, offset: u64, length: u64) {
        let mut done = 0;
        while done < length {
            let part = (length - done).min(ADVICE_BYTES);
            self.advise(offset + done, part, Advice::WillNeed);
            done += part;
        }
    }

    fn forget(&self, offset: u64, length: u64) {
        self.advise(offset, length, Advice::DontNeed);
    }
}
