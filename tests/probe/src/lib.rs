//! Stands in for k3s in tests.
//!
//! It is started exactly as k3s is, checks what k3s would demand of the machine, reports each
//! condition by name, and then behaves like k3s as far as a node can tell: `docs/testing.md`.

pub mod aux;
pub mod balancer;
pub mod conditions;
pub mod config;
pub mod db;
pub mod http;
pub mod in_place;
pub mod join;
pub mod launcher;
pub mod manifests;
pub mod notify;
pub mod pods;
pub mod pull;
pub mod registries;
pub mod report;
pub mod run;
pub mod server;
pub mod sh;
pub mod tls;
pub mod token;

/// The version that the probe claims.
pub const VERSION: &str = "v1.36.3+k3s1";
/// The image that k3s starts each pod with. It stands in k3s's binary, where the builder looks for
/// it (k3s: pkg/cli/cmds/agent.go); what follows it here keeps the next string apart.
const PAUSE: &str = "rancher/mirrored-pause:3.6\n";

/// The image that pods are started with unless `pause-image` says otherwise.
pub fn pause_image() -> &'static str {
    std::hint::black_box(PAUSE).trim_end()
}
