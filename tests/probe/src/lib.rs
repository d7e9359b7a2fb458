//! Stands in for k3s in tests.
//!
//! It is started exactly as k3s is, checks what k3s would demand of the machine, reports each
//! condition by name, and then behaves like k3s as far as a node can tell: `docs/testing.md`.

pub mod config;
pub mod db;
pub mod http;
pub mod join;
pub mod launcher;
pub mod notify;
pub mod registries;
pub mod report;
pub mod run;
pub mod server;
pub mod tls;
pub mod token;

/// The version that the probe claims.
pub const VERSION: &str = "v1.36.3+k3s1";
/// The image that k3s starts each pod with, as it stands in k3s's binary (k3s:
/// pkg/cli/cmds/const_linux.go).
pub const PAUSE_IMAGE: &str = "rancher/mirrored-pause:3.6";
