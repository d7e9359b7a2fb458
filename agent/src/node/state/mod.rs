//! The stage *state*: a place for what k3s keeps, in memory, on a disk or on the stick.
//!
//! Whatever it is, it is mounted on [`image_layout::paths::node::STATE`], and its directories
//! `rancher` and `kubelet` appear as `/var/lib/rancher` and `/var/lib/kubelet`. All of it may be
//! done again by a node process that was started anew: what is there already is kept.

mod disk;
mod disks;
mod ext4;
mod identity;
mod kernel;
mod last_seen;
mod layout;
mod marker;
mod memory;
mod mounts;
mod persistent;
mod problem;
mod ram;
mod select;
mod signature;
mod size;
mod stick;
mod table;
mod tools;
mod wait;

#[cfg(test)]
mod tests;

use image_layout::cluster::{Disk, State};
use image_layout::status::StateStatus;

pub(in crate::node) use self::problem::StateError;
use super::Place;

/// A place for k3s's data.
#[derive(Debug)]
pub(in crate::node) struct Prepared {
    /// For the status file.
    pub(in crate::node) status: StateStatus,
    /// The line of the stage.
    pub(in crate::node) detail: String,
    /// What else a person should know, a line each.
    pub(in crate::node) notices: Vec<String>,
}

/// Prepares the place that `state` asks for. Blocks for as long as disks take, within bounds;
/// `progress` gets a line for the console whenever something is waited for.
pub(in crate::node) fn prepare(
    place: &Place,
    state: &State,
    progress: &dyn Fn(String),
) -> Result<Prepared, StateError> {
    match &state.disk {
        Disk::None => ram::prepare(place),
        Disk::Stick => stick::prepare(place, state.wipe, progress),
        Disk::Match(wanted) => disk::prepare(place, wanted, state.wipe, progress),
    }
}
