//! The directory of credentials: found, checked, written.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use image_layout::paths::secrets;

use super::error::CredentialsError;
use super::pki::{self, PairDefect};
use super::{Credentials, Kept, Server, kubeconfig, token};
use crate::staging::Staging;

/// Bytes of a file that are read; the largest that is written has some 3 KiB.
const FILE_BYTES: u64 = 64 << 10;

/// Whether credentials were there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made for this image.
    Made,
    /// Found, checked and used again.
    Reused,
}

/// Credentials and the directory that they are in, or will be.
#[derive(Debug)]
pub struct Placed {
    /// The credentials.
    pub credentials: Credentials,
    /// What a person should know, one sentence each.
    pub warnings: Vec<String>,
    directory: PathBuf,
    origin: Origin,
}

/// The directory of an image's own credentials: `haulboot.img.credentials`.
pub fn beside(image: &Path) -> PathBuf {
    appended(image, ".credentials")
}

/// The kubeconfig beside an image: `haulboot.img.kubeconfig`.
pub fn kubeconfig_beside(image: &Path) -> PathBuf {
    appended(image, ".kubeconfig")
}

fn appended(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The credentials in `directory`, or new ones if there is no such directory or nothing in it.
/// Nothing is written before [`Placed::save`].
///
/// # Errors
/// If it can't be read, is something else, or if what is in it does not agree with itself.
pub fn open(directory: &Path) -> Result<Placed, CredentialsError> {
    let reading = || CredentialsError::io("reading", directory);
    let (directory, origin) = match fs::canonicalize(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (to_be_made(directory)?, Origin::Made)
        }
        Err(error) => return Err(reading()(error)),
        Ok(found) => {
            if !found.is_dir() {
                return Err(CredentialsError::NoDirectory(directory.to_owned()));
            }
            let mut names = Vec::new();
            for entry in fs::read_dir(&found).map_err(reading())? {
                names.push(entry.map_err(reading())?.file_name());
            }
            let ours = [
                secrets::SERVER_TOKEN,
                secrets::AGENT_TOKEN,
                secrets::CLUSTER_SECRET,
                secrets::TLS,
                secrets::KUBECONFIG,
            ];
            match names.is_empty() {
                true => (found, Origin::Made),
                false if names.iter().any(|name| ours.iter().any(|our| name == our)) => {
                    (found, Origin::Reused)
                }
                false => return Err(CredentialsError::Foreign(directory.to_owned())),
            }
        }
    };
    let mut warnings = Vec::new();
    let credentials = match origin {
        Origin::Made => Credentials::make()?,
        Origin::Reused => read(&directory, &mut warnings)?,
    };
    Ok(Placed {
        credentials,
        warnings,
        directory,
        origin,
    })
}

/// The path of a directory that is not there yet, if it can be made.
fn to_be_made(directory: &Path) -> Result<PathBuf, CredentialsError> {
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    match (fs::canonicalize(parent), directory.file_name()) {
        (Ok(parent), Some(name)) if parent.is_dir() => Ok(parent.join(name)),
        _ => Err(CredentialsError::NoParent(directory.to_owned())),
    }
}

