//! A directory with an OCI layout, opened.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image_layout::catalog::{self, BlobSource, Catalog, CatalogError};
use image_layout::{Digest, hauler, paths};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::limits;

/// Why a directory can't be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayoutError {
    /// The directory can't be opened.
    #[error("opening {}: {error}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Neither catalog nor index.
    #[error("{} has no OCI layout: it lacks index.json", path.display())]
    NoLayout {
        /// The directory.
        path: PathBuf,
    },
    /// One of the layout's own files can't be read.
    #[error("reading {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// One of the layout's own files is larger than any that a haul needs.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The largest allowed size.
        limit: u64,
    },
    /// `catalog.json` is no catalog.
    #[error("{} is damaged: {error}", path.display())]
    CatalogJson {
        /// The file.
        path: PathBuf,
        /// Why.
        error: serde_json::Error,
    },
    /// `catalog.json` is of a later builder.
    #[error("{} has format {format}; this agent reads up to {supported}", path.display(),
        supported = catalog::FORMAT)]
    CatalogFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The layout's contents contradict its index.
    #[error("the haul in {} is damaged: {error}", path.display())]
    Contents {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        error: Box<CatalogError>,
    },
}

impl LayoutError {
    /// What a person can do about it.
    pub(super) fn help(&self) -> &'static str {
        match self {
            LayoutError::Open { .. } | LayoutError::Read { .. } => {
                "name a directory that this user can read"
            }
            LayoutError::NoLayout { .. } => {
                "unpack a haul with `builder haul extract HAUL DIR`, or name Hauler's store directory"
            }
            LayoutError::CatalogFormat { .. } => "use the agent that came with that builder",
            LayoutError::CatalogJson { .. } | LayoutError::TooLarge { .. } => {
                "unpack the haul anew with `builder haul extract HAUL DIR`"
            }
            LayoutError::Contents { .. } => {
                "get the haul anew and check it with `builder haul info HAUL`"
            }
        }
    }
}

/// A blob's file, opened.
#[derive(Debug)]
pub(super) struct BlobFile {
    /// The file.
    pub(super) file: Arc<File>,
    /// Where in the file the blob begins.
    pub(super) start: u64,
}

/// An OCI layout whose directories are held open.
///
/// Files are opened relative to these by names that come from digests, so what a request says has
/// no say in what is opened.
#[derive(Debug)]
pub(super) struct Layout {
    path: PathBuf,
    root: OwnedFd,
    sha256: Option<OwnedFd>,
    sha512: Option<OwnedFd>,
}

impl Layout {
    /// Opens a directory with a layout, or one that has it in `haul/`, as the partition HAUL.
    pub(super) fn open(path: &Path) -> Result<Layout, LayoutError> {
        let outer = Layout::open_exactly(path)?;
        if outer.is_layout() {
            return Ok(outer);
        }
        match Layout::open_exactly(&path.join(paths::haul::LAYOUT)) {
            Ok(inner) if inner.is_layout() => Ok(inner),
            _ => Err(LayoutError::NoLayout {
                path: path.to_owned(),
            }),
        }
    }

    fn open_exactly(path: &Path) -> Result<Layout, LayoutError> {
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
        Ok(Layout {
            path: path.to_owned(),
            sha256: blobs("sha256"),
            sha512: blobs("sha512"),
            root,
        })
    }

    fn is_layout(&self) -> bool {
        [paths::haul::CATALOG, hauler::HAULER_INDEX, hauler::INDEX]
            .iter()
            .any(|name| self.modified(name).is_some())
    }

