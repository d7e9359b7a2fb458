//! What is mounted, and mounting what is not yet: everything here may be done again by a node
//! process that was started anew.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

/// Enough for the mounts of several hundred pods.
const MOUNTINFO_BYTES: u64 = 16 << 20;

/// One line of mountinfo (Linux: proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mounted {
    /// Major and minor number of the device, `8:3`.
    pub(super) device: String,
    /// Which directory of the file system.
    pub(super) root: String,
    /// Where.
    pub(super) target: PathBuf,
    /// Type of the file system.
    pub(super) kind: String,
    /// What was mounted, `/dev/sda4`.
    pub(super) source: String,
}

/// What is mounted, in the order of mounting.
pub(super) fn mounted(proc: &Path) -> io::Result<Vec<Mounted>> {
    let bytes = crate::node::read_bounded(&proc.join("self/mountinfo"), MOUNTINFO_BYTES)?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

fn parse(text: &str) -> Vec<Mounted> {
    let parse = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let mut file_system = file_system.split(' ');
        Some(Mounted {
            device: mount.next()?.to_owned(),
            root: mount.next()?.to_owned(),
            target: PathBuf::from(mount.next()?),
            kind: file_system.next()?.to_owned(),
            source: file_system.next()?.to_owned(),
        })
    };
    text.lines().filter_map(parse).collect()
}

/// What lies uppermost on `target`.
pub(super) fn at<'a>(mounts: &'a [Mounted], target: &Path) -> Option<&'a Mounted> {
    mounts.iter().rev().find(|mount| mount.target == target)
}

/// Makes a directory with this mode, and those above it with 0755.
pub(super) fn directory(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Mounts a tmpfs of at most `bytes`. Without nosuid and nodev: containers run from it, and
/// their images have both.
pub(super) fn tmpfs(target: &Path, bytes: u64, mode: u32) -> io::Result<()> {
    let options = std::ffi::CString::new(format!("mode={mode:04o},size={bytes}"))?;
    mount(
        "tmpfs",
        target,
        "tmpfs",
        MountFlags::empty(),
        options.as_c_str(),
    )?;
    Ok(())
}

/// Mounts a file system of a disk read-write. Errors make it read-only rather than worse. Without
/// nosuid and nodev, as above.
pub(super) fn ext4(device: &Path, target: &Path) -> io::Result<()> {
    mount(
        device,
        target,
        "ext4",
        MountFlags::NOATIME,
        c"errors=remount-ro",
    )?;
    Ok(())
}

/// Keeps what is mounted below `target` later from appearing in the places it is bound to, and
/// the other way round.
pub(super) fn keep_apart(target: &Path) -> io::Result<()> {
    Ok(mount_change(target, MountPropagationFlags::PRIVATE)?)
}

/// Lets a directory appear at `target` too.
pub(super) fn bind(directory: &Path, target: &Path) -> io::Result<()> {
    Ok(mount_bind(directory, target)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
29 1 0:25 / / rw,relatime shared:1 - tmpfs tmpfs rw,mode=755
33 32 8:3 / /run/haulboot/haul ro,nosuid shared:5 - ext4 /dev/sda3 ro
34 32 8:17 / /run/haulboot/state rw,noatime - ext4 /dev/sdb1 rw
35 29 8:17 /rancher /var/lib/rancher rw,noatime shared:6 - ext4 /dev/sdb1 rw
36 29 0:44 / /var/lib/rancher rw shared:7 - tmpfs tmpfs rw
nonsense
";

    #[test]
    fn the_uppermost_of_two_mounts_in_one_place_counts() {
        let mounts = parse(MOUNTINFO);
        assert_eq!(mounts.len(), 5);
        let found = at(&mounts, Path::new("/var/lib/rancher")).unwrap();
        assert_eq!(found.kind, "tmpfs");
        let state = at(&mounts, Path::new("/run/haulboot/state")).unwrap();
        assert_eq!((state.device.as_str(), state.root.as_str()), ("8:17", "/"));
        assert_eq!(state.source, "/dev/sdb1");
        assert_eq!(at(&mounts, Path::new("/var/lib")), None);
    }

    #[test]
    fn a_directory_is_made_once_and_a_file_in_its_place_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        directory(&path, 0o711).unwrap();
        directory(&path, 0o711).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(directory(&dir.path().join("file"), 0o755).is_err());
    }
}
