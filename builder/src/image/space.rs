//! Whether a disk has room.

use std::fs;
use std::path::Path;

use super::error::ImageError;

/// Makes sure that the disk of `directory` has `needs` bytes free.
pub(super) fn has_room(directory: &Path, needs: u64) -> Result<(), ImageError> {
    match free_bytes(directory) {
        Some(free) if free < needs => Err(ImageError::NoSpace {
            path: directory.to_owned(),
            free,
            needs: Some(needs),
        }),
        // a file system that does not say is found full when it is
        _ => Ok(()),
    }
}

/// Bytes free for this user on the disk of `directory`; none if it does not say.
pub(super) fn free_bytes(directory: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// Bytes of a file. Directories count nothing: this is a first estimate.
pub(super) fn bytes_of(path: &Path) -> u64 {
    fs::metadata(path)
        .ok()
        .filter(fs::Metadata::is_file)
        .map_or(0, |metadata| metadata.len())
}
