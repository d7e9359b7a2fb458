//! The node process: identity, clock, network.

use std::process::ExitCode;

/// The node process; see the module.
pub(crate) fn main() -> ExitCode {
    ExitCode::FAILURE
}
