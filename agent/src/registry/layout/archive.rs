//! A layout in a tar archive, served where it lies.
//!
//! At start the archive's headers are read from front to back, and of every blob its offset and
//! size are kept. From then on every blob is a stretch of the one open file.
//!
//! - Names are compared, never opened: `./blobs/sha256/HEX` and `blobs/sha256/HEX` are a blob, and
//!   whatever is no part of a haul is passed over.
//! - Of two entries of one name the last counts, as it does when an archive is unpacked.
//! - An entry must end before the file does, so a truncated archive is refused at start.
//! - A file that is changed while it is served gives errors: its offsets mean nothing any more.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{BufReader, Error, ErrorKind, Read as _, Result};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use image_layout::archive::{self, EntryKind, TarEntry, TarError, TarReader};
use image_layout::{Digest, hauler, limits, paths};

use super::{BlobFile, Modified};

/// Bytes that are looked at to tell what a file is: a tar header.
const SNIFFED: usize = 512;

/// Why a file can't be served as a haul.
#[derive(Debug, thiserror::Error)]
pub(in crate::registry) enum ArchiveError {
    /// It is compressed, and so has no offsets.
    #[error("it is compressed; only an uncompressed archive can be served as it is")]
    Compressed {
        /// The program that decompresses it.
        with: &'static str,
    },
    /// It is no archive at all.
    #[error("it is neither a directory nor a tar archive")]
    NoArchive,
    /// It can't be read, or is no sound tar archive.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// An entry ends behind the end of the file.
    #[error("it is truncated: {name} ends at byte {end}, the file at byte {length}")]
    Truncated {
        /// The entry.
        name: String,
        /// Where it would end.
        end: u64,
        /// Bytes of the file.
        length: u64,
    },
    /// An entry that a layout needs has no bytes of its own.
    #[error("{name} in it is {what}, not a file")]
    NotAFile {
        /// The entry.
        name: String,
        /// What it is.
        what: &'static str,
    },
    /// More blobs than any haul has.
    #[error("it has more than {} blobs", limits::BLOBS)]
    TooManyBlobs,
}

/// Where an entry's data lies in the file.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u64,
    size: u64,
}

/// A tar archive, indexed.
#[derive(Debug)]
pub(super) struct Archive {
    file: Arc<File>,
    /// The file's size and last change when it was indexed.
    version: (u64, Modified),
    blobs: HashMap<Digest, Span>,
    /// The layout's own files, with their modification times.
    files: HashMap<&'static str, (Span, Modified)>,
}

/// What an entry is to a layout.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Blob(Digest),
    File(&'static str),
}

impl Part {
    /// Looks at a name as an archive has it. A leading slash, `.` and doubled slashes are what
    /// different programs write; a name that climbs is no part of a layout.
    fn of(name: &str) -> Option<Part> {
        let mut parts = name.split('/').filter(|part| !matches!(*part, "" | "."));
        let (first, second, third) = (parts.next()?, parts.next(), parts.next());
        match (first, second, third, parts.next()) {
            ("blobs", Some(algorithm), Some(hex), None) => {
                Digest::from_parts(algorithm, hex).map(Part::Blob)
            }
            (name, None, None, None) => [paths::haul::CATALOG, hauler::HAULER_INDEX, hauler::INDEX]
                .into_iter()
                .find(|known| *known == name)
                .map(Part::File),
            _ => None,
        }
    }
}

impl Archive {
    /// Indexes a tar archive. Reads its headers and nothing else, and keeps what its blobs need:
    /// about 100 bytes each.
    pub(super) fn open(file: File) -> std::result::Result<Archive, ArchiveError> {
        let metadata = file.metadata().map_err(TarError::Io)?;
        sniff(&file, &metadata)?;
        let mut archive = Archive {
            version: version(&metadata),
            file: Arc::new(file),
            blobs: HashMap::new(),
            files: HashMap::new(),
        };
        let file = Arc::clone(&archive.file);
        let mut reader = TarReader::seeking(BufReader::new(&*file));
        while let Some(entry) = reader.next()? {
            archive.take(&entry, reader.offset())?;
        }
        archive.blobs.shrink_to_fit();
        Ok(archive)
    }

