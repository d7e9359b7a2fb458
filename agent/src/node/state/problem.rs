//! Why k3s has no place for its data, in words for the person in front of the machine.

use std::io;
use std::path::PathBuf;

use image_layout::status::Problem;

use super::size::disk_size;
use super::table::TableError;

/// Why the stage *state* failed. Nothing on a disk was overwritten then that was not named for it.
#[derive(Debug, thiserror::Error)]
pub(in crate::node) enum StateError {
    /// `/proc/meminfo` does not say how much memory there is.
    #[error("the kernel does not say how much memory this machine has")]
    Memory,
    /// No disk fits.
    #[error("no disk has {wanted}. Disks: {}", or_none(.seen))]
    NoDisk {
        /// What `cluster.yaml` says.
        wanted: String,
        /// The disks there are, with what speaks against them.
        seen: Vec<String>,
    },
    /// More than one fits.
    #[error("more than one disk has {wanted}: {}", .found.join("; "))]
    SeveralDisks {
        /// What `cluster.yaml` says.
        wanted: String,
        /// Those that fit.
        found: Vec<String>,
    },
    /// The disk is not empty.
    #[error("{device} holds something: {}", .held.join(", "))]
    Holds {
        /// The disk.
        device: String,
        /// What it holds.
        held: Vec<String>,
    },
    /// The disk has the data of another cluster.
    #[error("{0} has the data of another Haulboot cluster")]
    OtherCluster(String),
    /// The disk is the stick of a haul.
    #[error("{0} is a stick with a haul, and never overwritten")]
    Haul(String),
    /// Somebody else uses the disk.
    #[error("{0} is in use: it, or a partition of it, is mounted or part of another volume")]
    InUse(String),
    /// The disk that is mounted was pulled out.
    #[error("{0} is gone, and was in use")]
    Gone(String),
    /// The machine did not boot from a drive with partitions.
    #[error("the stick that this machine booted from can't be found among its disks")]
    NoStick,
    /// The stick can't be written.
    #[error("the stick, {0}, is read-only")]
    ReadOnly(String),
    /// The stick is too small.
    #[error("the stick, {device}, has {} left behind the haul; 1.1 GB are needed", disk_size(*.bytes))]
    NoRoom {
        /// The stick.
        device: String,
        /// What is left.
        bytes: u64,
    },
    /// The table of the stick.
    #[error("the stick, {device}, can't take another partition: {source}")]
    Stick {
        /// The stick.
        device: String,
        /// Why.
        source: TableError,
    },
    /// The image has no tools.
    #[error("this stick has no programs for file systems: {} is missing", .0.display())]
    NoTools(PathBuf),
    /// A tool failed.
    #[error("{doing} failed: {said}")]
    Tool {
        /// What it did.
        doing: String,
        /// What it said.
        said: String,
    },
    /// The file system can't be mended without asking.
    #[error("the file system on {device} is damaged: {said}")]
    Damaged {
        /// The device.
        device: String,
        /// What e2fsck said.
        said: String,
    },
    /// Something did not end.
    #[error("{doing} did not end within {seconds} s")]
    Stuck {
        /// What.
        doing: String,
        /// How long it was waited for.
        seconds: u64,
    },
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

fn or_none(disks: &[String]) -> String {
    match disks {
        [] => "none".to_owned(),
        disks => disks.join("; "),
    }
}

const EDIT: &str = "Put the stick into any computer, open cluster.yaml on the drive HAULCFG and";

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
            StateError::NoDisk { .. } => "no disk as cluster.yaml wants it".to_owned(),
            StateError::SeveralDisks { found, .. } => {
                format!("{} disks are as cluster.yaml wants it", found.len())
            }
            StateError::Holds { .. } => "the disk holds something".to_owned(),
            StateError::OtherCluster(_) => "the disk is another cluster's".to_owned(),
            StateError::Haul(_) => "the disk is a stick with a haul".to_owned(),
            StateError::InUse(device) => format!("{device} is in use"),
            StateError::Gone(device) => format!("{device} is gone"),
            StateError::NoStick => "the stick can't be found".to_owned(),
            StateError::ReadOnly(_) => "the stick is read-only".to_owned(),
            StateError::NoRoom { .. } => "no room on the stick".to_owned(),
            StateError::Stick { .. } => "no partition on the stick".to_owned(),
            StateError::NoTools(_) => "no programs for file systems".to_owned(),
            StateError::Tool { doing, .. } => format!("{doing} failed"),
            StateError::Damaged { device, .. } => format!("{device} is damaged"),
            StateError::Stuck { doing, .. } => format!("{doing} does not end"),
            StateError::System { doing, path, .. } => {
                format!("{doing} {} failed", path.display())
            }
        }
    }

    /// The screen for the person in front of the machine.
    pub(in crate::node) fn problem(&self) -> Problem {
        let mend = match self {
            StateError::Memory | StateError::System { .. } => {
                "Switch the machine off and on again. If that does not help, the stick or the \
                 machine may be damaged: try the stick in another machine."
                    .to_owned()
            }
            StateError::NoDisk { .. } => format!(
                "{EDIT} name one of the disks above at `state:`, by the words in brackets: \
                 model:, serial:, size:, or path: with its name behind /dev/. Or put the disk \
                 in and switch the machine off and on again."
            ),
            StateError::SeveralDisks { .. } => {
                format!("{EDIT} say at `state:` which one is meant, by its serial: or its path:.")
            }
            StateError::Holds { .. } => format!(
                "Nothing was changed. If it may be lost: {EDIT_LOWER} write `wipe: true` beside \
                 `disk:`. If not, name another disk there."
            ),
            StateError::OtherCluster(_) => format!(
                "Nothing was changed. Boot this machine with a stick of that cluster; or, if its \
                 data may be lost: {EDIT_LOWER} write `wipe: true` beside `disk:`."
            ),
            StateError::Haul(_) | StateError::InUse(_) => {
                format!("Nothing was changed. {EDIT} name another disk at `state:`.")
            }
            StateError::Gone(_) => {
                "Put the disk in again and switch the machine off and on.".to_owned()
            }
            StateError::NoStick | StateError::ReadOnly(_) => format!(
                "{EDIT} choose another place at `state:`: `disk: none` or a disk of the machine. \
                 A stick with a switch against writing may just need it moved."
            ),
            StateError::NoRoom { .. } => format!(
                "Write the image to a larger stick. Or: {EDIT_LOWER} choose another place at \
                 `state:`: `disk: none` or a disk of the machine."
            ),
            StateError::Stick { .. } => "Write the image to the stick again; what its partition \
                STATE held is lost then."
                .to_owned(),
            StateError::NoTools(_) => format!(
                "Write the stick with a newer builder. Or: {EDIT_LOWER} write `state: {{disk: none}}`."
            ),
            StateError::Tool { .. } | StateError::Stuck { .. } => format!(
                "The disk may be dying: look at its cable, or use another one. {EDIT} name it at \
                 `state:`."
            ),
            StateError::Damaged { device, .. } => format!(
                "Nothing was lost yet. Attach the disk to a computer with Linux and run \
                 e2fsck on what is {device} here. If its data may be lost, overwrite its first \
                 MiB there: Haulboot then begins anew."
            ),
        };
        Problem {
            what: format!("There is no place for k3s's data: {self}."),
            mend,
        }
    }
}

const EDIT_LOWER: &str =
    "put the stick into any computer, open cluster.yaml on the drive HAULCFG and";
