//! Control groups, version 2.

use std::fs;

use super::{ensure, read};
use crate::report::verdict;

const ROOT: &str = "/sys/fs/cgroup";
/// statfs(2).
const CGROUP2_MAGIC: u64 = 0x6367_7270;
/// k3s asks for the first four, kubelet accounts by the fifth.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "memory", "pids", "io"];

pub(super) fn check() {
    let magic = rustix::fs::statfs(ROOT).map_err(|error| error.to_string());
    verdict(
        "cgroup2 is mounted",
        magic.and_then(|stat| {
            let magic = u64::from_ne_bytes(stat.f_type.to_ne_bytes());
            ensure(magic == CGROUP2_MAGIC, format!("{magic:#x}"))
        }),
    );
    verdict(
        "no cgroup of version 1 is mounted",
        read("/proc/self/mountinfo").and_then(|table| {
            let old = table.lines().find(|line| line.contains(" - cgroup "));
            ensure(old.is_none(), old.unwrap_or("none"))
        }),
    );
    for (name, file) in [
        ("cgroup2 with every controller", "cgroup.controllers"),
        (
            "cgroup2 hands every controller on",
            "cgroup.subtree_control",
        ),
    ] {
        verdict(
            name,
            read(&format!("{ROOT}/{file}")).and_then(|text| {
                let has = |wanted| text.split_whitespace().any(|name| name == wanted);
                ensure(CONTROLLERS.into_iter().all(has), text.trim())
            }),
        );
    }
    verdict(
        "PID 1 is in the root cgroup",
        read("/proc/1/cgroup").and_then(|text| ensure(text.trim() == "0::/", text.trim())),
    );
    verdict(
        "k3s has a cgroup of its own",
        own().and_then(|own| ensure(own != "/", own)),
    );
    verdict(
        "k3s's cgroup is a leaf",
        own().and_then(|own| {
            let entries =
                fs::read_dir(format!("{ROOT}{own}")).map_err(|error| error.to_string())?;
            let below = entries.flatten().find(|entry| entry.path().is_dir());
            let below = below.map(|entry| entry.file_name().to_string_lossy().into_owned());
            ensure(below.is_none(), below.unwrap_or(own))
        }),
    );
}

fn own() -> Result<String, String> {
    let text = read("/proc/self/cgroup")?;
    text.trim()
        .strip_prefix("0::")
        .map(str::to_owned)
        .ok_or(text)
}
