//! What k3s leaves behind when it ends: shims in its cgroup, pods below `kubepods`, mounts.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use rustix::mount::MountFlags;
use serde_json::json;

use crate::conditions::tries;
use crate::report;

const KUBEPODS: &str = "/sys/fs/cgroup/kubepods";
/// tmpfs, as a pod's projected volume; a rootfs; both below what k3s uses.
const MOUNTS: [&str; 2] = [
    "/var/lib/kubelet/pods/probe/volumes/kubernetes.io~projected/kube-api-access",
    "/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/probe/rootfs",
];
const NETNS: &str = "/run/netns/cni-probe";

/// Starts a "pod" and its "shim", which outlive the probe; says what of it is there.
pub fn start() -> Result<()> {
    let pod = Path::new(KUBEPODS).join("pod1");
    fs::create_dir_all(&pod).context("making a pod's cgroup")?;
    let shim = sleeper("shim")?;
    let container = sleeper("pod")?;
    let file = pod.join("cgroup.procs");
    fs::write(&file, container.id().to_string())
        .with_context(|| format!("writing to {}", file.display()))?;
    for place in MOUNTS {
        fs::create_dir_all(place).with_context(|| format!("making {place}"))?;
        // k3s that was started again finds its mounts
        if !mounted(place) {
            rustix::mount::mount("tmpfs", place, "tmpfs", MountFlags::empty(), c"size=64k")
                .with_context(|| format!("mounting {place}"))?;
        }
    }
    if !mounted(NETNS) {
        fs::create_dir_all("/run/netns")?;
        tries::attempt("netns", NETNS).map_err(|why| anyhow::anyhow!("{NETNS}: {why}"))?;
    }
    report::event(&json!({"event": "pod", "pid": container.id(), "shim": shim.id()}));
    Ok(())
}

fn mounted(place: &str) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(place))
}

fn sleeper(what: &str) -> Result<Child> {
    Command::new("/proc/self/exe")
        .args(["--sleep", what])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting a {what}"))
}

/// The sleeper's part: in a session of its own, until something ends it.
pub fn sleep() -> ! {
    // fails only for the leader of one, who has it already
    let _ = rustix::process::setsid();
    loop {
        std::thread::park();
    }
}
