//! PID 1: from the kernel's first breath to power-off, in one thread and one poll(2) loop.
//!
//! It never exits, never panics and never waits for a device: what may block is a helper's, what
//! talks to networks a child's. See `docs/stages.md` for what each stage does and prints.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable,
    clippy::todo
)]
#![cfg_attr(test, allow(clippy::indexing_slicing))]

mod backoff;
mod boot;
mod cgroup;
mod children;
mod clock;
mod console;
mod helper;
mod k3s;
mod kmsg;
mod launch;
mod life;
mod loader;
mod logs;
mod machine;
mod media;
mod modprobe;
mod modules;
mod mounts;
mod output;
mod port;
mod power;
mod reporter;
mod root;
mod screen;
mod shutdown;
mod statusfile;
mod summary;
mod sysctl;
mod tail;
mod text;
mod uevent;

use std::process::ExitCode;

pub(crate) use life::main;
pub(crate) use modprobe::main as modprobe_main;
pub(crate) use power::{Power, main as power_main};

/// Runs one of PID 1's own helpers if `name` is what one is called by.
pub(crate) fn helper_main(name: &str) -> Option<ExitCode> {
    let main: fn() -> ExitCode = match name {
        helper::CALLED => helper::main,
        loader::CALLED => loader::main,
        launch::CALLED => launch::main,
        _ => return None,
    };
    // PID 1 takes its signals through a descriptor and blocks them; a child inherits that, and
    // would be deaf to SIGTERM
    let _ = nix::sys::signal::SigSet::all().thread_unblock();
    // nor is it to be the last that is killed for lack of memory
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    Some(main())
}
