//! What the node process and the registry tell PID 1, and what PID 1 tells the node process.
//!
//! Each child has one end of a `SOCK_SEQPACKET` pair; the environment variable [`FD_VARIABLE`]
//! carries the descriptor's number. One packet is one [`Report`] as JSON, at most
//! [`PACKET_BYTES`]. PID 1 adds the times, writes console, status port and status file. Nothing
//! that came from a network is in a report unparsed. In the other direction one packet is one
//! [`Word`]; see [`Sender::listen`].

mod receiver;

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use image_layout::cluster::Role;
use image_layout::status::{
    ClusterStatus, MissingFirmware, NodeStatus, Outcome, Problem, Stage, StateStatus,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};

pub(crate) use self::receiver::Receiver;

/// Name of the environment variable with the descriptor's number.
pub(crate) const FD_VARIABLE: &str = "HAULBOOT_REPORT_FD";
/// The largest packet in bytes.
pub(crate) const PACKET_BYTES: usize = 64 << 10;
/// How long a child waits for PID 1 to take a report.
const SEND_PATIENCE: Duration = Duration::from_secs(5);

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
    /// How a wait is going; one line for the console, nowhere kept.
    Progress(String),
    /// Where k3s keeps its data.
    State(StateStatus),
    /// k3s as the node process sees it; replaces what was said before. PID 1 adds
    /// [`ClusterStatus::ends`].
    Cluster(ClusterStatus),
    /// What PID 1 is to do with k3s.
    K3s(Order),
}

/// What the node process wants done with k3s. PID 1 starts it, reaps it, and starts it again with
/// growing pauses for as long as it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// It is to run in this role, `server` or `agent`. Nothing happens if it does already.
    Run(Role),
    /// It is to end in an orderly way and to be started at once; ends of this kind count for no
    /// pause.
    Restart,
    /// It is to end in an orderly way and stay so.
    Stop,
}

/// What PID 1 tells the node process, on the same channel: one packet is one of them as JSON.
/// A node process that was started anew is told the last of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Word {
    /// The stage *registry* ended, well or not: the stages *state* and *cluster* are due.
    Go,
    /// How k3s stands, whenever that changes.
    K3s(K3sState),
}

/// How k3s stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct K3sState {
    /// Whether the process runs.
    pub(crate) running: bool,
    /// Whether it has said READY=1 since it was started.
    pub(crate) ready: bool,
    /// How often it ended by itself in this boot, with whatever code: it never ought to.
    pub(crate) ends: u32,
    /// How it ended last, `exit code 1`, in words; empty if it never did.
    pub(crate) how: String,
    /// Seconds until it is started again; 0 if it runs or is not wanted.
    pub(crate) pause: u64,
    /// The last lines of its log when it ended last, at most [`TAIL_BYTES`].
    pub(crate) tail: String,
}

/// Bytes of [`K3sState::tail`].
pub(crate) const TAIL_BYTES: usize = 16 << 10;

/// A child's end of the channel. Its clones send through the same.
///
/// Sending never fails for the caller: a child whose reports get lost still does its work. What
/// could not be sent is logged.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    channel: Arc<OwnedFd>,
}

impl Sender {
    /// The channel that PID 1 gave this process, or `None` where it was started by a person.
    /// Takes the descriptor over; call it once. Its children do not inherit it.
    pub(crate) fn from_env() -> Option<Sender> {
        let number = std::env::var(FD_VARIABLE).ok()?;
        match inherited(&number) {
            Ok(channel) => Some(Sender {
                channel: Arc::new(channel),
            }),
            Err(error) => {
                tracing::error!("{FD_VARIABLE}={number} is no channel to PID 1: {error}");
                None
            }
        }
    }

    /// A sender over one end of a `SOCK_SEQPACKET` pair.
    #[cfg(test)]
    pub(crate) fn over(channel: OwnedFd) -> Sender {
        Sender {
            channel: Arc::new(channel),
        }
    }

    /// Listens to what PID 1 says in return. To be called within a tokio runtime, once: of two
    /// listeners each would hear a part.
    ///
    /// # Errors
    ///
    /// The runtime can't watch the channel.
    pub(crate) fn listen(&self) -> std::io::Result<Receiver> {
        Receiver::over(&self.channel)
    }

