//! What the node process and the registry tell PID 1.
//!
//! Each child has one end of a `SOCK_SEQPACKET` pair; the environment variable [`FD_VARIABLE`]
//! carries the descriptor's number. One packet is one [`Report`] as JSON, at most
//! [`PACKET_BYTES`]. PID 1 adds the times, writes console, status port and status file. Nothing
//! that came from a network is in a report unparsed.

use image_layout::status::{MissingFirmware, NodeStatus, Outcome, Problem, Stage};
use serde::{Deserialize, Serialize};

/// Name of the environment variable with the descriptor's number.
pub(crate) const FD_VARIABLE: &str = "HAULBOOT_REPORT_FD";
/// The largest packet in bytes.
pub(crate) const PACKET_BYTES: usize = 64 << 10;

/// One message to PID 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Report {
    /// A stage began; PID 1 takes the time.
    Begin(Stage),
    /// A stage ended, perhaps anew: a failed one may be done later.
    End {
        /// Which.
        stage: Stage,
        /// How.
        outcome: Outcome,
        /// One line for console and status.
        detail: String,
        /// Why it failed and how to mend it; shown as a screen.
        problem: Option<Problem>,
    },
    /// Something a person should know; one line.
    Notice(String),
    /// Who this machine is and how it is reached; replaces what was said before.
    Node(NodeStatus),
    /// Drivers' unmet wishes; replaces what was said before.
    MissingFirmware(Vec<MissingFirmware>),
}
