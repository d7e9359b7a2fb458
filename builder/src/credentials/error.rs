//! Why there are no credentials.

use std::io;
use std::path::{Path, PathBuf};

/// Why credentials were not made, found or kept.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// There is no file beside which they could lie.
    #[error("the image goes to {}, and there is no place for the cluster's credentials", .0.display())]
    NoPlace(PathBuf),
    /// Agents of no cluster.
    #[error("{} is not there: agents need the credentials of the cluster that they join", .0.display())]
    NoCluster(PathBuf),
    /// Reading or writing failed.
    #[error("{doing} {}", path.display())]
    Io {
        /// `writing`, `reading`, ...
        doing: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel gave no random bytes.
    #[error("asking the kernel for random bytes")]
    Random(#[source] io::Error),
    /// A key or certificate could not be made.
    #[error("making keys and certificates")]
    Make(#[source] rcgen::Error),
    /// The directory is none.
    #[error("{} is no directory", .0.display())]
    NoDirectory(PathBuf),
    /// The directory can't be made.
    #[error("{} can't be made: the directory that it would lie in is not there", .0.display())]
    NoParent(PathBuf),
    /// The directory is somebody else's.
    #[error("{} holds other files and no credentials", .0.display())]
    Foreign(PathBuf),
    /// Somebody else put credentials there meanwhile.
    #[error("{} was filled by another program meanwhile", .0.display())]
    Meanwhile(PathBuf),
    /// A file is missing.
    #[error("{} is missing", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file is damaged, or belongs to another cluster.
    #[error("{}: {why}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The administrator's kubeconfig is of no use.
    #[error("{}: {why}", path.display())]
    Admin {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An image has no kubeconfig.
    #[error("there is neither {} nor {}", first.display(), second.display())]
    Nowhere {
        /// Where it was looked for first.
        first: PathBuf,
        /// And then.
        second: PathBuf,
    },
    /// A file is no kubeconfig.
    #[error("it is no kubeconfig that the builder wrote")]
    NoKubeconfig,
    /// An address for the API server can't be one.
    #[error("{address:?} is no address of a server: {why}")]
    Address {
        /// As given.
        address: String,
        /// Why not.
        why: &'static str,
    },
}

impl CredentialsError {
    /// Wraps an I/O error with what was being done.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| CredentialsError::Io {
            doing,
            path,
            source,
        }
    }

    /// What a person can do about it.
    pub fn help(&self) -> String {
        let help = match self {
            CredentialsError::NoPlace(_) => {
                "name a directory for them with --credentials DIR; it is made if it is missing"
            }
            CredentialsError::NoCluster(_) => {
                "name the directory of the servers' image: --credentials haulboot.img.credentials"
            }
            CredentialsError::Io { .. } => "check that this user may read and write there",
            CredentialsError::Random(_) | CredentialsError::Make(_) => "run again",
            CredentialsError::NoDirectory(_) | CredentialsError::Foreign(_) => {
                "name a directory of its own with --credentials DIR; it is made if it is missing"
            }
            CredentialsError::NoParent(_) => "make the directory above it first",
            CredentialsError::Meanwhile(_) => "run again to use what is there now",
            CredentialsError::Missing { path } => return restore(path, "put"),
            CredentialsError::Wrong { path, .. } => return restore(path, "mend it: put"),
            CredentialsError::Admin { path, .. } => {
                return format!(
                    "delete it for a new certificate, which the builder makes: rm {}",
                    path.display()
                );
            }
            CredentialsError::Nowhere { .. } => {
                "name the servers' image, or the directory that --credentials named"
            }
            CredentialsError::NoKubeconfig => {
                "write the image again with the same --credentials, which writes it anew"
            }
            CredentialsError::Address { .. } => "give ADDRESS or ADDRESS:PORT",
        };
        help.to_owned()
    }
}

/// The two ways out of a damaged directory.
fn restore(path: &Path, put: &str) -> String {
    format!(
        "{put} the file back from a copy of the directory. Without one, move the directory away: \
         the image then gets a new cluster, and every stick of the old one has to be rewritten \
         ({})",
        path.display()
    )
}
