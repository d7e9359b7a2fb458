//! Files in /etc, and the one program that the bundle needs of the host.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use super::{Found, ensure, read};
use crate::config::{CONFIG, Config};
use crate::report::verdict;

pub(super) fn check(config: &Config, bundled: bool) {
    let name = crate::run::node_name(config);
    if bundled {
        verdict("/bin/sh runs a script", script());
    }
    let passwd = read("/etc/passwd");
    verdict(
        "/etc/passwd names root",
        passwd.and_then(|text| {
            let root = text.lines().find(|line| line.starts_with("root:"));
            ensure(
                root.is_some_and(|line| line.split(':').nth(2) == Some("0")),
                text.trim(),
            )
        }),
    );
    verdict(
        "/etc/group names root",
        read("/etc/group").and_then(|text| {
            ensure(
                text.lines().any(|line| line.starts_with("root:")),
                text.trim(),
            )
        }),
    );
    verdict(
        "/etc/nsswitch.conf reads files first",
        read("/etc/nsswitch.conf").and_then(|text| {
            ensure(
                text.lines()
                    .any(|line| line.starts_with("hosts:") && line.contains("files")),
                text.trim(),
            )
        }),
    );
    for wanted in ["localhost", name.as_str()] {
        verdict(&format!("/etc/hosts has {wanted}"), hosts(wanted));
    }
    let resolv = config
        .get("resolv-conf")
        .unwrap_or("/etc/resolv.conf")
        .to_owned();
    verdict(
        "resolv.conf names a server that pods can ask",
        resolver(&resolv),
    );
    verdict(
        "os-release is of no distribution",
        read("/etc/os-release").and_then(|text| {
            let id = text
                .lines()
                .find_map(|line| line.strip_prefix("ID="))
                .unwrap_or_default();
            let id = id.trim_matches('"');
            let known = ["", "alpine", "ubuntu", "debian", "rhel", "centos", "fedora"];
            ensure(!known.contains(&id) && text.contains("PRETTY_NAME="), id)
        }),
    );
    verdict(
        "machine-id is 32 hexadecimal digits",
        read("/etc/machine-id").and_then(|text| {
            let id = text.trim();
            let digits = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
            ensure(digits && id.bytes().any(|b| b != b'0'), id)
        }),
    );
    verdict("the host name is legal and the node's", host_name(&name));
    verdict("config.yaml is root's alone", mode(CONFIG));
    verdict(
        "the node password is root's alone",
        mode("/etc/rancher/node/password"),
    );
    verdict(
        "the node password is one line",
        read("/etc/rancher/node/password").and_then(|text| {
            // the password itself is told nobody
            ensure(
                text.trim().len() >= 32 && text.trim().lines().count() == 1,
                text.trim().len(),
            )
        }),
    );
}

/// As iptables-detect.sh is run: by the kernel, through the bundle's shell.
fn script() -> Found {
    let path = "/run/k3s-probe.sh";
    let done = (|| -> std::io::Result<std::process::Output> {
        std::fs::write(path, "#!/bin/sh\necho the shell works\n")?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
        Command::new(path).stdin(Stdio::null()).output()
    })();
    let _ = std::fs::remove_file(path);
    let output = done.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure(output.status.success() && said == "the shell works", said)
}

fn hosts(wanted: &str) -> Found {
    let text = read("/etc/hosts")?;
    let line = text.lines().find(|line| {
        line.split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .any(|n| n == wanted)
    });
    match line {
        Some(line) => Ok(line.to_owned()),
        None => Err(text.trim().to_owned()),
    }
}

/// k3s: pkg/agent/config, locateOrGenerateResolvConf.
fn resolver(path: &str) -> Found {
    let text = read(path)?;
    let servers: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver"))
        .map(str::trim)
        .collect();
    let good = servers.iter().all(|server| {
        server
            .parse::<IpAddr>()
            .is_ok_and(|a| !a.is_loopback() && !a.is_unspecified() && !a.is_multicast())
    });
    ensure(
        good && !servers.is_empty(),
        format!("{path}: {}", servers.join(" ")),
    )
}

fn host_name(node: &str) -> Found {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let legal = !host.is_empty()
        && host != "localhost"
        && host.len() <= 63
        && host
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        && !host.starts_with(['-', '.'])
        && !host.ends_with(['-', '.']);
    ensure(legal && host == node, host)
}

fn mode(path: &str) -> Found {
    let mode = std::fs::metadata(path).map_err(|error| format!("{path}: {error}"))?;
    let mode = mode.permissions().mode() & 0o777;
    ensure(mode & 0o077 == 0, format!("{mode:o}"))
}