/// Reads a directory of credentials and checks that everything in it belongs together.
fn read(directory: &Path, warnings: &mut Vec<String>) -> Result<Credentials, CredentialsError> {
    let mut open_to_others = Vec::new();
    let mut file = |name: &str| read_file(&directory.join(name), &mut open_to_others);
    let mut tls = BTreeMap::new();
    for name in secrets::TLS_FILES {
        tls.insert(name, file(&format!("{}/{name}", secrets::TLS))?);
    }
    let mut line = |name: &str| -> Result<String, CredentialsError> {
        let text = String::from_utf8(file(name)?).unwrap_or_default();
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    };
    let server_token = line(secrets::SERVER_TOKEN)?;
    let agent_token = line(secrets::AGENT_TOKEN)?;
    let cluster_secret = line(secrets::CLUSTER_SECRET)?;
    let path = directory.join(secrets::KUBECONFIG);
    let found = match file(secrets::KUBECONFIG) {
        Err(CredentialsError::Missing { .. }) => None,
        found => Some(found?),
    };

    let wrong = |name: &str, why: String| CredentialsError::Wrong {
        path: directory.join(name),
        why,
    };
    let contents = |name: &str| tls.get(name).map(Vec::as_slice).unwrap_or_default();
    for (certificate, key, _) in pki::AUTHORITIES {
        let (name, why) = match pki::pair_defect(contents(certificate), contents(key)) {
            None => continue,
            Some(PairDefect::Certificate) => (certificate, "it is not a single certificate"),
            Some(PairDefect::NoAuthority) => (certificate, "it is no certificate of an authority"),
            Some(PairDefect::Key) => (key, "it is no private key in PKCS #8 form"),
            Some(PairDefect::Mismatch) => (key, "it is not the key of the certificate beside it"),
        };
        return Err(wrong(&format!("{}/{name}", secrets::TLS), why.to_owned()));
    }
    if !pki::is_service_key(contents(pki::SERVICE_KEY)) {
        let why = "it is no private key of the form EC or RSA PRIVATE KEY".to_owned();
        return Err(wrong(
            &format!("{}/{}", secrets::TLS, pki::SERVICE_KEY),
            why,
        ));
    }
    let server_ca = contents(secrets::SERVER_CA);
    for (name, line, user) in [
        (secrets::SERVER_TOKEN, &server_token, token::SERVER),
        (secrets::AGENT_TOKEN, &agent_token, token::AGENT),
    ] {
        if let Some(why) = token::defect(line, server_ca, user) {
            return Err(wrong(name, why));
        }
    }
    if !token::is_secret(&cluster_secret) {
        let why = "it is not one line of 64 hexadecimal digits".to_owned();
        return Err(wrong(secrets::CLUSTER_SECRET, why));
    }
    let client_ca = contents("client-ca.crt");
    let now = pki::now();
    let admin = match found {
        Some(found) => {
            let admin = kubeconfig::admin(&found);
            let admin = admin.ok_or(CredentialsError::Admin {
                path: path.clone(),
                why: "it holds no client certificate and key",
            })?;
            match pki::admin_defect(&admin, client_ca, now) {
                None => admin,
                Some(why) => return Err(CredentialsError::Admin { path, why }),
            }
        }
        None => {
            warnings.push(format!(
                "{} was not there: the administrator gets a new certificate",
                path.display()
            ));
            pki::admin(client_ca, contents("client-ca.key"), now).map_err(CredentialsError::Make)?
        }
    };
    for directory in ["", secrets::TLS, "tls/etcd"].map(|name| directory.join(name)) {
        if fs::metadata(&directory).is_ok_and(|found| for_others(&found)) {
            open_to_others.push(directory);
        }
    }
    if let Some(path) = open_to_others.first() {
        warnings.push(format!(
            "other users of this machine may read {}: chmod -R go= {}",
            path.display(),
            directory.display()
        ));
    }
    Ok(Credentials {
        tls,
        server_token,
        agent_token,
        cluster_secret,
        admin,
    })
}

fn for_others(metadata: &fs::Metadata) -> bool {
    metadata.permissions().mode() & 0o077 != 0
}

fn read_file(path: &Path, open_to_others: &mut Vec<PathBuf>) -> Result<Vec<u8>, CredentialsError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => CredentialsError::Missing {
            path: path.to_owned(),
        },
        _ => CredentialsError::io("reading", path)(error),
    };
    // before it is opened: opening a FIFO waits for somebody who writes into it
    let metadata = fs::metadata(path).map_err(failed)?;
    let wrong = |why: &str| CredentialsError::Wrong {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    if !metadata.is_file() {
        return Err(wrong("it is no file"));
    }
    let mut contents = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut contents))
        .map_err(failed)?;
    if contents.len() as u64 > FILE_BYTES {
        return Err(wrong("it is much too large"));
    }
    if for_others(&metadata) {
        open_to_others.push(path.to_owned());
    }
    Ok(contents)
}

impl Placed {
    /// Puts new credentials in place, and the kubeconfig for `server` into the directory and
    /// beside `image`, if that is a file of an image with servers. Gives what to tell the person.
    ///
    /// Everything is written aside and renamed: half of it is never there.
    ///
    /// # Errors
    /// If it can't be written, or if somebody else made the directory meanwhile.
    pub fn save(
        &self,
        cluster: &str,
        server: Server,
        image: Option<&Path>,
    ) -> Result<Kept, CredentialsError> {
        let text = self.credentials.kubeconfig(cluster, &server);
        let mut shown = self.directory.join(secrets::KUBECONFIG);
        match self.origin {
            Origin::Made => self.make_directory(text.as_bytes())?,
            Origin::Reused => replace(&shown, text.as_bytes())?,
        }
        if let Some(image) = image {
            shown = kubeconfig_beside(image);
            replace(&shown, text.as_bytes())?;
        }
        Ok(Kept {
            directory: self.directory.clone(),
            origin: self.origin,
            kubeconfig: shown,
            server,
        })
    }

