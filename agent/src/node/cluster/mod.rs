//! The stages *state* and *cluster*: this machine becomes a node of Kubernetes.
//!
//! `stage` is the course of events up to the start of k3s, `watch` what comes after; PID 1 starts k3s
//! when it is told to (see `crate::report`).

mod carried;
mod early_clock;
mod files;
mod http;
mod machine;
mod ready;
mod screens;
mod server;
mod stage;
mod standing;
#[cfg(test)]
mod tests;
mod watch;

pub(super) use machine::ThisMachine;
pub(super) use stage::{Pace, Stages};
