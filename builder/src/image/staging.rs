//! The directory in which an image is put together.
//!
//! It lies on the disk of the image, so that a rename puts the finished image in place, and is
//! removed whether that succeeds, fails or is interrupted.

use std::path::{Path, PathBuf};

use super::error::ImageError;
use crate::staging;

/// A directory of our own, gone when this is dropped or the program is interrupted.
#[derive(Debug)]
pub(super) struct Staging(staging::Staging);

impl Staging {
    /// Makes `NAME.partial-XXXXXX` in `parent`.
    pub(super) fn new(parent: &Path, name: &str) -> Result<Staging, ImageError> {
        staging::Staging::new(parent, &format!("{name}.partial-"), "", 0o700)
            .map(Staging)
            .map_err(ImageError::io("making a directory in", parent))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A directory within, made.
    pub(super) fn directory(&self, name: &str) -> Result<PathBuf, ImageError> {
        let path = self.path().join(name);
        staging::create_dir_all(&path).map_err(ImageError::io("making", &path))?;
        Ok(path)
    }
}
