//! How k3s itself was started.

use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixDatagram;

use rustix::process::{Resource, getrlimit};

use super::{Found, ensure, read};
use crate::report::verdict;

/// What every program on a node gets.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Open files (k3s: install.sh, LimitNOFILE).
const FILES: u64 = 1_048_576;
/// SIGPIPE, which Rust programs ignore by themselves.
const SIGPIPE: u64 = 1 << 12;

/// Signals that are blocked or ignored stay so in every child.
pub(super) fn signals() {
    let set = |name: &str| -> Result<u64, String> {
        let status = read("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.unwrap_or_default().trim(), 16).map_err(|error| error.to_string())
    };
    verdict(
        "no signal is blocked",
        set("SigBlk:").and_then(|m| ensure(m == 0, format!("{m:x}"))),
    );
    verdict(
        "no signal is ignored",
        set("SigIgn:").and_then(|m| ensure(m & !SIGPIPE == 0, format!("{m:x}"))),
    );
}

pub(super) fn check() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    verdict(
        "INVOCATION_ID is not set",
        ensure(
            std::env::var_os("INVOCATION_ID").is_none(),
            variable("INVOCATION_ID"),
        ),
    );
    verdict(
        "HOME is /root",
        ensure(variable("HOME") == "/root", variable("HOME")),
    );
    let path = variable("PATH");
    verdict(
        "PATH has the six directories",
        ensure(
            path.contains(PATH) && path.split(':').all(|directory| directory.starts_with('/')),
            path,
        ),
    );
    verdict(
        "NOTIFY_SOCKET is a datagram socket",
        notify(&variable("NOTIFY_SOCKET")),
    );
    for (name, resource, least) in [
        ("open files", Resource::Nofile, Some(FILES)),
        ("processes", Resource::Nproc, None),
        ("core files", Resource::Core, None),
        ("locked memory", Resource::Memlock, None),
    ] {
        let limit = getrlimit(resource).current;
        let enough = match (limit, least) {
            (None, _) => true,
            (Some(limit), Some(least)) => limit >= least,
            (Some(_), None) => false,
        };
        let found = limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
        verdict(&format!("limit of {name}"), ensure(enough, found));
    }
    verdict(
        "standard input is /dev/null",
        std::fs::read_link("/proc/self/fd/0")
            .map_err(|error| error.to_string())
            .and_then(|path| ensure(path.as_os_str() == "/dev/null", path.display())),
    );
    verdict("only the standard streams are open", open());
    verdict("k3s leads a session", session());
    verdict("k3s is a child of PID 1", ensure(parent() == 1, parent()));
    verdict(
        "the out-of-memory killer spares k3s",
        read("/proc/self/oom_score_adj").and_then(|text| {
            ensure(
                text.trim().parse::<i32>().is_ok_and(|score| score < 0),
                text.trim(),
            )
        }),
    );
}

fn notify(path: &str) -> Found {
    let kind = std::fs::metadata(path)
        .map_err(|error| format!("{path:?}: {error}"))?
        .file_type();
    ensure(kind.is_socket(), path)?;
    let socket = UnixDatagram::unbound().map_err(|error| error.to_string())?;
    socket
        .connect(path)
        .map_err(|error| format!("{path}: {error}"))?;
    Ok(path.to_owned())
}

/// Descriptors that k3s inherits would be open in it and in every shim for ever.
fn open() -> Found {
    let entries = std::fs::read_dir("/proc/self/fd").map_err(|error| error.to_string())?;
    let mut others = Vec::new();
    for entry in entries.flatten() {
        let number: u32 = entry
            .file_name()
            .to_string_lossy()
            .parse()
            .unwrap_or_default();
        let target = std::fs::read_link(entry.path())
            .unwrap_or_default()
            .display()
            .to_string();
        // the probe's own: this directory, its port
        if number > 2 && !target.contains("/fd") && !target.starts_with("/dev/vport") {
            others.push(format!("{number}: {target}"));
        }
    }
    ensure(others.is_empty(), others.join(", "))
}

fn session() -> Found {
    let own = rustix::process::getpid();
    let leader = rustix::process::getsid(None).map_err(|error| error.to_string())?;
    ensure(
        own == leader,
        format!(
            "{} in session {}",
            own.as_raw_nonzero(),
            leader.as_raw_nonzero()
        ),
    )
}

fn parent() -> i32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get())
}
