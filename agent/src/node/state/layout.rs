//! Where things lie below [`STATE`], and under which usual names they appear.
//!
//! k3s and kubelet share one file system, as on any machine: what lies on `/var/lib/kubelet` is
//! what kubelet calls the node's file system and watches for its fill. Images have a second one
//! in memory; on a disk they share the first.

use std::path::{Path, PathBuf};

use image_layout::paths::node::STATE;

use super::mounts;
use super::problem::StateError;
use crate::node::Place;

/// Directory below [`STATE`], its mode, where it appears.
const BOUND: [(&str, u32, &str); 3] = [
    ("rancher", 0o755, "var/lib/rancher"),
    ("kubelet", 0o750, "var/lib/kubelet"),
    // up to 50 MiB a container: on `/` nothing would bound them, and no eviction would make room
    ("pod-logs", 0o755, "var/log/pods"),
];
/// k3s's image store, and its mode.
const IMAGES: (&str, u32) = ("var/lib/rancher/k3s/agent/containerd", 0o711);
/// What containerd is told for images in memory: layers that are unpacked are not kept a second
/// time in compressed form. Read by k3s of 2026 and later (k3s: `imports` in the configuration it
/// writes); others ignore it. Pulling an image again brings the layers back from the stick.
const DISCARD: &str = "var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/10-discard.toml";
const DISCARD_TEXT: &str = "# Written by Haulboot: images are in memory, and the stick has their layers.\n\
    version = 3\n\n[plugins.'io.containerd.cri.v1.images']\n  discard_unpacked_layers = true\n";

/// The place of [`STATE`].
pub(super) fn state(place: &Place) -> PathBuf {
    place.root.join(STATE.trim_start_matches('/'))
}

/// The place of k3s's image store.
pub(super) fn images(place: &Place) -> (PathBuf, u32) {
    (place.root.join(IMAGES.0), IMAGES.1)
}

/// Makes the directories below [`STATE`], which is mounted, appear under their usual names.
pub(super) fn bind(place: &Place) -> Result<(), StateError> {
    let state = state(place);
    for (name, mode, usual) in BOUND {
        let directory = state.join(name);
        let target = place.root.join(usual);
        mounts::directory(&directory, mode).map_err(StateError::system("making", &directory))?;
        mounts::directory(&target, mode).map_err(StateError::system("making", &target))?;
        if !is_mounted(place, &target)? {
            mounts::bind(&directory, &target)
                .map_err(StateError::system("mounting STATE on", &target))?;
        }
    }
    Ok(())
}

/// Writes [`DISCARD`].
pub(super) fn discard_layers(place: &Place) -> Result<(), StateError> {
    let path = place.root.join(DISCARD);
    let parent = path.parent().unwrap_or(&path);
    // k3s would make its own directory with this mode
    let agent = place.root.join("var/lib/rancher/k3s/agent");
    mounts::directory(&agent, 0o700).map_err(StateError::system("making", &agent))?;
    mounts::directory(parent, 0o700).map_err(StateError::system("making", parent))?;
    std::fs::write(&path, DISCARD_TEXT).map_err(StateError::system("writing", &path))
}

/// Whether something is mounted on `target`.
pub(super) fn is_mounted(place: &Place, target: &Path) -> Result<bool, StateError> {
    let mounts = mounts::mounted(&place.proc).map_err(StateError::system(
        "reading",
        place.proc.join("self/mountinfo"),
    ))?;
    Ok(mounts::at(&mounts, target).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_in_lies_where_k3s_looks_and_says_what_containerd_reads() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::below(dir.path());
        discard_layers(&place).unwrap();
        discard_layers(&place).unwrap();
        let text = std::fs::read_to_string(dir.path().join(DISCARD)).unwrap();
        assert!(text.contains("\nversion = 3\n"));
        assert!(text.ends_with(
            "\n[plugins.'io.containerd.cri.v1.images']\n  discard_unpacked_layers = true\n"
        ));
    }
}
