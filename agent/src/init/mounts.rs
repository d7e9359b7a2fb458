//! What is mounted where, as tables, and in which order it is unmounted.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

/// One line of a mount table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mount {
    target: &'static str,
    kind: &'static str,
    flags: MountFlags,
    data: &'static str,
    /// Whether the boot suffers without it; the others depend on what the kernel was built with.
    needed: bool,
}

const NOSUID: MountFlags = MountFlags::NOSUID;
const QUIET: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

const fn needed(
    target: &'static str,
    kind: &'static str,
    flags: MountFlags,
    data: &'static str,
) -> Mount {
    Mount {
        target,
        kind,
        flags,
        data,
        needed: true,
    }
}

const fn wished(target: &'static str, kind: &'static str, flags: MountFlags) -> Mount {
    Mount {
        target,
        kind,
        flags,
        data: "",
        needed: false,
    }
}

/// Mounted first of all, still in the initramfs. They are moved to the new root later.
/// `/dev` without `nodev` and `/run` with exec, as k3s needs them.
pub(super) const EARLY: &[Mount] = &[
    needed("/proc", "proc", QUIET, ""),
    needed("/sys", "sysfs", QUIET, ""),
    needed("/dev", "devtmpfs", NOSUID, "mode=0755"),
    needed(
        "/dev/pts",
        "devpts",
        NOSUID.union(MountFlags::NOEXEC),
        "gid=5,mode=620,ptmxmode=666",
    ),
    needed(
        "/dev/shm",
        "tmpfs",
        NOSUID.union(MountFlags::NODEV),
        "mode=1777",
    ),
    needed(
        "/run",
        "tmpfs",
        NOSUID.union(MountFlags::NODEV),
        "mode=0755,size=20%",
    ),
];

/// Mounted on the new root.
pub(super) const LATE: &[Mount] = &[
    needed(
        "/tmp",
        "tmpfs",
        NOSUID.union(MountFlags::NODEV),
        "mode=1777,size=20%",
    ),
    needed("/dev/mqueue", "mqueue", QUIET, ""),
    needed(
        "/sys/fs/cgroup",
        "cgroup2",
        QUIET,
        "nsdelegate,memory_recursiveprot",
    ),
    wished(
        "/dev/hugepages",
        "hugetlbfs",
        NOSUID.union(MountFlags::NODEV),
    ),
    wished("/sys/kernel/security", "securityfs", QUIET),
    wished("/sys/kernel/debug", "debugfs", QUIET),
    wished("/sys/kernel/tracing", "tracefs", QUIET),
    wished("/sys/kernel/config", "configfs", QUIET),
    wished("/sys/fs/bpf", "bpf", QUIET),
    wished("/sys/fs/pstore", "pstore", QUIET),
    wished(
        "/sys/firmware/efi/efivars",
        "efivarfs",
        QUIET.union(MountFlags::RDONLY),
    ),
];

/// Links that devtmpfs lacks and programs expect.
const DEV_LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Mounts a table from top to bottom and returns a sentence for each line the boot suffers without
/// and that could not be mounted. What is mounted already counts as done.
pub(super) fn mount_all(table: &[Mount]) -> Vec<String> {
    let mut problems = Vec::new();
    for line in table {
        // sysfs and the like bring their directories along; where they don't, the feature is missing
        let _ = fs::create_dir_all(line.target);
        let data = CString::new(line.data).unwrap_or_default();
        match mount(
            line.kind,
            line.target,
            line.kind,
            line.flags,
            data.as_c_str(),
        ) {
            Ok(()) | Err(Errno::BUSY) => {}
            Err(error) if line.needed => {
                problems.push(format!(
                    "mounting {} on {}: {error}",
                    line.kind, line.target
                ));
            }
            Err(_) => {}
        }
    }
    problems
}

/// Makes the links in `/dev`.
pub(super) fn dev_links() {
    for (to, link) in DEV_LINKS {
        if !Path::new(link).exists() {
            let _ = symlink(to, link);
        }
    }
}

/// One mount as `/proc/self/mountinfo` lists it (Linux: proc(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mounted {
    /// Where.
    pub(super) target: String,
    /// Type of the file system.
    pub(super) kind: String,
}

/// Reads mountinfo; lines it does not understand are left out.
pub(super) fn parse_mountinfo(text: &str) -> Vec<Mounted> {
    let parse = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        Some(Mounted {
            target: unescape(mount.split(' ').nth(4)?),
            kind: file_system.split(' ').next()?.to_owned(),
        })
    };
    text.lines().filter_map(parse).collect()
}

/// What to unmount on the way down, in this order: the last mounted first, so that nothing is
/// unmounted below another mount. The root and what the last steps need stay.
pub(super) fn unmount_order(mounts: &[Mounted]) -> Vec<String> {
    const KEPT: [&str; 5] = ["/", "/proc", "/sys", "/dev", "/run"];
    let kept = |target: &str| {
        KEPT.contains(&target) || target.starts_with("/sys/") || target.starts_with("/dev/")
    };
    let targets = mounts.iter().rev().map(|mount| &mount.target);
    targets.filter(|target| !kept(target)).cloned().collect()
}

/// Turns mountinfo's octal escapes (`\040` is a space) back.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match (first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
29 1 0:25 / / rw,relatime shared:1 - tmpfs tmpfs rw,mode=755
30 29 0:5 / /dev rw,nosuid shared:2 - devtmpfs devtmpfs rw
31 29 0:22 / /proc rw shared:3 - proc proc rw
32 29 0:23 / /run rw,nosuid shared:4 - tmpfs tmpfs rw
33 32 8:3 / /run/haulboot/haul ro,nosuid shared:5 - ext4 /dev/sda3 ro
34 29 0:40 / /var/lib/kubelet/pods/a\\040b rw shared:6 - tmpfs tmpfs rw
35 30 0:41 / /dev/pts rw shared:7 - devpts devpts rw
36 32 0:4 net:[4026532000] /run/netns/cni-1 rw shared:8 - nsfs nsfs rw
37 32 0:42 / /run/k3s/containerd/a/rootfs rw shared:9 - overlay overlay rw
";

    #[test]
    fn what_was_mounted_last_is_unmounted_first_and_the_root_stays() {
        assert_eq!(
            unmount_order(&parse_mountinfo(MOUNTINFO)),
            [
                "/run/k3s/containerd/a/rootfs",
                "/run/netns/cni-1",
                "/var/lib/kubelet/pods/a b",
                "/run/haulboot/haul"
            ]
        );
    }

    #[test]
    fn lines_without_a_separator_are_left_out() {
        assert_eq!(parse_mountinfo("nonsense\n\n1 2 3"), []);
    }

    #[test]
    fn a_table_names_parents_before_what_lies_below() {
        for table in [EARLY, LATE] {
            for (i, line) in table.iter().enumerate() {
                let mut later = table.iter().skip(i + 1);
                let parent =
                    later.find(|other| line.target.starts_with(&format!("{}/", other.target)));
                assert!(
                    parent.is_none(),
                    "{} is mounted before its parent",
                    line.target
                );
            }
        }
    }
}