    fn make_directory(&self, kubeconfig: &[u8]) -> Result<(), CredentialsError> {
        let (parent, name) = parts(&self.directory)?;
        let staging = Staging::new(parent, &format!("{name}.partial-"), "", 0o700)
            .map_err(CredentialsError::io("making a directory in", parent))?;
        let mut files = self.credentials.for_stick(false);
        files.insert(secrets::KUBECONFIG.to_owned(), kubeconfig.to_owned());
        for (name, contents) in &files {
            let path = staging.path().join(name);
            if let Some(parent) = path.parent() {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(parent)
                    .map_err(CredentialsError::io("making", parent))?;
            }
            write_private(&path, contents)?;
        }
        staging
            .rename(&self.directory)
            .map_err(|error| match error.kind() {
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
                    CredentialsError::Meanwhile(self.directory.clone())
                }
                _ => CredentialsError::io("making", &self.directory)(error),
            })?;
        sync(parent)
    }
}

/// A file of its owner's, replaced in one step unless it is the same already.
fn replace(path: &Path, contents: &[u8]) -> Result<(), CredentialsError> {
    if read_file(path, &mut Vec::new()).is_ok_and(|old| old == contents)
        && fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && !for_others(&found))
    {
        return Ok(());
    }
    let (parent, name) = parts(path)?;
    let staging = Staging::new(parent, &format!("{name}.partial-"), "", 0o700)
        .map_err(CredentialsError::io("making a directory in", parent))?;
    let aside = staging.path().join("file");
    write_private(&aside, contents)?;
    fs::rename(&aside, path).map_err(CredentialsError::io("writing", path))?;
    sync(parent)
}

fn write_private(path: &Path, contents: &[u8]) -> Result<(), CredentialsError> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(contents)?;
            file.sync_all()
        })
        .map_err(CredentialsError::io("writing", path))
}

/// A name is on disk only after this.
fn sync(directory: &Path) -> Result<(), CredentialsError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(CredentialsError::io("writing", directory))
}

