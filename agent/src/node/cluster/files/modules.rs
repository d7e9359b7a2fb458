//! Kernel modules and settings that k3s expects to find.
//!
//! The kernel and k3s ask for most modules themselves, by `/sbin/modprobe`, while k3s starts; some
//! of them too late, or never, and k3s ends or falls silent without them. So all are loaded before.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Modules in the order in which they are loaded, and what does not work without them. The list is
/// that of a k3s which ran without any other.
const NEEDED: &[(&str, &str)] = &[
    ("overlay", "images can't be unpacked: no pod starts"),
    (
        "br_netfilter",
        "pods of one node can't reach each other by Services",
    ),
    ("nf_conntrack", "no Service works"),
    ("nf_tables", "no Service works"),
    ("ip_tables", "k3s ends as soon as it starts"),
    ("nft_chain_nat", "no Service works"),
    ("nft_compat", "no Service works"),
    ("nft_limit", "network policies can't limit what they log"),
    ("nft_log", "network policies can't log"),
    ("xt_comment", "no Service works"),
    ("xt_conntrack", "no Service works"),
    ("xt_nfacct", "kube-proxy can't count"),
    ("nfnetlink_acct", "kube-proxy can't count"),
    ("xt_mark", "no Service works"),
    ("xt_MASQUERADE", "pods can't reach other networks"),
    ("xt_tcpudp", "no Service works"),
    ("xt_nat", "no Service works"),
    ("xt_addrtype", "NodePorts do not work"),
    (
        "ipt_REJECT",
        "Services without a pod behind them are not refused",
    ),
    ("ip_set", "network policies do not work"),
    ("ip_set_hash_ip", "network policies do not work"),
    ("ip_set_hash_net", "network policies do not work"),
    ("xt_set", "network policies do not work"),
    ("xt_multiport", "network policies do not work"),
    ("xt_limit", "network policies can't limit what they log"),
    (
        "xt_statistic",
        "Services with more than one pod do not work",
    ),
    ("xt_recent", "session affinity of Services does not work"),
    (
        "nf_conntrack_netlink",
        "UDP Services keep sending to pods that are gone",
    ),
    ("xt_NFLOG", "network policies can't log"),
    ("nfnetlink_log", "network policies can't log"),
    ("xt_physdev", "network policies do not work"),
    ("vxlan", "pods of different nodes can't reach each other"),
    ("veth", "no pod gets a network"),
];

/// Loaded before all others where there is one: what needs crc32c says so only to modprobe(8).
const FIRST: &str = "crc32c_generic";

/// Nice to have: bandwidth limits of pods, pods with tunnels or file systems of their own.
const OPTIONAL: &[&str] = &[
    "sch_tbf",
    "sch_ingress",
    "act_mirred",
    "ifb",
    "dummy",
    "tun",
    "fuse",
];

/// Path below `/proc/sys`, value, and whether k3s suffers where the kernel has no such setting.
const SETTINGS: &[(&str, &str, bool)] = &[
    ("net/ipv4/ip_forward", "1", true),
    ("net/ipv4/conf/all/forwarding", "1", true),
    ("net/ipv4/conf/default/forwarding", "1", true),
    ("net/bridge/bridge-nf-call-iptables", "1", true),
    ("net/bridge/bridge-nf-call-ip6tables", "1", false),
];

/// How long modprobe may take for everything, and for one module with what that needs. It reads from
/// the stick, and emulated machines are slow.
const PATIENCE: Duration = Duration::from_secs(120);
const PATIENCE_FOR_ONE: Duration = Duration::from_secs(20);
/// Bytes of what it says that are kept.
const SAID_BYTES: u64 = 4096;

/// Loads the modules and changes the settings; gives a line for each thing that will not work.
pub(super) fn prepare(root: &Path, proc: &Path) -> Vec<String> {
    let modprobe = root.join("sbin/modprobe");
    let mut notices = load(|modules| {
        let patience = match modules {
            [_] => PATIENCE_FOR_ONE,
            _ => PATIENCE,
        };
        run(&modprobe, modules, Instant::now() + patience)
    });
    notices.extend(settings(proc));
    notices
}

/// Loads everything at once, and, only if that failed, one by one to learn which. `modprobe` is
/// given names and says why it failed.
fn load(mut modprobe: impl FnMut(&[&str]) -> Result<(), String>) -> Vec<String> {
    let needed = || NEEDED.iter().map(|(module, _)| *module);
    let all: Vec<&str> = [FIRST].into_iter().chain(needed()).collect();
    let mut lines: Vec<(String, String)> = Vec::new();
    if modprobe(&all).is_err() {
        for (module, without) in NEEDED {
            if let Err(why) = modprobe(&[module]) {
                lines.push((format!("{module} ({why})"), (*without).to_owned()));
            }
        }
    }
    // whether these are there is nobody's concern until a pod wants them
    let _ = modprobe(OPTIONAL);
    let mut notices: Vec<String> = Vec::new();
    while let Some((_, without)) = lines.first().cloned() {
        let (same, other) = lines.into_iter().partition(|line| line.1 == without);
        lines = other;
        let same: Vec<(String, String)> = same;
        let modules: Vec<&str> = same.iter().map(|(module, _)| module.as_str()).collect();
        notices.push(format!(
            "{without}: this kernel can't load {}",
            modules.join(", ")
        ));
    }
    notices
}

