//! Maps the command line to the library and errors to exit codes.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::FAILURE
}
