//! From files to what is asked of clients, at start and whenever one of them changes.
//!
//! What changes is noticed through the directories that the files lie in (inotify(7)): whoever
//! replaces a file does it there. Files that don't fit one another, half-way through a change, leave
//! what held before; the next change is looked at again.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use image_layout::htpasswd::{HtpasswdError, HtpasswdLine};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::material::Material;
use super::tls::{self, TlsError};
use super::users::Users;
use super::{Access, Policy};
use crate::registry::limits;

/// When to look again for a directory that is not there.
const LOST_AGAIN: Duration = Duration::from_secs(5);

/// Where it stands what is asked of clients.
#[derive(Clone, Debug)]
pub(in crate::registry) enum Source {
    /// The file that the node process writes.
    Node(PathBuf),
    /// The arguments of `agent serve`.
    Files(Files),
}

/// The arguments of `agent serve` about this; all may be missing.
#[derive(Clone, Debug, Default)]
pub(in crate::registry) struct Files {
    /// Certificate and key.
    pub(in crate::registry) tls: Option<(PathBuf, PathBuf)>,
    /// The authority's certificate.
    pub(in crate::registry) ca: Option<PathBuf>,
    /// An htpasswd file.
    pub(in crate::registry) users: Option<PathBuf>,
}

/// Why it can't be told what is asked of clients.
#[derive(Debug, thiserror::Error)]
pub(in crate::registry) enum AccessError {
    #[error("reading {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{}: {error}", path.display())]
    Tls { path: PathBuf, error: TlsError },
    #[error("{}: line {line}: {error}", path.display())]
    User {
        path: PathBuf,
        line: usize,
        error: HtpasswdError,
    },
    #[error("{} has no user: nobody could read", .0.display())]
    NoUser(PathBuf),
    #[error("{}: {why}", path.display())]
    Material { path: PathBuf, why: String },
}

impl AccessError {
    /// What a person can do about it.
    pub(in crate::registry) fn help(&self) -> &'static str {
        match self {
            AccessError::Read { .. } => "check the path, and that this user may read the file",
            AccessError::Tls { .. } => {
                "give a certificate, or a chain, and its own private key, both PEM"
            }
            AccessError::User { .. } | AccessError::NoUser(_) => {
                "`htpasswd -nB NAME` prints a line for it"
            }
            AccessError::Material { .. } => "restart the node",
        }
    }
}

/// The directory that a file is in.
fn directory(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

impl Source {
    fn files(&self) -> Vec<&PathBuf> {
        match self {
            Source::Node(file) => vec![file],
            Source::Files(files) => {
                let pair = files.tls.iter().flat_map(|(one, other)| [one, other]);
                pair.chain(&files.ca).chain(&files.users).collect()
            }
        }
    }

    /// Where changes are looked for.
    fn directories(&self) -> BTreeSet<PathBuf> {
        self.files()
            .into_iter()
            .map(|file| directory(file))
            .collect()
    }

    /// What must be there to be read again: these directories, and those that links lead to, as
    /// programs that renew certificates lay them.
    pub(in crate::registry) fn reach(&self) -> Vec<PathBuf> {
        let mut reach = self.directories();
        let behind_links = self
            .files()
            .into_iter()
            .filter_map(|file| file.canonicalize().ok());
        reach.extend(behind_links.map(|file| directory(&file)));
        reach.into_iter().collect()
    }

    fn read(&self) -> Result<Policy, AccessError> {
        match self {
            Source::Node(file) => match read(file) {
                Ok(bytes) => of_material(file, &bytes),
                Err(AccessError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                    Ok(Policy {
                        unknown: true,
                        ..Policy::default()
                    })
                }
                Err(error) => Err(error),
            },
            Source::Files(files) => of_files(files),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, AccessError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limits::ACCESS_BYTES + 1).read_to_end(&mut bytes))
        .and_then(|_| match bytes.len() as u64 > limits::ACCESS_BYTES {
            true => Err(io::Error::other("it is much too large")),
            false => Ok(()),
        })
        .map_err(|error| AccessError::Read {
            path: path.to_owned(),
            error,
        })?;
    Ok(bytes)
}

/// What the node process wrote. What it asks for and does not bring closes the registry.
fn of_material(path: &Path, bytes: &[u8]) -> Result<Policy, AccessError> {
    let wrong = |why: String| AccessError::Material {
        path: path.to_owned(),
        why,
    };
    // an error of serde_json shows no contents but a name or a character
    let material: Material =
        serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
    let mut policy = Policy {
        https_only: material.https_only,
        closed: material.closed,
        ..Policy::default()
    };
    if let Some(made) = material.tls {
        let config = tls::server_config(made.certificate.as_bytes(), made.key.as_bytes());
        policy.tls = Some(config.map_err(|error| wrong(error.to_string()))?);
        policy.ca_pem = Some(made.authority);
    } else if policy.https_only && policy.closed.is_none() {
        let why = "this registry has no certificate yet; try again";
        policy.closed = Some(why.to_owned());
    }
    if let Some(users) = material.users {
        let lines = HtpasswdLine::all(users.lines.iter().map(String::as_str))
            .map_err(|(line, error)| wrong(format!("user {line}: {error}")))?;
        let node = users.node.map(|text| {
            let mut digest = [0; 32];
            hex::decode_to_slice(text, &mut digest).map(|()| digest)
        });
        let node = node
            .transpose()
            .map_err(|error| wrong(format!("the nodes' user: {error}")))?;
        policy.users = Some(Arc::new(Users::new(lines, node)));
    }
    Ok(policy)
}

fn of_files(files: &Files) -> Result<Policy, AccessError> {
    let mut policy = Policy::default();
    if let Some((certificate, key)) = &files.tls {
        let config = tls::server_config(&read(certificate)?, &read(key)?);
        policy.tls = Some(config.map_err(|error| AccessError::Tls {
            path: certificate.clone(),
            error,
        })?);
        policy.https_only = true;
    }
    if let Some(path) = &files.ca {
        let text = String::from_utf8_lossy(&read(path)?).into_owned();
        policy.ca_pem = Some(text);
    }
    if let Some(path) = &files.users {
        let text = String::from_utf8_lossy(&read(path)?).into_owned();
        let numbered: Vec<(usize, &str)> = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty() && !line.trim().starts_with('#'))
            .collect();
        let lines = HtpasswdLine::all(numbered.iter().map(|(_, line)| *line));
        let lines = lines.map_err(|(at, error)| AccessError::User {
            path: path.clone(),
            line: numbered.get(at).map_or(0, |(number, _)| number + 1),
            error,
        })?;
        if lines.is_empty() {
            return Err(AccessError::NoUser(path.clone()));
        }
        policy.users = Some(Arc::new(Users::new(lines, None)));
    }
    Ok(policy)
}

