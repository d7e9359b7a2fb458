//! What the tests of this folder share.

use std::ffi::OsStr;
use std::process::Command;

/// Runs a program that must end with 0 and gives what it said. `package` is named when the
/// program is not there.
pub(super) fn run<'a>(
    program: &str,
    arguments: impl IntoIterator<Item = &'a OsStr>,
    package: &str,
) -> String {
    let sbin = format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", sbin)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; apt-get install {package}"));
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "{program}: {}\n{said}",
        output.status
    );
    said
}
