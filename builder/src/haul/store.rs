//! The blobs of a layout: hashed while they are written, renamed when they are right.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use image_layout::catalog::{BlobSource, Catalog};
use image_layout::digest::{Digest, Hasher};
use image_layout::image::BlobTotals;
use image_layout::limits;

use super::error::{HaulError, Place};
use crate::staging;

/// Bytes that are read, hashed and written at once.
const BUFFER: usize = 1 << 20;

/// Which blobs are kept on disk. All are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// All.
    All,
    /// Those that may be manifests or configurations: to know what is in a haul takes no more.
    Manifests,
}

/// Where files lie whose digests were not known before they were read, until somebody wants them.
pub(super) const UNNAMED: &str = "unnamed";

/// A file whose digest was not known before it was read.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Whether it is packed by gzip.
    pub(super) gzip: bool,
    /// The digest of what is packed in it; its own if it is not packed.
    pub(super) unpacked: Digest,
}

/// A writer that hashes.
struct Hashing(Hasher);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A directory `blobs/` that is being filled.
pub(super) struct Store {
    layout: PathBuf,
    keep: Keep,
    blobs: BTreeMap<Digest, u64>,
    buffer: Vec<u8>,
}

impl Store {
    /// Fills the directory `layout`, which exists.
    pub(super) fn new(layout: &Path, keep: Keep) -> Store {
        Store {
            layout: layout.to_owned(),
            keep,
            blobs: BTreeMap::new(),
            buffer: vec![0; BUFFER],
        }
    }

