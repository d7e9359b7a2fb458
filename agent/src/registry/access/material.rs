//! What the node process hands to the registry process: one file, replaced as a whole, so that
//! certificate and key, users and what is asked of clients always fit one another.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, chown};
use std::path::Path;

use image_layout::paths::node::ACCESS_FILE;
use serde::{Deserialize, Serialize};

use super::super::sandbox::USER;

/// The file's contents. The default is a registry for everybody over HTTP.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Material {
    /// Whether other machines are answered over HTTPS alone.
    pub(crate) https_only: bool,
    /// The certificate for it; none where it could not be issued.
    pub(crate) tls: Option<TlsMaterial>,
    /// Who may read; none: everybody.
    pub(crate) users: Option<UsersMaterial>,
    /// Why other machines are not answered at all, a sentence.
    pub(crate) closed: Option<String>,
}

/// A certificate, all PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsMaterial {
    /// The node's own certificate.
    pub(crate) certificate: String,
    /// Its key.
    pub(crate) key: String,
    /// The certificate of the authority that issued it.
    pub(crate) authority: String,
}

/// Names and what their passwords are checked against.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsersMaterial {
    /// Lines of an htpasswd file.
    pub(crate) lines: Vec<String>,
    /// SHA-256 of the password of [`image_layout::secrets::REGISTRY_USER`], hexadecimal. That
    /// password is 256 bits that nobody guesses, so that it needs no slow hash.
    pub(crate) node: Option<String>,
}

impl std::fmt::Debug for Material {
    /// Nothing of it belongs into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Material")
    }
}

/// Makes the directory for the file, if it is missing: root's, with the registry's user as group,
/// and for nobody else. An owner that can't be given, in tests, stays.
pub(crate) fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(directory)?;
    give(directory)
}

/// Lets the registry read what is root's.
fn give(path: &Path) -> io::Result<()> {
    match rustix::process::geteuid().is_root() {
        true => chown(path, Some(0), Some(USER)),
        false => Ok(()),
    }
}

impl Material {
    /// Puts the file into `directory`, in one step for whoever reads it. One that is the same
    /// already is left.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        let contents = serde_json::to_vec(self)?;
        let path = directory.join(ACCESS_FILE);
        if fs::read(&path).is_ok_and(|old| old == contents) {
            return Ok(());
        }
        make_directory(directory)?;
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(&new)?;
        give(&new)?;
        file.write_all(&contents)?;
        fs::rename(&new, &path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    #[test]
    fn the_file_is_for_the_registry_alone_and_the_same_one_is_not_written_again() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("access");
        let material = Material {
            closed: Some("why".to_owned()),
            ..Material::default()
        };
        material.write(&directory).unwrap();
        let path = directory.join(ACCESS_FILE);
        let of = |path: &Path| fs::metadata(path).unwrap();
        assert_eq!(of(&directory).permissions().mode() & 0o7777, 0o750);
        assert_eq!(of(&path).permissions().mode() & 0o7777, 0o640);
        if rustix::process::geteuid().is_root() {
            assert_eq!((of(&path).uid(), of(&path).gid()), (0, USER));
            assert_eq!((of(&directory).uid(), of(&directory).gid()), (0, USER));
        }
        let before = of(&path).ino();
        material.write(&directory).unwrap();
        assert_eq!(of(&path).ino(), before);
        Material::default().write(&directory).unwrap();
        assert_ne!(of(&path).ino(), before);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }
}
