//! Why k3s has no place for its data, in words for the person in front of the machine.

use std::io;
use std::path::PathBuf;

use image_layout::status::Problem;

/// Why the stage *state* failed. Nothing on a disk was overwritten then that was not named for it.
#[derive(Debug, thiserror::Error)]
pub(in crate::node) enum StateError {
    /// `/proc/meminfo` does not say how much memory there is.
    #[error("the kernel does not say how much memory this machine has")]
    Memory,
    /// A disk is asked for.
    #[error("this version of Haulboot keeps data in memory only, and cluster.yaml names a disk")]
    MemoryOnly,
    /// A directory, a mount or a file of the kernel's.
    #[error("{doing} {}: {source}", .path.display())]
    System {
        /// What was tried, `mounting`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl StateError {
    /// Turns an error of the system into this one.
    pub(super) fn system(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> StateError {
        let path = path.into();
        move |source| StateError::System {
            doing,
            path,
            source,
        }
    }

    /// A few words for the line of the stage; the screen has the rest.
    pub(in crate::node) fn short(&self) -> String {
        match self {
            StateError::Memory => "size of the memory unknown".to_owned(),
            StateError::MemoryOnly => "no disks yet".to_owned(),
            StateError::System { doing, path, .. } => {
                format!("{doing} {} failed", path.display())
            }
        }
    }

    /// The screen for the person in front of the machine.
    pub(in crate::node) fn problem(&self) -> Problem {
        let mend = match self {
            StateError::MemoryOnly => "Write `state: {disk: none}` in cluster.yaml.",
            StateError::Memory | StateError::System { .. } => {
                "Switch the machine off and on again. If that does not help, the stick or the \
                 machine's memory may be damaged: try the stick in another machine."
            }
        };
        Problem {
            what: format!("There is no place for k3s's data: {self}."),
            mend: mend.to_owned(),
        }
    }
}
