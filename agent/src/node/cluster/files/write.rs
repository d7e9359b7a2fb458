//! Writing files that others read, some of them secret.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::FilesError;

/// Everything laid down for k3s is root's alone.
const MODE: u32 = 0o600;

/// An error about `path`; `action` in the gerund.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    move |source| FilesError::Io {
        action,
        path,
        source,
    }
}

/// An absolute path of the node, below the root directory.
pub(super) fn below(root: &Path, absolute: &Path) -> PathBuf {
    root.join(absolute.strip_prefix("/").unwrap_or(absolute))
}

/// Makes a directory and those above it that are missing, all with this mode.
pub(super) fn directory(path: &Path, mode: u32) -> Result<(), FilesError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(failed("making", path))
}

/// Writes a file, 0600 from its first byte on, so that nobody ever reads half of it; one that is
/// the same already is left with its times. Its directory must be there. Says whether it wrote.
pub(super) fn put(path: &Path, contents: &[u8]) -> Result<bool, FilesError> {
    if fs::read(path).is_ok_and(|old| old == contents) {
        fs::set_permissions(path, Permissions::from_mode(MODE))
            .map_err(failed("protecting", path))?;
        return Ok(false);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    remove(&new)?;
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&new)?;
        file.write_all(contents)?;
        // a disk that loses power keeps the old file or has the new one, never an empty one
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(failed("writing", path))?;
    Ok(true)
}

/// Removes a file that may be missing.
pub(super) fn remove(path: &Path) -> Result<(), FilesError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("removing", path)(error)),
        _ => Ok(()),
    }
}

/// Makes `path` a link to `target`, in one step for whoever looks; one that is right already is
/// left. Its directory must be there.
pub(super) fn link(target: &Path, path: &Path) -> Result<(), FilesError> {
    if fs::read_link(path).is_ok_and(|old| old == target) {
        return Ok(());
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    remove(&new)?;
    symlink(target, &new)
        .and_then(|()| fs::rename(&new, path))
        .map_err(failed("linking", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_nobody_elses_and_the_same_one_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "secret").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(!put(&path, b"secret").unwrap());
        assert!(put(&path, b"other").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"other");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_replaces_what_stood_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sh");
        link(Path::new("/a"), &path).unwrap();
        link(Path::new("/b"), &path).unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("/b"));
    }
}
