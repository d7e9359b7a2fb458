//! A layout in a directory.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use image_layout::Digest;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{BlobFile, LayoutError, Modified};

/// How files are opened: no links, and no waiting for the other end of a FIFO.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK);

/// An OCI layout whose directories are held open.
///
/// Files are opened relative to these by names that come from digests.
#[derive(Debug)]
pub(super) struct Directory {
    root: OwnedFd,
    sha256: Option<OwnedFd>,
    sha512: Option<OwnedFd>,
}

impl Directory {
    /// Opens a directory; whether it has a layout remains to be seen.
    pub(super) fn open(path: &Path) -> std::result::Result<Directory, LayoutError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| LayoutError::Open {
                path: path.to_owned(),
                error: error.into(),
            })?;
        let blobs = |algorithm| {
            let blobs =
                rustix::fs::openat(&root, "blobs", flags | OFlags::NOFOLLOW, Mode::empty()).ok()?;
            rustix::fs::openat(&blobs, algorithm, flags | OFlags::NOFOLLOW, Mode::empty()).ok()
        };
        Ok(Directory {
            sha256: blobs("sha256"),
            sha512: blobs("sha512"),
            root,
        })
    }

    /// When a file of the layout was changed; `None` if there is no such.
    pub(super) fn modified(&self, name: &str) -> Option<Modified> {
        let stat = rustix::fs::statat(&self.root, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
        Some((stat.st_mtime.into(), stat.st_mtime_nsec as u64))
    }

    /// Reads one of the layout's own files, one byte more than `limit` at most; `None` if there is
    /// no such.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let file = match rustix::fs::openat(&self.root, name, READ, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn blob_dir(&self, digest: &Digest) -> std::result::Result<&OwnedFd, Errno> {
        match digest {
            Digest::Sha256(_) => self.sha256.as_ref(),
            Digest::Sha512(_) => self.sha512.as_ref(),
        }
        .ok_or(Errno::NOENT)
    }

    /// The size of a blob in bytes.
    pub(super) fn size(&self, digest: &Digest) -> Option<u64> {
        let dir = self.blob_dir(digest).ok()?;
        let stat = rustix::fs::statat(dir, digest.hex(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        regular.then(|| u64::try_from(stat.st_size).ok()).flatten()
    }

    /// See [`super::Layout::open_blob`].
    pub(super) fn open_blob(&self, digest: &Digest, size: u64) -> Result<BlobFile> {
        let file = rustix::fs::openat(self.blob_dir(digest)?, digest.hex(), READ, Mode::empty())?;
        let file = File::from(file);
        let found = file.metadata()?;
        if !found.is_file() || found.len() != size {
            let why = format!("blob {digest} is no file of {size} bytes any more");
            return Err(Error::new(ErrorKind::InvalidData, why));
        }
        Ok(BlobFile {
            file: Arc::new(file),
            start: 0,
        })
    }
}
