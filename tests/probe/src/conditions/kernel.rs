//! Modules, sysctls, clock.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Found, ensure, read};
use crate::config::{Config, Role};
use crate::report::verdict;
use crate::tls::Ca;

/// What suffices with no modprobe anywhere, seen with a real k3s.
const MODULES: &str = "crc32c_generic overlay br_netfilter nf_conntrack nf_tables ip_tables \
    nft_chain_nat nft_compat nft_limit nft_log xt_comment xt_conntrack xt_nfacct nfnetlink_acct \
    xt_mark xt_MASQUERADE xt_tcpudp xt_nat xt_addrtype ipt_REJECT ip_set ip_set_hash_ip \
    ip_set_hash_net xt_set xt_multiport xt_limit xt_statistic xt_recent nf_conntrack_netlink \
    xt_NFLOG nfnetlink_log xt_physdev vxlan veth";
/// What the kernel asks for when such a link is made.
const ASKED: (&str, &str) = ("rtnl-link-dummy", "dummy");

/// What k3s and kubelet set themselves; that must be possible (k3s: pkg/agent/syssetup; kubelet).
const SET: [(&str, &str); 9] = [
    ("net/ipv4/conf/all/forwarding", "1"),
    ("net/ipv4/conf/default/forwarding", "1"),
    ("net/bridge/bridge-nf-call-iptables", "1"),
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
/// What nobody else sets, at least.
const AT_LEAST: [(&str, u64); 4] = [
    ("net/ipv4/ip_forward", 1),
    ("fs/inotify/max_user_instances", 8192),
    ("fs/inotify/max_user_watches", 524_288),
    ("vm/max_map_count", 262_144),
];
/// 2024: no clock of a machine that runs this was right before.
const SANE: Duration = Duration::from_secs(1_704_067_200);

pub(super) fn check() {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let directory = format!("/lib/modules/{release}");
    verdict(
        "modules.dep is there",
        read(&format!("{directory}/modules.dep")).and_then(|text| {
            ensure(
                !text.is_empty(),
                format!("{directory}, {} modules", text.lines().count()),
            )
        }),
    );
    let loaded = read("/proc/modules").unwrap_or_default();
    let builtin = read(&format!("{directory}/modules.builtin")).unwrap_or_default();
    for name in MODULES.split_whitespace() {
        verdict(&format!("module {name}"), module(name, &loaded, &builtin));
    }
    verdict("modprobe works", modprobe());
    for (name, value) in SET {
        let path = format!("/proc/sys/{name}");
        let set = std::fs::write(&path, value).map_err(|error| error.to_string());
        verdict(
            &format!("sysctl {name} can be {value}"),
            set.and_then(|()| {
                let now = read(&path)?;
                ensure(now.trim() == value, now.trim())
            }),
        );
    }
    for (name, least) in AT_LEAST {
        verdict(
            &format!("sysctl {name} is enough"),
            read(&format!("/proc/sys/{name}")).and_then(|text| {
                ensure(
                    text.trim().parse::<u64>().is_ok_and(|value| value >= least),
                    text.trim(),
                )
            }),
        );
    }
}

fn module(name: &str, loaded: &str, builtin: &str) -> Found {
    if loaded
        .lines()
        .any(|line| line.split(' ').next() == Some(name))
    {
        return Ok("loaded".to_owned());
    }
    let file = |line: &str| {
        let file = line.rsplit('/').next().unwrap_or_default();
        file.split('.').next().unwrap_or_default().replace('-', "_")
    };
    if builtin.lines().any(|line| file(line) == name)
        || Path::new("/sys/module").join(name).exists()
    {
        return Ok("built in".to_owned());
    }
    // it is there for its algorithm, which newer kernels have under other names
    let crypto = read("/proc/crypto").unwrap_or_default();
    if name == "crc32c_generic" && crypto.lines().any(|line| line.ends_with(": crc32c")) {
        return Ok("crc32c by another module".to_owned());
    }
    Err("neither loaded nor built in".to_owned())
}

/// Asks as the kernel does.
fn modprobe() -> Found {
    let program = read("/proc/sys/kernel/modprobe")?;
    let output = Command::new(program.trim())
        .args(["-q", "--", ASKED.0])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", program.trim()))?;
    let there = Path::new("/sys/module").join(ASKED.1).exists();
    ensure(
        output.status.success() && there,
        format!("{} {}", program.trim(), output.status),
    )
}

pub(super) fn clock(role: Role, config: &Config) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    verdict(
        "the clock is sane",
        ensure(now >= SANE, format!("{} s since 1970", now.as_secs())),
    );
    if role == Role::Agent {
        return;
    }
    let tls = config.data_dir().join("server/tls");
    for name in [
        "server-ca",
        "client-ca",
        "request-header-ca",
        "etcd/server-ca",
        "etcd/peer-ca",
    ] {
        verdict(
            &format!("{name} belongs together and has begun"),
            ca(&tls, name, now),
        );
    }
    let key = std::fs::read_to_string(tls.join("service.key")).map_err(|error| error.to_string());
    verdict(
        "service.key is a key",
        key.and_then(|pem| {
            crate::tls::check_key(&pem)
                .map(|()| "read")
                .map_err(|error| format!("{error:#}"))
        }),
    );
}

fn ca(tls: &Path, name: &str, now: Duration) -> Found {
    let ca = Ca::read(tls, name).map_err(|error| format!("{error:#}"))?;
    let begins = ca.not_before.unix_timestamp();
    let since = i64::try_from(now.as_secs()).unwrap_or(i64::MAX) - begins;
    ensure(since >= 0, format!("began {since} s ago"))
}
