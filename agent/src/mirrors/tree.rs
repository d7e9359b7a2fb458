//! Files laid down as a tree, for rsync or tar.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Mirror;

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("writing {path}: {source}", path = path.display())]
pub(super) struct TreeError {
    path: PathBuf,
    source: io::Error,
}

/// Writes every file below `directory`, which stands for the other machine's `/`; what is there
/// already is replaced. Returns the paths.
pub(super) fn write(mirror: &Mirror, directory: &Path) -> Result<Vec<PathBuf>, TreeError> {
    let mut written = Vec::new();
    for file in &mirror.files {
        let path = directory.join(file.relative());
        put(&path, file.contents.as_bytes(), file.mode()).map_err(|source| TreeError {
            path: path.clone(),
            source,
        })?;
        written.push(path);
    }
    Ok(written)
}

fn put(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file: File = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    // also where the file was there before; and the umask does not count: rsync copies the mode
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(contents)
}