/// Runs modprobe over some modules and waits for it until the deadline.
fn run(program: &Path, modules: &[&str], deadline: Instant) -> Result<(), String> {
    let mut child = Command::new(program)
        .args(["-a", "--"])
        .args(modules)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("starting {}: {error}", program.display()))?;
    let said = wait(&mut child, deadline);
    if said.is_err() {
        // the kernel may hold it; then it is PID 1's to reap
        let _ = child.kill();
        let _ = child.try_wait();
    }
    match said.map_err(|error| error.to_string())? {
        (true, _) => Ok(()),
        (false, said) => Err(said),
    }
}

/// Waits for the end of a child that says little: its exit and the last line that it said.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<(bool, String)> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::other("modprobe does not end"));
        }
        let mut fds = [PollFd::new(&ended, PollFlags::IN)];
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let success = child.wait()?.success();
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(SAID_BYTES).read_to_end(&mut said)?;
    }
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().last().unwrap_or("it says nothing");
    let why = last.rsplit(": ").next().unwrap_or(last);
    Ok((success, why.to_owned()))
}

fn settings(proc: &Path) -> Vec<String> {
    let mut notices = Vec::new();
    for (name, value, needed) in SETTINGS {
        let path = proc.join("sys").join(name);
        // not made where it is missing: this is the kernel's
        let written = OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(value.as_bytes()));
        if let (Err(error), true) = (written, *needed) {
            let name = name.replace('/', ".");
            notices.push(format!("setting {name} to {value}: {error}"));
        }
    }
    notices
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn all_is_loaded_in_one_go_where_nothing_fails() {
        let mut calls = Vec::new();
        let notices = load(|modules| {
            calls.push(modules.join(" "));
            Ok(())
        });
        assert_eq!(notices, Vec::<String>::new());
        assert_eq!(calls.len(), 2);
        assert!(calls[0].starts_with("crc32c_generic overlay br_netfilter nf_conntrack nf_tables"));
        assert!(calls[1].starts_with("sch_tbf"));
    }

    #[test]
    fn what_fails_is_named_with_what_will_not_work() {
        let missing = [
            "xt_nfacct",
            "nfnetlink_acct",
            "vxlan",
            "tun",
            "crc32c_generic",
        ];
        let notices = load(
            |modules| match modules.iter().any(|module| missing.contains(module)) {
                true => Err("no such module".to_owned()),
                false => Ok(()),
            },
        );
        assert_eq!(
            notices,
            [
                "kube-proxy can't count: this kernel can't load xt_nfacct (no such module), \
                 nfnetlink_acct (no such module)",
                "pods of different nodes can't reach each other: this kernel can't load vxlan \
                 (no such module)"
            ]
        );
    }

    #[test]
    fn modprobe_is_called_and_its_last_word_is_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("modprobe");
        let script = "#!/bin/sh\necho \"$*\" > \"$0.called\"\n[ \"$3\" = good ] && exit 0\n\
                      echo 'error: loading module bad: no such module' >&2\nexit 1\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        assert_eq!(run(&program, &["good"], deadline), Ok(()));
        let called = fs::read_to_string(dir.path().join("modprobe.called")).unwrap();
        assert_eq!(called, "-a -- good\n");
        let failed = run(&program, &["bad"], deadline);
        assert_eq!(failed, Err("no such module".to_owned()));
        fs::write(&program, "#!/bin/sh\nexec sleep 600\n").unwrap();
        let late = run(&program, &["x"], Instant::now() + Duration::from_millis(50));
        assert_eq!(late, Err("modprobe does not end".to_owned()));
        let none = run(&dir.path().join("none"), &["x"], deadline);
        assert!(none.unwrap_err().contains("starting"));
    }

    #[test]
    fn settings_are_changed_and_never_made() {
        let dir = tempfile::tempdir().unwrap();
        let bridge = dir.path().join("sys/net/bridge");
        fs::create_dir_all(&bridge).unwrap();
        fs::write(bridge.join("bridge-nf-call-iptables"), "0\n").unwrap();
        let notices = settings(dir.path());
        let value = fs::read_to_string(bridge.join("bridge-nf-call-iptables")).unwrap();
        assert!(value.starts_with('1'));
        assert!(!bridge.join("bridge-nf-call-ip6tables").exists());
        assert_eq!(notices.len(), 3);
        assert!(notices[0].starts_with("setting net.ipv4.ip_forward to 1: "));
    }
}
