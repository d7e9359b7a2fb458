//! A haul as an OCI layout in a directory of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::HaulError;
use super::load::{Loaded, load};
use crate::progress::Progress;
use crate::staging::Staging;

/// Reads hauls into a new directory, as [`load`] does. `directory` appears complete or not at all:
/// the layout is made beside it and renamed, and removed if the program is interrupted. It may
/// exist if it is empty.
pub fn extract(
    inputs: &[PathBuf],
    directory: &Path,
    progress: &dyn Progress,
) -> Result<Loaded, HaulError> {
    match fs::read_dir(directory).map(|mut entries| entries.next().is_some()) {
        Ok(false) => {}
        Err(_) if fs::symlink_metadata(directory).is_err() => {}
        Ok(true) | Err(_) => {
            return Err(HaulError::Exists {
                path: directory.to_owned(),
            });
        }
    }
    let failed = |source| HaulError::Write {
        path: directory.to_owned(),
        source,
    };
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let staging = Staging::new(parent, ".haul-", ".partial", 0o755).map_err(failed)?;
    let loaded = load(inputs, staging.path(), progress)?;
    // a directory with its final name has its final contents, even after a loss of power
    let opened = File::open(staging.path()).map_err(failed)?;
    rustix::fs::syncfs(&opened).map_err(|error| failed(error.into()))?;
    staging.rename(directory).map_err(failed)?;
    Ok(loaded)
}
