//! The registry.

use std::process::ExitCode;

use crate::cli::Serve;

/// `agent serve DIR`.
pub(crate) fn serve_main(_serve: &Serve) -> ExitCode {
    ExitCode::FAILURE
}

/// The registry as PID 1's child.
pub(crate) fn node_main() -> ExitCode {
    ExitCode::FAILURE
}