impl Access {
    /// What the files ask for now.
    pub(in crate::registry) fn from(source: &Source) -> Result<Access, AccessError> {
        let access = Access::default();
        access.set(source.read()?);
        Ok(access)
    }

    /// A registry that answers nobody yet.
    pub(in crate::registry) fn unknown() -> Access {
        let access = Access::default();
        access.set(Policy {
            unknown: true,
            ..Policy::default()
        });
        access
    }

    /// Keeps up with the files from now on, for as long as the process lives. Inside a runtime.
    ///
    /// # Errors
    /// If the kernel has no watch to give, or a directory is not there.
    pub(in crate::registry) fn follow(self: &Arc<Access>, source: Source) -> io::Result<()> {
        let watch = register(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?)?;
        watch_all(&watch, &source.reach()).map_err(|(_, error)| error)?;
        let access = Arc::clone(self);
        tokio::spawn(async move {
            // once more: it may have changed before the watch was there
            let (mut anew, mut lost) = (true, false);
            loop {
                // another directory may have the name of one that is gone, or a link lead elsewhere
                let there = watch_all(&watch, &source.reach());
                if let Err((directory, error)) = &there
                    && !lost
                {
                    let directory = directory.display();
                    tracing::error!(%directory, %error, "changes in it go unnoticed for now");
                }
                anew |= lost && there.is_ok();
                lost = there.is_err();
                if anew {
                    access.renew(&source);
                }
                let patience = if lost { LOST_AGAIN } else { Duration::MAX };
                anew = match timeout(patience, changed(&watch)).await {
                    Ok(Ok(())) => true,
                    Ok(Err(error)) => {
                        tracing::error!(%error, "changes of certificates and users go unnoticed now");
                        return;
                    }
                    Err(_) => false,
                };
            }
        });
        Ok(())
    }

    fn renew(&self, source: &Source) {
        match source.read() {
            // a file that went away opens nothing and closes nothing
            Ok(policy) if policy.unknown => {}
            Ok(policy) => self.set(policy),
            Err(error) => tracing::warn!(%error, "what held for clients holds on"),
        }
    }
}

/// Watches these directories, those that are watched already as before; all that can be, and says
/// which can't.
fn watch_all(
    watch: &AsyncFd<OwnedFd>,
    directories: &[PathBuf],
) -> Result<(), (PathBuf, io::Error)> {
    let gone = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
    let events = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE | gone;
    let mut all = Ok(());
    for directory in directories {
        if let Err(error) = inotify::add_watch(watch.get_ref(), directory, events) {
            all = Err((directory.clone(), error.into()));
        }
    }
    all
}

#[allow(unsafe_code)]
fn register(watch: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd owns one descriptor, gives the same for all its life, and is neither
    // replaced nor closed while the AsyncFd holds it.
    unsafe { AsyncFd::register(watch) }.map_err(|error| error.into_parts().1)
}

/// Waits for events and takes them all.
async fn changed(watch: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let mut guard = watch.readable().await?;
    let mut events = [0; 4096];
    loop {
        match rustix::io::read(watch.get_ref(), &mut events) {
            Ok(0) | Err(rustix::io::Errno::AGAIN) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    guard.clear_ready();
    Ok(())
}
