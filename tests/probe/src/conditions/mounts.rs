//! Mounts, device files, directories.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::tries::attempt;
use super::{Found, ensure, read};
use crate::config::Config;
use crate::report::verdict;

/// File systems that kubelet's cAdvisor can account for (google/cadvisor: fs).
const KNOWN: [&str; 5] = ["tmpfs", "overlay", "ext4", "xfs", "btrfs"];

pub(super) fn check(config: &Config) {
    let data = config.data_dir();
    let store = data.join("agent/containerd");
    let table = Table::read();
    let on = |path: &str| table.on(path);
    verdict(
        "root is an ordinary file system",
        on("/").and_then(|m| {
            ensure(
                KNOWN.contains(&m.kind.as_str()),
                format!("{} {}", m.kind, m.options),
            )
        }),
    );
    verdict(
        "root is a shared mount",
        on("/").and_then(|m| ensure(m.shared, m.optional)),
    );
    let new_root = "/run/k3s-probe-root";
    verdict("pivot_root works", attempt("pivot-root", new_root));
    let _ = fs::remove_dir(new_root);
    verdict(
        "overlayfs works below the data directory",
        made(&store).and_then(|()| attempt("overlay", &store.display().to_string())),
    );

    verdict(
        "/dev/kmsg can be read",
        OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open("/dev/kmsg")
            .map(|_| "opened"),
    );
    verdict(
        "/dev/pts for exec -t",
        on("/dev/pts").and_then(|m| {
            ensure(
                m.kind == "devpts" && m.options.contains("ptmxmode=666"),
                format!("{} {}", m.kind, m.options),
            )
        }),
    );
    for (path, kind) in [
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev", "devtmpfs"),
        ("/run", "tmpfs"),
        ("/tmp", "tmpfs"),
    ] {
        let found = on(path).and_then(|m| {
            ensure(
                m.kind == kind && m.flag("rw"),
                format!("{} {}", m.kind, m.flags),
            )
        });
        verdict(&format!("{path} is a {kind}"), found);
    }
    for path in ["/tmp", "/dev/shm"] {
        verdict(&format!("{path} is everybody's"), mode(path, 0o1777));
    }
    verdict(
        "programs run from /run",
        on("/run").and_then(|m| ensure(!m.flag("noexec"), m.flags)),
    );
    verdict(
        "devices work on /dev",
        on("/dev").and_then(|m| ensure(!m.flag("nodev"), m.flags)),
    );
    for name in ["null", "zero", "full", "random", "urandom", "tty", "ptmx"] {
        verdict(
            &format!("/dev/{name}"),
            fs::metadata(format!("/dev/{name}")).map(|_| "is there"),
        );
    }
    for (link, target) in [("/dev/fd", "/proc/self/fd"), ("/var/run", "/run")] {
        verdict(&format!("{link} leads to {target}"), leads(link, target));
    }

    verdict(
        "the data directory can be written to",
        made(&data).and_then(|()| {
            let file = data.join("k3s-probe.tmp");
            let done = fs::write(&file, "x").and_then(|()| fs::remove_file(&file));
            done.map(|()| data.display().to_string())
                .map_err(|error| error.to_string())
        }),
    );
    let around = table.around(&data);
    verdict(
        "programs run from the data directory",
        around.clone().and_then(|m| {
            ensure(
                !m.flag("noexec") && m.flag("rw"),
                format!("{} {}", m.point, m.flags),
            )
        }),
    );
    verdict(
        "a RAM image store has its own bound",
        around.and_then(|m| match m.kind.as_str() {
            "tmpfs" => table.on(&store.display().to_string()).and_then(|m| {
                ensure(m.kind == "tmpfs", &m.kind)?;
                bound(&m.point)
            }),
            other => Ok(format!("state is on {other}")),
        }),
    );
    verdict("root is not nearly full", room("/"));
    verdict(
        "a RAM root has a bound",
        on("/").and_then(|m| match m.kind.as_str() {
            "tmpfs" => bound("/"),
            other => Ok(other.to_owned()),
        }),
    );
    for name in ["kubectl", "crictl", "ctr"] {
        let link = format!("/usr/local/bin/{name}");
        verdict(
            &format!("{name} leads to k3s"),
            fs::canonicalize(link)
                .map_err(|e| e.to_string())
                .and_then(|path| {
                    let k3s = fs::canonicalize("/usr/local/bin/k3s").map_err(|e| e.to_string())?;
                    ensure(path == k3s, path.display())
                }),
        );
    }
}

