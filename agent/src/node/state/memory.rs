//! How much of the memory k3s may fill with its data where it has no disk.
//!
//! A tmpfs takes memory only for what is in it; its size is a bound. For kubelet that bound is
//! the node's disk: at 85 % it removes images, at 95 % it evicts every pod. So there are two: one
//! for k3s's own data and the pods' volumes, one for images. Filling the second never evicts a
//! pod because of the first.

use std::path::Path;

const MIB: u64 = 1 << 20;

/// k3s's data and pods' volumes: a quarter of the memory ...
const STATE_PERCENT: u64 = 25;
/// ... but so much at least, since k3s of an image where it could not be unpacked beforehand puts
/// 262 MB there, and more than 80 % must not be in use ...
const STATE_LEAST: u64 = 512 * MIB;
/// ... as far as a machine can spare it: a server needs half of a GiB for its process alone.
const STATE_SPARED_PERCENT: u64 = 40;
/// Images, unpacked: the largest part, ...
const IMAGES_PERCENT: u64 = 40;
/// ... as far as the programs leave it: k3s 500 MB, containerd 150, the registry and the kernel ...
const PROGRAMS: u64 = 768 * MIB;
/// ... but never less than this, or nothing could be pulled on a machine of 1 GiB.
const IMAGES_LEAST_PERCENT: u64 = 30;
/// Below this much memory a person is told that it is little. The kernel keeps some of 2 GiB for
/// itself.
const COMFORTABLE: u64 = 1800 * MIB;

/// Bounds in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// For k3s's data and the pods' volumes.
    pub(super) state: u64,
    /// For images.
    pub(super) images: u64,
    /// Whether k3s as a server will hardly fit.
    pub(super) is_tight: bool,
}

/// The bounds for a machine with `memory` bytes.
pub(super) fn sizes(memory: u64) -> Sizes {
    let percent = |share: u64| memory / 100 * share;
    let state = percent(STATE_PERCENT)
        .max(STATE_LEAST)
        .min(percent(STATE_SPARED_PERCENT));
    let left = memory.saturating_sub(state).saturating_sub(PROGRAMS);
    let images = percent(IMAGES_PERCENT)
        .min(left)
        .max(percent(IMAGES_LEAST_PERCENT));
    // whole pages, as the kernel would round them
    let pages = |bytes: u64| bytes / MIB * MIB;
    Sizes {
        state: pages(state),
        images: pages(images),
        is_tight: memory < COMFORTABLE,
    }
}

/// Bytes of memory, from `/proc/meminfo` (Linux: proc_meminfo(5)).
pub(super) fn total(proc: &Path) -> Option<u64> {
    let text = crate::node::read_bounded(&proc.join("meminfo"), 64 << 10).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux says of a machine with that much memory, roughly.
    fn usable(gib: u64) -> u64 {
        (gib << 30) / 100 * 96
    }

    #[test]
    fn small_and_large_machines_get_what_they_can_spare() {
        for (gib, state, images) in [
            (1, 393, 294),
            (2, 512, 686),
            (4, 983, 1572),
            (8, 1966, 3145),
            (64, 15728, 25165),
        ] {
            let sizes = sizes(usable(gib));
            assert_eq!(
                (sizes.state / MIB, sizes.images / MIB),
                (state, images),
                "{gib} GiB"
            );
        }
        assert!(sizes(usable(1)).is_tight);
        assert!(!sizes(usable(2)).is_tight);
    }

    #[test]
    fn k3s_unpacked_fits_without_eviction_even_in_one_gib() {
        assert!(sizes(usable(1)).state / 100 * 80 > 262_000_000);
    }

    #[test]
    fn more_memory_never_means_less_room_and_a_third_is_always_left() {
        let mut last = sizes(0);
        for memory in (0..20_000).map(|step| step * 4 * MIB) {
            let now = sizes(memory);
            assert!(now.state >= last.state && now.images >= last.images);
            assert!(now.state + now.images <= memory / 100 * 70 + MIB);
            last = now;
        }
    }

    #[test]
    fn the_memory_is_read_from_meminfo() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(total(dir.path()), None);
        std::fs::write(
            dir.path().join("meminfo"),
            "MemTotal:        2015304 kB\nMemFree:  1 kB\n",
        )
        .unwrap();
        assert_eq!(total(dir.path()), Some(2_015_304 * 1024));
    }
}