    /// Takes the next `size` bytes of `source` as the blob `digest`. A blob that is there already
    /// is hashed all the same. `tick` is called after each part.
    pub(super) fn take(
        &mut self,
        digest: &Digest,
        size: u64,
        source: &mut dyn Read,
        place: &Place,
        tick: &mut dyn FnMut(),
    ) -> Result<(), HaulError> {
        let mut file = None;
        let path = self.layout.join(digest.blob_path());
        let partial = path.with_extension("partial");
        let writing = |source| HaulError::Write {
            path: path.clone(),
            source,
        };
        let mut hasher = Hasher::like(digest);
        let mut left = size;
        let mut wanted = !self.blobs.contains_key(digest) && self.keep == Keep::All;
        let candidate = self.keep == Keep::Manifests && size <= limits::MANIFEST_BYTES;
        loop {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER);
            let part = self.buffer.get_mut(..most).unwrap_or_default();
            source
                .read_exact(part)
                .map_err(|error| place.read_error(error))?;
            if left == size && candidate && !self.blobs.contains_key(digest) {
                wanted = part.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
            }
            if wanted && file.is_none() {
                if let Some(directory) = path.parent() {
                    staging::create_dir_all(directory).map_err(writing)?;
                }
                file = Some(File::create(&partial).map_err(writing)?);
            }
            hasher.update(part);
            if let Some(file) = &mut file {
                file.write_all(part).map_err(writing)?;
            }
            left -= most as u64;
            tick();
            if left == 0 {
                break;
            }
        }
        let actual = hasher.finish();
        if actual != *digest {
            return Err(HaulError::WrongDigest {
                place: place.clone(),
                actual,
            });
        }
        if file.take().is_some() {
            fs::rename(&partial, &path).map_err(writing)?;
        }
        if let Entry::Vacant(vacant) = self.blobs.entry(*digest) {
            vacant.insert(size);
            if self.blobs.len() > limits::BLOBS {
                return Err(HaulError::TooMany {
                    path: place.haul.clone(),
                });
            }
        }
        Ok(())
    }

    /// Takes the next `size` bytes of `source`, which have no digest yet. They are no blob before
    /// they are adopted.
    pub(super) fn take_unnamed(
        &mut self,
        size: u64,
        source: &mut dyn Read,
        place: &Place,
        tick: &mut dyn FnMut(),
    ) -> Result<Stored, HaulError> {
        let directory = self.layout.join(UNNAMED);
        let partial = directory.join("partial");
        let writing = |source| HaulError::Write {
            path: partial.clone(),
            source,
        };
        let mut file = None;
        let mut hasher = Hasher::sha256();
        let mut unpacked = None;
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER);
            let part = self.buffer.get_mut(..most).unwrap_or_default();
            source
                .read_exact(part)
                .map_err(|error| place.read_error(error))?;
            if left == size {
                let json = part.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
                if self.keep == Keep::All || (json && size <= limits::MANIFEST_BYTES) {
                    staging::create_dir_all(&directory).map_err(writing)?;
                    file = Some(File::create(&partial).map_err(writing)?);
                }
                if part.starts_with(&[0x1f, 0x8b]) {
                    let hashing = Hashing(Hasher::sha256());
                    unpacked = Some(flate2::write::MultiGzDecoder::new(hashing));
                }
            }
            hasher.update(part);
            if let Some(unpacked) = &mut unpacked {
                unpacked
                    .write_all(part)
                    .map_err(|error| place.read_error(error))?;
            }
            if let Some(file) = &mut file {
                file.write_all(part).map_err(writing)?;
            }
            left -= most as u64;
            tick();
        }
        let digest = hasher.finish();
        if file.take().is_some() {
            fs::rename(&partial, directory.join(digest.hex())).map_err(writing)?;
        }
        Ok(Stored {
            digest,
            size,
            gzip: unpacked.is_some(),
            unpacked: match unpacked {
                Some(unpacked) => {
                    let hashing = unpacked.finish().map_err(|error| place.read_error(error))?;
                    hashing.0.finish()
                }
                None => digest,
            },
        })
    }

    /// Makes a blob of a file that was taken without a digest.
    pub(super) fn adopt(&mut self, stored: &Stored) -> Result<(), HaulError> {
        if self.blobs.contains_key(&stored.digest) {
            return Ok(());
        }
        let from = self.layout.join(UNNAMED).join(stored.digest.hex());
        let path = self.layout.join(stored.digest.blob_path());
        let writing = |source| HaulError::Write {
            path: path.clone(),
            source,
        };
        if let Some(directory) = path.parent() {
            staging::create_dir_all(directory).map_err(writing)?;
        }
        match fs::rename(&from, &path) {
            // only manifests are kept
            Err(error) if self.keep == Keep::All || error.kind() != io::ErrorKind::NotFound => {
                return Err(writing(error));
            }
            _ => {}
        }
        self.blobs.insert(stored.digest, stored.size);
        Ok(())
    }

    /// Removes the files that nobody adopted.
    pub(super) fn drop_unnamed(&mut self) -> Result<(), HaulError> {
        let path = self.layout.join(UNNAMED);
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(HaulError::Write { path, source })
            }
            _ => Ok(()),
        }
    }

    /// Drops the blobs that nothing in `catalog` needs; returns how many and their bytes.
    pub(super) fn drop_unneeded(&mut self, catalog: &Catalog) -> Result<BlobTotals, HaulError> {
        let needed: std::collections::BTreeSet<_> =
            catalog.blobs.iter().map(|blob| blob.digest).collect();
        let mut dropped = BlobTotals::default();
        for (digest, size) in &self.blobs {
            if needed.contains(digest) {
                continue;
            }
            dropped.count += 1;
            dropped.bytes += size;
            if self.keep == Keep::All {
                let path = self.layout.join(digest.blob_path());
                fs::remove_file(&path).map_err(|source| HaulError::Write { path, source })?;
            }
        }
        self.blobs.retain(|digest, _| needed.contains(digest));
        // an algorithm that is not needed any more leaves no empty directory
        for algorithm in ["blobs/sha256", "blobs/sha512"] {
            let _ = fs::remove_dir(self.layout.join(algorithm));
        }
        let blobs = self.layout.join("blobs");
        staging::create_dir_all(&blobs).map_err(|source| HaulError::Write {
            path: blobs,
            source,
        })?;
        Ok(dropped)
    }
}

impl BlobSource for Store {
    fn size(&self, digest: &Digest) -> Option<u64> {
        self.blobs.get(digest).copied()
    }

    fn read(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        let file = match File::open(self.layout.join(digest.blob_path())) {
            Ok(file) => file,
            Err(error)
                if self.keep == Keep::Manifests && error.kind() == io::ErrorKind::NotFound =>
            {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it is no JSON object",
                ));
            }
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(limits::MANIFEST_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