    /// Sends one report. Waits at most [`SEND_PATIENCE`] for a PID 1 that reads more slowly than
    /// reports come.
    pub(crate) fn send(&self, report: &Report) {
        let packet = match serde_json::to_vec(report) {
            Ok(packet) => packet,
            Err(error) => {
                tracing::error!("a report can't be written as JSON: {error}");
                return;
            }
        };
        if packet.len() > PACKET_BYTES {
            tracing::error!(
                "a report of {} bytes is not sent; {PACKET_BYTES} are allowed",
                packet.len()
            );
            return;
        }
        let deadline = Instant::now() + SEND_PATIENCE;
        loop {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let error = match rustix::net::send(&self.channel, &packet, flags) {
                Ok(_) => return,
                Err(Errno::INTR) => continue,
                Err(error) => error,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if error != Errno::AGAIN || left.is_zero() {
                tracing::error!("a report did not reach PID 1: {error}");
                return;
            }
            let mut fds = [PollFd::new(&self.channel, PollFlags::OUT)];
            // an interrupted wait is tried again by the loop, which has the deadline
            let _ = rustix::event::poll(&mut fds, Timespec::try_from(left).ok().as_ref());
        }
    }
}

/// Takes over the descriptor of that number after checking that it is an open packet socket.
fn inherited(number: &str) -> Result<OwnedFd, std::io::Error> {
    let number: i32 = number.parse().map_err(std::io::Error::other)?;
    if number <= 2 {
        return Err(std::io::Error::other("it is a standard stream"));
    }
    let channel = adopt(number)?;
    let kind = rustix::net::sockopt::socket_type(&channel)?;
    if kind != rustix::net::SocketType::SEQPACKET {
        return Err(std::io::Error::other("it is no packet socket"));
    }
    // an empty look that waits for nothing: tells a closed peer at once
    match rustix::net::recv(
        &channel,
        &mut [0_u8; 1][..],
        RecvFlags::PEEK | RecvFlags::DONTWAIT,
    ) {
        Ok(_) | Err(Errno::AGAIN) => Ok(channel),
        Err(error) => Err(error.into()),
    }
}

#[allow(unsafe_code)]
fn adopt(number: i32) -> Result<OwnedFd, std::io::Error> {
    // SAFETY: PID 1 made this descriptor for this process alone and says so in the environment;
    // nothing else in this process has adopted it, since `from_env` is called once, and fcntl
    // below tells a number that is not open.
    let channel = unsafe { OwnedFd::from_raw_fd(number) };
    if let Err(error) = rustix::io::fcntl_setfd(&channel, rustix::io::FdFlags::CLOEXEC) {
        // not open: closing it would be a bug in whoever opens it next
        std::mem::forget(channel);
        return Err(error.into());
    }
    Ok(channel)
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn a_report_arrives_as_one_packet_of_json() {
        let (parent, child) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let sender = Sender::over(child);
        let report = Report::End {
            stage: Stage::Network,
            outcome: Outcome::Done,
            detail: "eth0 192.168.0.2/24".to_owned(),
            problem: None,
        };
        sender.send(&report);
        sender.send(&Report::Begin(Stage::Registry));
        let mut packet = vec![0; PACKET_BYTES];
        let (bytes, _) = rustix::net::recv(&parent, &mut packet[..], RecvFlags::empty()).unwrap();
        assert_eq!(
            serde_json::from_slice::<Report>(&packet[..bytes]).unwrap(),
            report
        );
    }

    #[test]
    fn a_dead_parent_or_a_giant_report_stops_nothing() {
        let (parent, child) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let sender = Sender::over(child);
        sender.send(&Report::Notice("x".repeat(PACKET_BYTES)));
        let nothing = rustix::net::recv(&parent, &mut [0_u8; 8][..], RecvFlags::DONTWAIT);
        assert_eq!(nothing, Err(Errno::AGAIN));
        drop(parent);
        sender.send(&Report::Notice("nobody listens".to_owned()));
    }

    #[test]
    fn only_an_open_packet_socket_is_taken_for_the_channel() {
        for number in ["", "x", "-1", "0", "2", "99999"] {
            assert!(inherited(number).is_err(), "{number:?}");
        }
    }
}