fn made(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| format!("mkdir {}: {error}", path.display()))
}

fn mode(path: &str, wanted: u32) -> Found {
    let mode = fs::metadata(path)
        .map_err(|e| e.to_string())?
        .permissions()
        .mode()
        & 0o7777;
    ensure(mode == wanted, format!("{mode:o}"))
}

fn leads(link: &str, target: &str) -> Found {
    let real = |path| fs::canonicalize(path).map_err(|error| format!("{path}: {error}"));
    ensure(
        real(link)? == real(target)?,
        fs::read_link(link).unwrap_or_default().display(),
    )
}

/// Below 80 %: at 85 % kubelet collects images, at 95 % it evicts every pod.
/// The size of a tmpfs. The kernel names it among the options unless it is half of the memory, and
/// one without a bound has no blocks (Linux: mm/shmem.c).
fn bound(path: &str) -> Found {
    let stat = rustix::fs::statvfs(path).map_err(|error| error.to_string())?;
    let mib = (stat.f_blocks * stat.f_frsize) >> 20;
    ensure(stat.f_blocks > 0, format!("{mib} MiB"))
}

fn room(path: &str) -> Found {
    let stat = rustix::fs::statvfs(path).map_err(|error| error.to_string())?;
    let percent = match stat.f_blocks {
        0 => 0,
        all => 100 * (all - stat.f_bfree.min(all)) / all,
    };
    ensure(
        percent < 80,
        format!(
            "{percent} % of {} MiB",
            (stat.f_blocks * stat.f_frsize) >> 20
        ),
    )
}

/// proc_pid_mountinfo(5).
#[derive(Debug)]
struct Table(Vec<Mount>);

#[derive(Clone, Debug)]
struct Mount {
    point: String,
    flags: String,
    optional: String,
    shared: bool,
    kind: String,
    options: String,
}

impl Mount {
    fn flag(&self, name: &str) -> bool {
        self.flags.split(',').any(|flag| flag == name)
    }
}

impl Table {
    fn read() -> Table {
        Table::parse(&read("/proc/self/mountinfo").unwrap_or_default())
    }

    fn parse(text: &str) -> Table {
        Table(text.lines().filter_map(mount).collect())
    }

    /// The mount on exactly that path, the last one if there are several.
    fn on(&self, point: &str) -> Result<Mount, String> {
        let found = self.0.iter().rev().find(|mount| mount.point == point);
        found
            .cloned()
            .ok_or_else(|| format!("nothing is mounted on {point}"))
    }

    /// The mount that holds a path.
    fn around(&self, path: &Path) -> Result<Mount, String> {
        let real = fs::canonicalize(path).map_err(|error| error.to_string())?;
        let held = self.0.iter().filter(|mount| real.starts_with(&mount.point));
        held.max_by_key(|mount| mount.point.len())
            .cloned()
            .ok_or_else(|| "no mount".to_owned())
    }
}

fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let mut right = right.split(' ');
    let optional = left.get(6..)?.join(" ");
    Some(Mount {
        point: (*left.get(4)?).to_owned(),
        flags: (*left.get(5)?).to_owned(),
        shared: optional.contains("shared:"),
        optional,
        kind: right.next()?.to_owned(),
        options: right.nth(1)?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_on_a_point_counts() {
        let table = Table::parse(
            "1 1 0:2 / / rw - rootfs none rw\n22 1 0:20 / / rw,noatime shared:1 - tmpfs root \
             rw,size=500k\n23 22 0:21 / /dev rw,nosuid - devtmpfs dev rw\n",
        );
        let root = table.on("/").unwrap();
        assert_eq!(
            (root.kind.as_str(), root.options.as_str()),
            ("tmpfs", "rw,size=500k")
        );
        assert!(root.shared && root.flag("noatime") && !root.flag("noexec"));
        assert!(!table.on("/dev").unwrap().shared);
        assert!(table.on("/sys").is_err());
    }
}
