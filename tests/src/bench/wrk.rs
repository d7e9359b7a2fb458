//! wrk: many requests for one path.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use image_layout::oci::media_type;

use crate::clients::run_within;

/// Connections that requests are sent on.
const CONNECTIONS: usize = 32;

/// Asks for a path for so many seconds; returns how many answers came.
///
/// # Errors
/// When wrk isn't installed, or anything but a complete 200 came.
pub(super) fn requests(server: SocketAddr, path: &str, seconds: u64) -> Result<u64> {
    let mut command = Command::new("wrk");
    command
        .args(["--threads", "1", "--connections", &CONNECTIONS.to_string()])
        .args(["--duration", &format!("{seconds}s")])
        // docker-registry has no OCI manifest for who does not ask for one
        .args(["--header", &format!("Accept: {}", media_type::OCI_MANIFEST)])
        .arg(format!("http://{server}{path}"));
    let bound = Duration::from_secs(seconds + 20);
    let said = run_within(&mut command, "the package wrk", bound)?;
    answers(&said)
}

/// The count in what wrk says: `12345 requests in 3.00s, 9.1MB read`.
fn answers(said: &str) -> Result<u64> {
    for bad in ["Non-2xx", "Socket errors"] {
        ensure!(!said.contains(bad), "wrk met errors: {said}");
    }
    let line = said.lines().find(|line| line.contains(" requests in "));
    let count = line.and_then(|line| line.split_whitespace().next());
    let count = count.ok_or_else(|| anyhow!("wrk says no count: {said}"))?;
    Ok(count.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_and_errors_are_errors() {
        let good = "Running 3s test\n  1 threads\n  12345 requests in 3.00s, 9.10MB read\n";
        assert_eq!(answers(good).unwrap(), 12345);
        let refused = format!("{good}  Non-2xx or 3xx responses: 12345\n");
        assert!(answers(&refused).is_err());
        assert!(answers("").is_err());
    }
}
