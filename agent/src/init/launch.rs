//! Between fork and the child proper: a process of the same binary that puts itself where the child
//! belongs, then becomes the child.
//!
//! The control group is joined before anything can be forked, so that nothing escapes it, and what
//! may wait for the stick (executing a file on it) waits here and not in PID 1.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use image_layout::paths::node;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, WaitStatus};

use super::cgroup;

/// The name the process is called by.
pub(crate) const CALLED: &str = "haulboot-launch";
/// The name of k3s among children.
pub(super) const K3S: &str = "k3s";
/// File descriptors a child may open; a registry has one for each client and blob, k3s has
/// containerd and etcd.
const FILES: u64 = 1 << 20;
/// Exit codes of this process where there is no child to become, as shells have them.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// k3s's environment, all of it. Never INVOCATION_ID: with it k3s takes itself for a unit of
/// systemd and has containers' groups made by systemd.
const K3S_ENVIRONMENT: [(&str, &str); 3] = [
    ("HOME", "/root"),
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("NOTIFY_SOCKET", node::NOTIFY),
];

/// The process. Arguments: name, oom_score_adj, for k3s its role.
pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(oom)) = (arguments.next(), arguments.next()) else {
        return ExitCode::from(2);
    };
    let is_k3s = name == K3S;
    join(&if is_k3s {
        cgroup::k3s()
    } else {
        cgroup::of(&name)
    });
    let _ = std::fs::write("/proc/self/oom_score_adj", oom);
    let _ = rustix::process::setsid();
    limit(Resource::Nofile, Some(FILES));
    let error = if is_k3s {
        for resource in [Resource::Nproc, Resource::Core, Resource::Memlock] {
            limit(resource, None);
        }
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let _ = rustix::process::chdir("/");
        Command::new(node::K3S)
            .arg0(K3S)
            .args(arguments.next())
            .env_clear()
            .envs(K3S_ENVIRONMENT)
            .exec()
    } else {
        Command::new("/proc/self/exe")
            .arg0("haulboot")
            .arg(&name)
            .exec()
    };
    eprintln!("error: starting {name}: {error}");
    ExitCode::from(match error.kind() {
        ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    })
}

fn join(group: &Path) {
    let joined = std::fs::create_dir_all(group)
        .and_then(|()| std::fs::write(group.join("cgroup.procs"), "0"));
    if let Err(error) = joined {
        // without control groups the child still does some of its work
        eprintln!("joining {}: {error}", group.display());
    }
}

/// `None` is no limit.
fn limit(resource: Resource, limit: Option<u64>) {
    let limit = Rlimit {
        current: limit,
        maximum: limit,
    };
    if let Err(error) = rustix::process::setrlimit(resource, limit) {
        eprintln!("setting the limit {resource:?}: {error}");
    }
}

/// How a process ended, in words: `exit code 1`, `signal 9`.
pub(super) fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

/// How k3s ended, in words; an end of this process before it became k3s has words of its own.
pub(super) fn describe_k3s(status: WaitStatus) -> String {
    let code = status
        .exit_status()
        .and_then(|code| u8::try_from(code).ok());
    match code {
        Some(NOT_FOUND) => format!("{} is not there", node::K3S),
        Some(NOT_EXECUTABLE) => format!("{} can't be executed", node::K3S),
        _ => describe(status),
    }
}
