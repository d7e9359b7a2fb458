//! What blobs are read from.

use std::fs::File;
use std::io::IoSliceMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// File systems that are memory (statfs(2); Linux: `include/uapi/linux/magic.h`).
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// A part of a file.
#[derive(Debug)]
pub(in crate::registry) struct FilePart {
    file: Arc<File>,
    start: u64,
    /// Known to lie in memory by nature.
    in_memory: AtomicBool,
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
            in_memory: AtomicBool::new(false),
        }
    }

    fn is_on_memory_file_system(&self) -> bool {
        // the type differs among architectures
        #[allow(clippy::unnecessary_cast)]
        rustix::fs::fstatfs(&self.file)
            .is_ok_and(|found| MEMORY_FILE_SYSTEMS.contains(&(found.f_type as u64)))
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
        let at = self.start + offset;
        let flags = match self.in_memory.load(Ordering::Relaxed) {
            true => ReadWriteFlags::empty(),
            false => ReadWriteFlags::NOWAIT,
        };
        let mut slices = [IoSliceMut::new(&mut *buffer)];
        match rustix::io::preadv2(&self.file, &mut slices, at, flags) {
            Ok(read) if read > 0 => Cached::Found(read),
            // preadv2(2): there are file systems that never tell; of some it need not be asked
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                if flags.is_empty() || !self.is_on_memory_file_system() {
                    return Cached::Unknown;
                }
                self.in_memory.store(true, Ordering::Relaxed);
                self.cached(buffer, offset)
            }
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

/// Whether a file can't be opened for want of descriptors: no fault of the medium's.
pub(in crate::registry) fn is_exhausted(error: &std::io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A file in memory that begins with what is not the blob's.
    fn in_memory() -> FilePart {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::memfd_create("blob", flags).unwrap());
        file.write_all(b"before").unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        let file = Arc::new(file);
        FilePart::of(BlobFile { file, start: 6 })
    }

    #[test]
    fn a_file_system_that_is_memory_never_waits_for_a_medium() {
        let part = in_memory();
        let mut buffer = [0; 4096];
        assert_eq!(part.cached(&mut buffer, 0), Cached::Found(4096));
        assert_eq!(part.cached(&mut buffer, 9_999), Cached::Found(1));
        assert_eq!(buffer[0], 7);
        assert_eq!(part.cached(&mut buffer, 10_000), Cached::Absent);
    }

    #[test]
    fn offsets_count_from_the_blob_and_the_end_reads_nothing() {
        let part = in_memory();
        let mut buffer = [0; 4096];
        assert_eq!(part.read(&mut buffer, 9_000).unwrap(), 1_000);
        assert!(buffer[..1_000] == [7; 1_000]);
        assert_eq!(part.read(&mut buffer, 10_000).unwrap(), 0);
    }
}
