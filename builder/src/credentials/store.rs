//! The directory of credentials: found, checked, written.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use image_layout::paths::secrets;

use super::error::CredentialsError;
use super::pki::{self, PairDefect};
use super::{Credentials, For, Kept, RegistryAuthority, Server, kubeconfig, token};
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
    /// Without links, so that not a link is replaced.
    directory: PathBuf,
    /// The same as a person named it.
    named: PathBuf,
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
    let named = directory.to_owned();
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
        named,
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
    let registry = registry_authority(directory, &mut open_to_others, warnings)?;
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
        registry,
    })
}

/// The registries' authority, if it was made once. The certificate is written after the key, so that
/// a key by itself is what an interruption left.
fn registry_authority(
    directory: &Path,
    open_to_others: &mut Vec<PathBuf>,
    warnings: &mut Vec<String>,
) -> Result<Option<RegistryAuthority>, CredentialsError> {
    let path = |name: &str| directory.join(secrets::TLS).join(name);
    let mut file = |name: &str| match read_file(&path(name), open_to_others) {
        Err(CredentialsError::Missing { .. }) => Ok(None),
        found => found.map(Some),
    };
    let key = file(secrets::REGISTRY_CA_KEY)?;
    let Some(certificate) = file(secrets::REGISTRY_CA)? else {
        if key.is_some() {
            warnings.push(format!(
                "{} was not there: where HTTPS is wanted the registries get a new authority",
                path(secrets::REGISTRY_CA).display()
            ));
        }
        return Ok(None);
    };
    let key = key.ok_or_else(|| CredentialsError::Missing {
        path: path(secrets::REGISTRY_CA_KEY),
    })?;
    let (name, why) = match pki::pair_defect(&certificate, &key) {
        None => {
            return Ok(Some(RegistryAuthority {
                certificate,
                key,
                kept: true,
            }));
        }
        Some(PairDefect::Certificate) => (secrets::REGISTRY_CA, "it is not a single certificate"),
        Some(PairDefect::NoAuthority) => {
            (secrets::REGISTRY_CA, "it is no certificate of an authority")
        }
        Some(PairDefect::Key) => (
            secrets::REGISTRY_CA_KEY,
            "it is no private key in PKCS #8 form",
        ),
        Some(PairDefect::Mismatch) => (
            secrets::REGISTRY_CA_KEY,
            "it is not the key of the certificate beside it",
        ),
    };
    Err(CredentialsError::Wrong {
        path: path(name),
        why: why.to_owned(),
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
        let mut shown = self.named.join(secrets::KUBECONFIG);
        match self.origin {
            Origin::Made => self.make_directory(text.as_bytes())?,
            Origin::Reused => {
                replace(&self.directory.join(secrets::KUBECONFIG), text.as_bytes())?;
                let kept = |authority: &RegistryAuthority| authority.kept;
                if !self.credentials.registry.as_ref().is_none_or(kept) {
                    for (name, contents) in self.credentials.registry_files() {
                        replace(&self.directory.join(name), &contents)?;
                    }
                }
            }
        }
        if let Some(image) = image {
            shown = kubeconfig_beside(image);
            replace(&shown, text.as_bytes())?;
        }
        Ok(Kept {
            directory: self.named.clone(),
            origin: self.origin,
            kubeconfig: shown,
            server,
            registry_ca: self
                .credentials
                .registry
                .as_ref()
                .map(|_| self.named.join(secrets::TLS).join(secrets::REGISTRY_CA)),
        })
    }

    fn make_directory(&self, kubeconfig: &[u8]) -> Result<(), CredentialsError> {
        let (parent, name) = parts(&self.directory)?;
        let staging = Staging::new(parent, &format!("{name}.partial-"), "", 0o700)
            .map_err(CredentialsError::io("making a directory in", parent))?;
        let mut files = self.credentials.for_stick(For::Servers, true);
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
mod tests;
