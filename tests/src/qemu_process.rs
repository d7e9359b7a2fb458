//! A QEMU as a process: its start, its connections with us, and the ports it forwards.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use builder::qemu::Machine;
use image_layout::Arch;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use crate::qmp::Qmp;

/// How long QEMU may take from its start to its connection with us.
pub const CONNECT_BOUND: Duration = Duration::from_secs(20);

/// A process that ends with its owner.
#[derive(Debug)]
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The registry's port on a node.
pub const REGISTRY_PORT: u16 = 5000;
/// The port of k3s's API on a node.
pub const API_PORT: u16 = 6443;
/// The port at which a NodePort service of the acceptance tests is reached on a node.
pub const WEB_PORT: u16 = 30080;
/// Every port of a node that is forwarded.
pub const NODE_PORTS: [u16; 3] = [REGISTRY_PORT, API_PORT, WEB_PORT];

/// Where ports of a node are reached from this computer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach(BTreeMap<u16, SocketAddr>);

impl Reach {
    /// Where one of [`NODE_PORTS`] is reached.
    ///
    /// # Errors
    /// When it isn't one.
    pub fn port(&self, port: u16) -> Result<SocketAddr> {
        self.0
            .get(&port)
            .copied()
            .ok_or_else(|| anyhow!("nothing is forwarded to the node's port {port}"))
    }
}

/// A port that QEMU forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// The port on 127.0.0.1.
    pub local: u16,
    /// The node.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
}

/// Starts QEMU; what it says goes to the file `log`.
///
/// # Errors
/// When it isn't installed; the message says what to install.
pub fn spawn(command: &mut Command, arch: Arch, log: &Path) -> Result<Running> {
    let words = File::create(log).with_context(|| format!("making {}", log.display()))?;
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(words)
        .spawn();
    let program = Machine::program(arch);
    match child {
        Ok(child) => Ok(Running(child)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "{program} is not installed; on Debian and Ubuntu: sudo apt-get install {}",
            Machine::package(arch)
        ),
        Err(error) => Err(error).with_context(|| format!("starting {program}")),
    }
}

/// The connection that QEMU makes, unless it ends or takes too long; its last words from `log`
/// then say why.
///
/// # Errors
/// As described.
pub fn accept(listener: &UnixListener, child: &mut Running, log: &Path) -> Result<UnixStream> {
    accepted(listener, &mut child.0).with_context(|| said(log))
}

/// The connection to QEMU's monitor, as [`accept`]; a QEMU that refuses its machine may end in the
/// middle of its greeting.
///
/// # Errors
/// As for [`accept`].
pub fn monitor(listener: &UnixListener, child: &mut Running, log: &Path) -> Result<Qmp> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let stream = accept(listener, child, log)?;
    Qmp::over(stream).map_err(|error| {
        // its words are whole once it is gone
        if let Ok(process) = pidfd_open(Pid::from_child(&child.0), PidfdFlags::empty()) {
            let _ = poll(
                &mut [PollFd::new(&process, PollFlags::IN)],
                Some(&Timespec {
                    tv_sec: 5,
                    tv_nsec: 0,
                }),
            );
        }
        anyhow::Error::new(error).context(said(log))
    })
}

fn said(log: &Path) -> String {
    let said = fs::read_to_string(log).unwrap_or_default();
    format!("starting QEMU: {}", said.trim())
}

fn accepted(listener: &UnixListener, child: &mut Child) -> Result<UnixStream> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let timeout = Timespec {
        tv_sec: i64::try_from(CONNECT_BOUND.as_secs())?,
        tv_nsec: 0,
    };
    let mut fds = [
        PollFd::new(listener, PollFlags::IN),
        PollFd::new(&process, PollFlags::IN),
    ];
    poll(&mut fds, Some(&timeout))?;
    if fds
        .iter()
        .take(1)
        .any(|fd| fd.revents().contains(PollFlags::IN))
    {
        return Ok(listener.accept()?.0);
    }
    match child.try_wait()? {
        Some(status) => bail!("it ended with {status}"),
        None => bail!("it did not connect within {} s", CONNECT_BOUND.as_secs()),
    }
}

/// The ports that QEMU forwards, with the local ports that it picked.
///
/// # Errors
/// When QEMU doesn't answer.
pub fn forwards(qmp: &mut Qmp) -> Result<Vec<Forwarded>> {
    let table = qmp.execute(
        "human-monitor-command",
        json!({"command-line": "info usernet"}),
    )?;
    Ok(table
        .as_str()
        .unwrap_or_default()
        .lines()
        .filter_map(forward)
        .collect())
}

/// Rows look like `TCP[HOST_FORWARD]  12  127.0.0.1 45123  10.0.2.15  5000  0  0`.
fn forward(line: &str) -> Option<Forwarded> {
    let row: Vec<&str> = line.split_whitespace().collect();
    if !row.first()?.contains("HOST_FORWARD") {
        return None;
    }
    Some(Forwarded {
        local: row.get(3)?.parse().ok()?,
        address: row.get(4)?.parse().ok()?,
        port: row.get(5)?.parse().ok()?,
    })
}

/// How a node is reached, of all forwarded ports; `address` is the node's, `None` where there is
/// one node only.
pub fn reach(forwards: &[Forwarded], address: Option<Ipv4Addr>) -> Reach {
    let ours = forwards
        .iter()
        .filter(|forward| address.is_none_or(|address| forward.address == address));
    Reach(
        ours.map(|forward| (forward.port, (Ipv4Addr::LOCALHOST, forward.local).into()))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forwarded_port_is_read_from_qemus_table() {
        let table = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  TCP[HOST_FORWARD]  14       127.0.0.1 38533       10.0.2.15  5000     0     0\r\n";
        let found: Vec<Forwarded> = table.lines().filter_map(forward).collect();
        let expected = Forwarded {
            local: 38533,
            address: Ipv4Addr::new(10, 0, 2, 15),
            port: 5000,
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn every_node_is_reached_by_ports_of_its_own() {
        let node = |last| Ipv4Addr::new(10, 0, 2, last);
        let forward = |local, last, port| Forwarded {
            local,
            address: node(last),
            port,
        };
        let all = [
            forward(1, 21, 5000),
            forward(2, 21, 6443),
            forward(3, 22, 5000),
            forward(4, 22, 6443),
        ];
        let second = reach(&all, Some(node(22)));
        assert_eq!(second.port(5000).unwrap().port(), 3);
        assert_eq!(second.port(6443).unwrap().port(), 4);
        assert!(second.port(22).is_err());
        assert!(reach(&all, Some(node(23))).port(6443).is_err());
        assert_eq!(reach(&all[..2], None).port(6443).unwrap().port(), 2);
    }
}
