//! Haulboot's agent: everything that runs on a node, in one static file.
//!
//! The name it is called by and its process id decide what it is: PID 1, the kernel's `modprobe`,
//! `poweroff`, or a command line program. See `docs/stages.md`.

mod cli;
mod init;
mod mirrors;
mod node;
mod registry;
mod report;

/// What the fuzz targets call; see `fuzz/`.
#[cfg(feature = "fuzzing")]
pub use registry::fuzzing;

use std::process::ExitCode;

/// The whole program.
pub fn main() -> ExitCode {
    if std::process::id() == 1 {
        init::main();
    }
    let called = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&called)
        .file_name()
        .unwrap_or_default();
    if let Some(code) = name.to_str().and_then(init::helper_main) {
        return code;
    }
    match name.to_str() {
        Some("modprobe") => init::modprobe_main(),
        Some("poweroff" | "halt" | "shutdown") => init::power_main(init::Power::Off),
        Some("reboot") => init::power_main(init::Power::Reboot),
        _ => cli::main(),
    }
}