    /// Seconds since 1970 and nanoseconds of a file's last change; `None` if there is no such.
    fn modified(&self, name: &str) -> Option<(i64, u64)> {
        let stat = rustix::fs::statat(&self.root, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
        Some((stat.st_mtime.into(), stat.st_mtime_nsec as u64))
    }

    /// What is in the layout: by `catalog.json` where there is one that is not older than the
    /// index, else derived from the index.
    pub(super) fn catalog(&self) -> Result<Catalog, LayoutError> {
        let index_name = [hauler::HAULER_INDEX, hauler::INDEX]
            .into_iter()
            .find(|name| self.modified(name).is_some());
        let index_time = index_name.and_then(|name| self.modified(name));
        let catalog_time = self.modified(paths::haul::CATALOG);
        // `hauler store add` into an extracted haul changes the index alone
        if catalog_time.is_some()
            && catalog_time >= index_time
            && let Some(bytes) = self.read(paths::haul::CATALOG, limits::CATALOG_BYTES)?
        {
            return self.parse_catalog(&bytes);
        }
        let index = match index_name {
            Some(name) => self.read(name, image_layout::limits::INDEX_JSON_BYTES)?,
            None => None,
        };
        let index = index.ok_or_else(|| LayoutError::NoLayout {
            path: self.path.clone(),
        })?;
        Catalog::build(&index, self).map_err(|error| LayoutError::Contents {
            path: self.path.clone(),
            error: Box::new(error),
        })
    }

    fn parse_catalog(&self, bytes: &[u8]) -> Result<Catalog, LayoutError> {
        let path = self.path.join(paths::haul::CATALOG);
        let catalog: Catalog = match serde_json::from_slice(bytes) {
            Ok(catalog) => catalog,
            Err(error) => return Err(LayoutError::CatalogJson { path, error }),
        };
        if catalog.format > catalog::FORMAT {
            let format = catalog.format;
            return Err(LayoutError::CatalogFormat { path, format });
        }
        Ok(catalog)
    }

    /// Reads one of the layout's own files; `None` if there is no such.
    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, LayoutError> {
        let path = || self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&self.root, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => {
                let error = error.into();
                return Err(LayoutError::Read {
                    path: path(),
                    error,
                });
            }
        };
        let mut bytes = Vec::new();
        match file.take(limit + 1).read_to_end(&mut bytes) {
            Ok(read) if read as u64 > limit => Err(LayoutError::TooLarge {
                path: path(),
                limit,
            }),
            Ok(_) => Ok(Some(bytes)),
            Err(error) => Err(LayoutError::Read {
                path: path(),
                error,
            }),
        }
    }

    fn blob_dir(&self, digest: &Digest) -> Result<&OwnedFd, Errno> {
        match digest {
            Digest::Sha256(_) => self.sha256.as_ref(),
            Digest::Sha512(_) => self.sha512.as_ref(),
        }
        .ok_or(Errno::NOENT)
    }

    /// Opens a blob that must have `size` bytes.
    pub(super) fn open_blob(&self, digest: &Digest, size: u64) -> std::io::Result<BlobFile> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = rustix::fs::openat(self.blob_dir(digest)?, digest.hex(), flags, Mode::empty())?;
        let file = File::from(file);
        let found = file.metadata()?;
        if !found.is_file() || found.len() != size {
            let why = format!("blob {digest} is no file of {size} bytes any more");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
        }
        let file = Arc::new(file);
        Ok(BlobFile { file, start: 0 })
    }

    /// Reads a whole blob of `size` bytes into memory.
    pub(super) fn read_blob(&self, digest: &Digest, size: u64) -> std::io::Result<Vec<u8>> {
        let BlobFile { file, .. } = self.open_blob(digest, size)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.take(size).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }
}

impl BlobSource for Layout {
    fn size(&self, digest: &Digest) -> Option<u64> {
        let dir = self.blob_dir(digest).ok()?;
        let stat = rustix::fs::statat(dir, digest.hex(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        regular.then(|| u64::try_from(stat.st_size).ok()).flatten()
    }

    fn read(&self, digest: &Digest) -> std::io::Result<Vec<u8>> {
        let size = self.size(digest).unwrap_or_default();
        self.read_blob(digest, size)
    }
}