    fn take(&mut self, entry: &TarEntry, start: u64) -> std::result::Result<(), ArchiveError> {
        let length = self.version.0;
        let name = || image_layout::text::printable(&entry.name);
        let end = start.saturating_add(entry.size);
        if end > length {
            return Err(ArchiveError::Truncated {
                name: name(),
                end,
                length,
            });
        }
        let Some(part) = Part::of(&entry.name) else {
            // its data may have a form that the header does not tell the size of
            return match entry.kind {
                EntryKind::Special => Err(ArchiveError::NotAFile {
                    name: name(),
                    what: "a device or a sparse file",
                }),
                _ => Ok(()),
            };
        };
        let what = match entry.kind {
            EntryKind::File => None,
            EntryKind::Directory => Some("a directory"),
            EntryKind::Symlink | EntryKind::Link => Some("a link"),
            EntryKind::Special | EntryKind::Unknown => Some("a device or a sparse file"),
        };
        if let Some(what) = what {
            return Err(ArchiveError::NotAFile { name: name(), what });
        }
        let span = Span {
            start,
            size: entry.size,
        };
        match part {
            Part::Blob(digest) => {
                self.blobs.insert(digest, span);
                if self.blobs.len() > limits::BLOBS {
                    return Err(ArchiveError::TooManyBlobs);
                }
            }
            Part::File(name) => {
                let seconds = i64::try_from(entry.mtime).unwrap_or(i64::MAX);
                self.files.insert(name, (span, (seconds, 0)));
            }
        }
        Ok(())
    }

    /// See [`super::Directory::modified`].
    pub(super) fn modified(&self, name: &str) -> Option<Modified> {
        self.files.get(name).map(|(_, modified)| *modified)
    }

    /// See [`super::Directory::read`].
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some((span, _)) = self.files.get(name) else {
            return Ok(None);
        };
        self.same()?;
        let length = span.size.min(limit.saturating_add(1));
        let mut bytes = vec![0; usize::try_from(length).map_err(Error::other)?];
        self.file.read_exact_at(&mut bytes, span.start)?;
        Ok(Some(bytes))
    }

    /// The size of a blob in bytes.
    pub(super) fn size(&self, digest: &Digest) -> Option<u64> {
        self.blobs.get(digest).map(|span| span.size)
    }

    /// See [`super::Layout::open_blob`].
    pub(super) fn open_blob(&self, digest: &Digest, size: u64) -> Result<BlobFile> {
        let span = self.blobs.get(digest).ok_or(ErrorKind::NotFound)?;
        if span.size != size {
            let why = format!("blob {digest} has {} bytes instead of {size}", span.size);
            return Err(Error::new(ErrorKind::InvalidData, why));
        }
        self.same()?;
        Ok(BlobFile {
            file: Arc::clone(&self.file),
            start: span.start,
        })
    }

    /// Whether the file is still the one that was indexed.
    fn same(&self) -> Result<()> {
        if version(&self.file.metadata()?) == self.version {
            return Ok(());
        }
        let why = "the archive was changed while it is served; start the registry anew";
        Err(Error::new(ErrorKind::InvalidData, why))
    }
}

fn version(metadata: &Metadata) -> (u64, Modified) {
    let nanoseconds = u64::try_from(metadata.mtime_nsec()).unwrap_or_default();
    (metadata.len(), (metadata.mtime(), nanoseconds))
}

/// Tells from the first bytes what a file is that is no tar archive.
fn sniff(file: &File, metadata: &Metadata) -> std::result::Result<(), ArchiveError> {
    if !metadata.is_file() {
        return Err(ArchiveError::NoArchive);
    }
    let mut start = Vec::with_capacity(SNIFFED);
    file.take(SNIFFED as u64)
        .read_to_end(&mut start)
        .map_err(TarError::Io)?;
    // the first header is read again
    std::io::Seek::rewind(&mut &*file).map_err(TarError::Io)?;
    let with = match start.as_slice() {
        // also a skippable frame, which pzstd puts first
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => "zstd -d",
        [0x1f, 0x8b, ..] => "gzip -dk",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz -dk",
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => "bzip2 -dk",
        [0x04, 0x22, 0x4d, 0x18, ..] => "lz4 -d",
        start if archive::is_header(start) => return Ok(()),
        _ => return Err(ArchiveError::NoArchive),
    };
    Err(ArchiveError::Compressed { with })
}

/// Opens a file that may be an archive. A FIFO is not waited for.
pub(super) fn file(path: &Path) -> Result<File> {
    let flags = rustix::fs::OFlags::RDONLY
        | rustix::fs::OFlags::CLOEXEC
        | rustix::fs::OFlags::NONBLOCK
        | rustix::fs::OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    Ok(File::from(file))
}
