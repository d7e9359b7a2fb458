//! See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    k3s_probe::run::main()
}
