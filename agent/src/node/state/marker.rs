//! A note at the end of a device while its file system is being made.
//!
//! Making a file system takes many writes, and power may fail between any two. What is left then
//! is neither empty nor a file system, and would be refused at the next boot as something foreign.
//! So before the first write a note goes into the last MiB, which the file system leaves free,
//! and it is removed when the file system is whole. A device with the note belongs to Haulboot
//! and holds nothing yet: its file system is made again from the start.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use uuid::Uuid;

use super::signature::{END, Ends};

/// Where the note begins, in bytes before the end.
const BEFORE_END: u64 = 4096;
const TEXT: &[u8] = b"haulboot: a file system is being made here\n";

fn text(cluster: Uuid) -> Vec<u8> {
    [TEXT, cluster.to_string().as_bytes()].concat()
}

/// Whether this cluster's note is there.
pub(super) fn is_set(ends: &Ends, cluster: Uuid) -> bool {
    let text = text(cluster);
    ends.at_end(BEFORE_END, text.len()) == Some(&text)
}

/// Opens a device for writing, for nobody else. Fails with `EBUSY` if it, or a partition of it, is
/// mounted or otherwise in use (Linux: block/bdev.c, `bd_prepare_to_claim`).
pub(super) fn open_alone(path: &Path) -> io::Result<File> {
    // without O_CREAT, O_EXCL has a meaning for block devices alone
    let exclusive = rustix::fs::OFlags::EXCL.bits().cast_signed();
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(exclusive)
        .open(path)
}

/// Writes the note, and then zeros over what was at either end: partition tables and signatures
/// of an earlier life are gone before the file system comes. `bytes` is the size of the device.
pub(super) fn set(device: &File, bytes: u64, cluster: Uuid) -> io::Result<()> {
    let mut last = vec![0; END as usize];
    let at = last.len() - BEFORE_END as usize;
    for (byte, from) in last.iter_mut().skip(at).zip(text(cluster)) {
        *byte = from;
    }
    // the note first: as soon as anything is lost, it says why
    device.write_all_at(&last, bytes.saturating_sub(END))?;
    device.sync_all()?;
    device.write_all_at(&vec![0; END as usize], 0)?;
    device.sync_all()
}

/// Removes the note: the file system is whole.
pub(super) fn remove(device: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; BEFORE_END as usize];
    device.write_all_at(&zeros, bytes.saturating_sub(BEFORE_END))?;
    device.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_is_found_until_it_is_removed_and_only_by_its_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let bytes = (8 << 20) + 512;
        std::fs::write(&path, vec![7; bytes as usize]).unwrap();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let device = open_alone(&path).unwrap();
        set(&device, bytes, one).unwrap();
        let ends = Ends::read(&path, bytes).unwrap();
        assert!(is_set(&ends, one) && !is_set(&ends, other));
        assert_eq!(ends.held(), ["data of a kind unknown to Haulboot"]);
        remove(&device, bytes).unwrap();
        let ends = Ends::read(&path, bytes).unwrap();
        assert!(!is_set(&ends, one));
        assert!(ends.held().is_empty(), "both ends are zero");
    }
}
