//! A device with a file system of this cluster: recognised, made, checked.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use image_layout::paths::tools;
use uuid::Uuid;

use super::identity::LABEL;
use super::marker;
use super::problem::StateError;
use super::signature::{END, Ends, Ext};
use super::tools::Tools;

/// The smallest device taken: k3s unpacked, a few images, the journal.
pub(super) const LEAST: u64 = 1 << 30;
/// Bytes of one block of the file system.
const BLOCK: u64 = 4096;
/// MiB of journal. The default for a large disk is 1 GiB, all of which is written at the start.
const JOURNAL: &str = "size=64";
/// Making writes some 200 MB; flash drives are slow, and their controllers pause.
const MAKING: Duration = Duration::from_secs(600);
/// After an unclean end only the journal is replayed; a whole check of a large disk takes longer.
const CHECKING: Duration = Duration::from_secs(1800);

/// What a device holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// Nothing.
    Empty,
    /// This cluster's data.
    Ours,
    /// A file system of this cluster that was never finished.
    Unfinished,
    /// Another cluster's data.
    OtherCluster,
    /// Something else, in words.
    Foreign(Vec<String>),
    /// The stick of some haul.
    Haul,
}

/// Looks what a device of `bytes` bytes holds.
pub(super) fn look(path: &Path, bytes: u64, cluster: Uuid) -> std::io::Result<Contents> {
    let ends = Ends::read(path, bytes)?;
    // first: what is being made has signatures already
    if marker::is_set(&ends, cluster) {
        return Ok(Contents::Unfinished);
    }
    Ok(match ends.ext() {
        Some(Ext { uuid, label }) if label == LABEL => match uuid == cluster {
            true => Contents::Ours,
            false => Contents::OtherCluster,
        },
        _ => match ends.held() {
            held if held.is_empty() => Contents::Empty,
            held => Contents::Foreign(held),
        },
    })
}

/// A device on which a file system is made or checked.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The kernel's name, for people.
    pub(super) name: String,
    /// The device file.
    pub(super) path: PathBuf,
    /// Its size in bytes.
    pub(super) bytes: u64,
}

/// Makes the file system. What the device held is gone.
pub(super) fn make(
    target: &Target,
    cluster: Uuid,
    tools: &Tools,
    progress: &dyn Fn(String),
) -> Result<(), StateError> {
    let writing = || StateError::system("writing to", &target.path);
    let alone = || open_alone(target);
    let doing = format!("making a file system on {}", target.name);
    progress(doing.clone());
    let device = alone()?;
    marker::set(&device, target.bytes, cluster).map_err(writing())?;
    super::kernel::forget_partitions(&device);
    // mke2fs wants it for itself
    drop(device);
    let arguments = make_arguments(target, cluster);
    let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    let ended = tools.run(self::tools::MKE2FS, &arguments, MAKING, &doing, progress)?;
    if !ended.status.success() {
        return Err(StateError::Tool {
            doing,
            said: ended.said,
        });
    }
    let device = alone()?;
    device.sync_all().map_err(writing())?;
    marker::remove(&device, target.bytes).map_err(writing())
}

fn open_alone(target: &Target) -> Result<std::fs::File, StateError> {
    marker::open_alone(&target.path).map_err(|source| {
        if source.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) {
            StateError::InUse(target.name.clone())
        } else {
            StateError::system("opening", &target.path)(source)
        }
    })
}

fn make_arguments(target: &Target, cluster: Uuid) -> Vec<OsString> {
    // without the last MiB: see the marker
    let blocks = target.bytes.saturating_sub(END) / BLOCK;
    let words = [
        // no questions: everything was asked before
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-L",
        LABEL,
        "-m",
        "1",
        "-J",
        JOURNAL,
        // blocks are not discarded: on some flash drives that takes minutes
        "-E",
        "nodiscard,lazy_itable_init=1",
        "-U",
    ];
    let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
    arguments.push(cluster.to_string().into());
    arguments.push(target.path.clone().into());
    arguments.push(blocks.to_string().into());
    arguments
}

/// Checks the file system and mends what can be mended without asking. Gives a sentence if
/// something was.
pub(super) fn check(
    target: &Target,
    tools: &Tools,
    progress: &dyn Fn(String),
) -> Result<Option<String>, StateError> {
    let doing = format!("checking the file system on {}", target.name);
    let arguments = [OsStr::new("-p"), target.path.as_os_str()];
    let ended = tools.run(self::tools::E2FSCK, &arguments, CHECKING, &doing, progress)?;
    // e2fsck(8): 1 mended, 2 mended and a mounted one should be mounted anew, 4 not mended,
    // 8 and more: it could not work
    match ended.status.code() {
        Some(0) => Ok(None),
        Some(1..=3) => Ok(Some(format!(
            "the file system on {} was not clean and was mended",
            target.name
        ))),
        Some(4..=7) => Err(StateError::Damaged {
            device: target.name.clone(),
            said: ended.said,
        }),
        _ => Err(StateError::Tool {
            doing,
            said: ended.said,
        }),
    }
}
