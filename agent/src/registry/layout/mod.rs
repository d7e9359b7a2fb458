//! Where the bytes of a haul lie: in a directory, or in a tar archive that is never unpacked.
//!
//! Blobs are opened by digest, so what a request says has no say in what is opened.

mod archive;
mod directory;
mod error;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image_layout::catalog::{self, BlobSource, Catalog};
use image_layout::{Digest, hauler, paths};

use self::archive::Archive;
use self::directory::Directory;
pub(super) use self::error::LayoutError;
use super::limits;

/// A blob, open for reading.
#[derive(Clone, Debug)]
pub(super) struct BlobFile {
    /// The file that has the blob's bytes; several blobs may share one.
    pub(super) file: Arc<File>,
    /// Offset of the blob's first byte in the file.
    pub(super) start: u64,
}

/// A haul's OCI layout, opened.
#[derive(Debug)]
pub(super) struct Layout {
    path: PathBuf,
    place: Place,
}

/// What has the layout's files.
#[derive(Debug)]
enum Place {
    Directory(Directory),
    Archive(Archive),
}

/// A file's last change: seconds since 1970 and nanoseconds.
type Modified = (i64, u64);

impl Place {
    fn modified(&self, name: &str) -> Option<Modified> {
        match self {
            Place::Directory(directory) => directory.modified(name),
            Place::Archive(archive) => archive.modified(name),
        }
    }

    fn read(&self, name: &str, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
        match self {
            Place::Directory(directory) => directory.read(name, limit),
            Place::Archive(archive) => archive.read(name, limit),
        }
    }
}

impl Layout {
    /// Opens a directory with a layout, one that has it in `haul/`, as the partition HAUL, or an
    /// uncompressed tar archive of a layout.
    pub(super) fn open(path: &Path) -> Result<Layout, LayoutError> {
        if path.is_dir() {
            return Layout::open_directory(path);
        }
        let file = archive::file(path).map_err(|error| LayoutError::Open {
            path: path.to_owned(),
            error,
        })?;
        Layout::in_archive(path, file)
    }

    /// A layout in an archive that is open; `path` is for messages.
    pub(super) fn in_archive(path: &Path, file: File) -> Result<Layout, LayoutError> {
        let archive = Archive::open(file).map_err(|error| LayoutError::Archive {
            path: path.to_owned(),
            error: Box::new(error),
        })?;
        let layout = Layout::at(path.to_owned(), Place::Archive(archive));
        match layout.is_layout() {
            true => Ok(layout),
            false => Err(LayoutError::NoLayout {
                path: path.to_owned(),
            }),
        }
    }

    fn open_directory(path: &Path) -> Result<Layout, LayoutError> {
        let directory = |path: &Path| Directory::open(path).map(Place::Directory);
        let outer = Layout::at(path.to_owned(), directory(path)?);
        if outer.is_layout() {
            return Ok(outer);
        }
        let inner = path.join(paths::haul::LAYOUT);
        match directory(&inner).map(|place| Layout::at(inner, place)) {
            Ok(inner) if inner.is_layout() => Ok(inner),
            _ => Err(LayoutError::NoLayout {
                path: path.to_owned(),
            }),
        }
    }

    fn at(path: PathBuf, place: Place) -> Layout {
        Layout { path, place }
    }

    fn is_layout(&self) -> bool {
        [paths::haul::CATALOG, hauler::HAULER_INDEX, hauler::INDEX]
            .iter()
            .any(|name| self.place.modified(name).is_some())
    }

    /// What is in the layout: by `catalog.json` where there is one that is not older than the
    /// index, else derived from the index.
    pub(super) fn catalog(&self) -> Result<Catalog, LayoutError> {
        let index_name = [hauler::HAULER_INDEX, hauler::INDEX]
            .into_iter()
            .find(|name| self.place.modified(name).is_some());
        let index_time = index_name.and_then(|name| self.place.modified(name));
        let catalog_time = self.place.modified(paths::haul::CATALOG);
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
        let (artifacts, blobs) = (catalog.artifacts.len(), catalog.blobs.len());
        if artifacts > image_layout::limits::ARTIFACTS || blobs > image_layout::limits::BLOBS {
            return Err(LayoutError::CatalogSize {
                path,
                artifacts,
                blobs,
            });
        }
        if catalog.format > catalog::FORMAT {
            let format = catalog.format;
            return Err(LayoutError::CatalogFormat { path, format });
        }
        Ok(catalog)
    }

    /// Reads one of the layout's own files; `None` if there is no such.
    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, LayoutError> {
        let path = || self.path.join(name);
        match self.place.read(name, limit) {
            Ok(Some(bytes)) if bytes.len() as u64 > limit => Err(LayoutError::TooLarge {
                path: path(),
                limit,
            }),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(LayoutError::Read {
                path: path(),
                error,
            }),
        }
    }

    /// Opens a blob that must have `size` bytes. May wait for the medium.
    pub(super) fn open_blob(&self, digest: &Digest, size: u64) -> std::io::Result<BlobFile> {
        match &self.place {
            Place::Directory(directory) => directory.open_blob(digest, size),
            Place::Archive(archive) => archive.open_blob(digest, size),
        }
    }

    /// Reads a whole blob of `size` bytes into memory.
    pub(super) fn read_blob(&self, digest: &Digest, size: u64) -> std::io::Result<Vec<u8>> {
        let blob = self.open_blob(digest, size)?;
        // the file has as many bytes, or it would not have been opened
        let mut bytes = vec![0; usize::try_from(size).map_err(std::io::Error::other)?];
        blob.file.read_exact_at(&mut bytes, blob.start)?;
        Ok(bytes)
    }
}

impl BlobSource for Layout {
    fn size(&self, digest: &Digest) -> Option<u64> {
        match &self.place {
            Place::Directory(directory) => directory.size(digest),
            Place::Archive(archive) => archive.size(digest),
        }
    }

    fn read(&self, digest: &Digest) -> std::io::Result<Vec<u8>> {
        let size = self.size(digest).unwrap_or_default();
        self.read_blob(digest, size)
    }
}
