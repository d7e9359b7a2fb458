//! Every condition that k3s, its containerd, kubelet and kube-proxy have of a machine, one subject
//! a file. What is not needed by k3s but promised by Haulboot is among them.

mod cgroups;
mod files;
mod kernel;
mod mounts;
mod network;
mod process;
pub mod tries;

use crate::config::{Config, Role};

/// What a check found, or why its condition does not hold.
type Found = Result<String, String>;

/// What is only to be seen before the launcher starts k3s, which changes it.
pub fn before_the_launcher() {
    process::signals();
}

/// Checks everything and reports it. `bundled` says that a launcher unpacked k3s's tools.
pub fn check(role: Role, config: &Config, bundled: bool) {
    mounts::check(config);
    cgroups::check();
    process::check();
    files::check(config, bundled);
    network::check(config);
    kernel::check();
    kernel::clock(role, config);
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("open {path}: {error}"))
}

fn ensure(ok: bool, found: impl std::fmt::Display) -> Found {
    match ok {
        true => Ok(found.to_string()),
        false => Err(found.to_string()),
    }
}