fn parts(path: &Path) -> Result<(&Path, String), CredentialsError> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    match path.file_name() {
        Some(name) => Ok((parent, name.to_string_lossy().into_owned())),
        None => Err(CredentialsError::NoParent(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server {
            url: "https://10.0.0.2:6443".into(),
            name: "cp-1".into(),
            guessed: false,
        }
    }

    /// A directory with credentials in it, as `save` leaves it.
    fn saved() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a.img.credentials");
        let placed = open(&directory).unwrap();
        let kept = placed.save("edge", server(), None).unwrap();
        assert_eq!(kept.origin, Origin::Made);
        assert_eq!(kept.kubeconfig, kept.directory.join("kubeconfig"));
        (parent, directory)
    }

    fn refused(directory: &Path) -> String {
        let error = open(directory).unwrap_err();
        assert!(!error.help().is_empty());
        error.to_string()
    }

    #[test]
    fn what_is_saved_is_for_its_owner_alone_and_is_found_again() {
        let (parent, directory) = saved();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("tls/etcd")), 0o700);
        for name in secrets::TLS_FILES {
            assert_eq!(mode(&directory.join("tls").join(name)), 0o600, "{name}");
        }
        assert_eq!(mode(&directory.join("kubeconfig")), 0o600);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);

        let again = open(&directory).unwrap();
        assert_eq!(again.origin, Origin::Reused);
        assert!(again.warnings.is_empty(), "{:?}", again.warnings);
        for (name, contents) in again.credentials.for_stick(false) {
            assert_eq!(fs::read(directory.join(&name)).unwrap(), contents, "{name}");
        }
    }

    #[test]
    fn the_kubeconfig_follows_cluster_yaml_and_keeps_its_certificate() {
        let (parent, directory) = saved();
        let before = fs::read(directory.join("kubeconfig")).unwrap();
        let image = parent.path().join("a.img");
        let mut moved = server();
        moved.url = "https://10.0.0.9:6443".into();
        let kept = open(&directory).unwrap().save("edge", moved, Some(&image));
        let kept = kept.unwrap();
        assert_eq!(kept.kubeconfig, parent.path().join("a.img.kubeconfig"));
        let after = fs::read(&kept.kubeconfig).unwrap();
        assert_eq!(after, fs::read(directory.join("kubeconfig")).unwrap());
        assert_ne!(after, before);
        let certificate = |text: &[u8]| kubeconfig::admin(text).unwrap().certificate;
        assert_eq!(certificate(&before), certificate(&after));
    }

    #[test]
    fn without_its_kubeconfig_the_administrator_gets_a_new_certificate() {
        let (_parent, directory) = saved();
        let path = directory.join("kubeconfig");
        let before = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let again = open(&directory).unwrap();
        assert!(again.warnings[0].contains("a new certificate"));
        again.save("edge", server(), None).unwrap();
        assert_ne!(fs::read(&path).unwrap(), before);
        assert!(open(&directory).unwrap().warnings.is_empty());
    }

    #[test]
    fn every_missing_file_is_named() {
        for (name, _) in open(&saved().1).unwrap().credentials.for_stick(false) {
            let (_parent, directory) = saved();
            fs::remove_file(directory.join(&name)).unwrap();
            assert!(refused(&directory).contains(&name), "{name}");
        }
    }

    #[test]
    fn what_does_not_belong_together_is_named() {
        let other = Credentials::make().unwrap().for_stick(false);
        for (name, part) in [
            ("tls/client-ca.key", "not the key of the certificate"),
            ("tls/client-ca.crt", "client-ca.key: it is not the key"),
            ("tls/etcd/peer-ca.key", "etcd/peer-ca.key"),
            ("server-token", "server-token: its hash is not that of"),
            ("agent-token", "agent-token: its hash is not that of"),
        ] {
            let (_parent, directory) = saved();
            fs::write(directory.join(name), &other[name]).unwrap();
            let said = refused(&directory);
            assert!(said.contains(part), "{name}: {said}");
        }
        for (name, contents, part) in [
            ("cluster-secret", "secret\n", "64 hexadecimal digits"),
            ("agent-token", "K10::node:x\n", "agent-token"),
            ("tls/service.key", "key\n", "EC or RSA PRIVATE KEY"),
            ("tls/server-ca.key", "key\n", "PKCS #8"),
            ("tls/server-ca.crt", "", "not a single certificate"),
            ("kubeconfig", "kind: Config\n", "kubeconfig"),
        ] {
            let (_parent, directory) = saved();
            fs::write(directory.join(name), contents).unwrap();
            let said = refused(&directory);
            assert!(said.contains(name) && said.contains(part), "{name}: {said}");
        }
    }

    #[test]
    fn a_whole_pair_of_another_cluster_is_found_by_the_tokens_or_the_kubeconfig() {
        let other = Credentials::make().unwrap().for_stick(false);
        for (pair, part) in [
            ("server-ca", "two clusters"),
            ("client-ca", "not signed by"),
        ] {
            let (_parent, directory) = saved();
            for name in [format!("tls/{pair}.crt"), format!("tls/{pair}.key")] {
                fs::write(directory.join(&name), &other[&name]).unwrap();
            }
            let said = refused(&directory);
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn files_that_others_may_read_are_a_warning() {
        let (_parent, directory) = saved();
        let key = directory.join("tls/server-ca.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let warnings = open(&directory).unwrap().warnings;
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].contains("server-ca.key: chmod -R go= "),
            "{warnings:?}"
        );
    }

    #[test]
    fn a_directory_of_something_else_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("thesis.txt"), "x").unwrap();
        assert!(refused(parent.path()).contains("other files"));
        assert!(refused(&parent.path().join("thesis.txt")).contains("no directory"));
        let nowhere = parent.path().join("none/credentials");
        assert!(refused(&nowhere).contains("none/credentials"));
    }

    #[test]
    fn an_empty_directory_is_filled_and_one_that_filled_meanwhile_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("mine");
        fs::create_dir(&directory).unwrap();
        let (first, second) = (open(&directory).unwrap(), open(&directory).unwrap());
        first.save("edge", server(), None).unwrap();
        let error = second.save("edge", server(), None).unwrap_err();
        assert!(matches!(error, CredentialsError::Meanwhile(_)), "{error:?}");
        assert!(open(&directory).is_ok());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        let (_parent, directory) = saved();
        let path = directory.join("cluster-secret");
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert!(refused(&directory).contains("it is no file"));
    }
}
