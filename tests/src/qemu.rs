//! A running virtual machine and everything a test reaches it by.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use builder::qemu::{Machine, Serial, wait_within};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::qmp::Qmp;
use crate::status::StatusPort;

/// How long QEMU may take from its start to its connection with us.
const CONNECT_BOUND: Duration = Duration::from_secs(20);
/// How long a machine may take from the request to power off until QEMU ends.
pub const EXIT_BOUND: Duration = Duration::from_secs(60);

/// A machine that runs until it is dropped.
#[derive(Debug)]
pub struct Vm {
    // First, so that QEMU is gone before its sockets are.
    child: Running,
    qmp: Qmp,
    status: StatusPort,
    registry: Option<SocketAddr>,
    _sockets: tempfile::TempDir,
}

/// A network cable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cable {
    /// In its socket.
    #[default]
    In,
    /// Not.
    Out,
}

/// Reads and writes of a drive as seen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockStats {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Write requests.
    pub writes: u64,
}

impl Vm {
    /// Starts `machine`; console, status lines, QEMU's own words and its command line go to
    /// `results`. Status port, QMP, serial console, pause and end at reboot are set here.
    ///
    /// # Errors
    /// When QEMU isn't installed or doesn't start; the message says what to install.
    pub fn start(mut machine: Machine, cable: Cable, results: &Path) -> Result<Vm> {
        // Socket paths have at most 107 bytes, so not below the results.
        let sockets = tempfile::tempdir().context("making a directory for sockets")?;
        let status_socket = sockets.path().join("status");
        let qmp_socket = sockets.path().join("qmp");
        let status_listener = UnixListener::bind(&status_socket).context("listening")?;
        let qmp_listener = UnixListener::bind(&qmp_socket).context("listening")?;
        machine.status_port = Some(status_socket);
        machine.qmp = Some(qmp_socket);
        machine.serial = Serial::File(results.join("console.log"));
        machine.end_at_reboot = true;
        machine.paused = true;
        fs::write(results.join("command"), machine.command_line() + "\n")
            .context("writing the command line down")?;
        let words = File::create(results.join("qemu.log")).context("making qemu.log")?;
        let child = machine
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(words)
            .spawn();
        let program = Machine::program(machine.arch);
        let mut child = match child {
            Ok(child) => Running(child),
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
                "{program} is not installed; on Debian and Ubuntu: sudo apt-get install {}",
                Machine::package(machine.arch)
            ),
            Err(error) => return Err(error).with_context(|| format!("starting {program}")),
        };
        let connected = connect(&status_listener, &qmp_listener, &mut child.0, results);
        let (status, mut qmp) = connected.with_context(|| {
            // QEMU says why on its standard error.
            let said = fs::read_to_string(results.join("qemu.log")).unwrap_or_default();
            format!("starting {program}: {}", said.trim())
        })?;
        let registry = match machine.network {
            Some(_) => Some(forwarded(&mut qmp)?),
            None => None,
        };
        let mut vm = Vm {
            child,
            qmp,
            status,
            registry,
            _sockets: sockets,
        };
        if cable == Cable::Out {
            vm.cable(cable)?;
        }
        vm.qmp.execute("cont", json!({}))?;
        Ok(vm)
    }

    /// The status port.
    pub fn status(&self) -> &StatusPort {
        &self.status
    }

    /// QEMU's control protocol.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// Where the node's registry answers.
    ///
    /// # Errors
    /// When the machine has no network card.
    pub fn registry(&self) -> Result<SocketAddr> {
        self.registry
            .ok_or_else(|| anyhow!("the machine has no network card"))
    }

    /// Puts the cable in or pulls it.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn cable(&mut self, cable: Cable) -> Result<()> {
        let up = cable == Cable::In;
        self.qmp
            .execute("set_link", json!({"name": "card", "up": up}))?;
        Ok(())
    }

    /// Plugs a USB stick in. It is write-protected: QEMU can't keep writes of such a drive apart.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn plug(&mut self, image: &Path, id: &str) -> Result<()> {
        let file = json!({"driver": "file", "filename": image, "read-only": true});
        self.qmp.execute(
            "blockdev-add",
            json!({"driver": "raw", "node-name": id, "read-only": true, "file": file}),
        )?;
        self.qmp.execute(
            "device_add",
            json!({
                "driver": "usb-storage", "bus": "usb.0", "drive": id, "removable": true,
                "id": format!("{id}-device"),
            }),
        )?;
        Ok(())
    }

    /// Pulls a drive out while the machine runs.
    ///
    /// # Errors
    /// When QEMU refuses or doesn't say within a bound that it is gone.
    pub fn unplug(&mut self, id: &str) -> Result<()> {
        let device = format!("{id}-device");
        self.qmp.execute("device_del", json!({"id": device}))?;
        self.qmp
            .wait_event("DEVICE_DELETED", CONNECT_BOUND, |data| {
                data["device"] == *device
            })?;
        Ok(())
    }

    /// Reads and writes of the drive with this id since power-on.
    ///
    /// # Errors
    /// When QEMU knows no such drive.
    pub fn block_stats(&mut self, id: &str) -> Result<BlockStats> {
        let drives = self.qmp.execute("query-blockstats", json!({}))?;
        let named = |drive: &&Value| {
            drive["device"] == id
                || drive["qdev"]
                    .as_str()
                    .is_some_and(|device| device.contains(&format!("{id}-device")))
        };
        let stats = drives
            .as_array()
            .and_then(|drives| drives.iter().find(named))
            .map(|drive| &drive["stats"])
            .ok_or_else(|| anyhow!("QEMU knows no drive {id}: {drives}"))?;
        let count = |name: &str| {
            stats[name]
                .as_u64()
                .ok_or_else(|| anyhow!("QEMU gives no {name} for drive {id}"))
        };
        Ok(BlockStats {
            read_bytes: count("rd_bytes")?,
            written_bytes: count("wr_bytes")?,
            writes: count("wr_operations")?,
        })
    }

    /// Waits until the machine powered itself off or, with `reason` `guest-reset`, rebooted.
    ///
    /// # Errors
    /// When it doesn't within [`EXIT_BOUND`], for another reason, or QEMU fails.
    pub fn wait_down(&mut self, reason: &str) -> Result<()> {
        let event = self
            .qmp
            .wait_event("SHUTDOWN", EXIT_BOUND, |_| true)
            .context("waiting for the machine to go down")?;
        ensure!(
            event["reason"] == reason,
            "the machine went down by {}",
            event["reason"]
        );
        let status = self
            .wait_exit(EXIT_BOUND)?
            .ok_or_else(|| anyhow!("QEMU did not end within {} s", EXIT_BOUND.as_secs()))?;
        ensure!(status.success(), "QEMU ended with {status}");
        Ok(())
    }

    /// Waits until QEMU ends; `None` when it still runs after `bound`.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub fn wait_exit(&mut self, bound: Duration) -> Result<Option<ExitStatus>> {
        wait_within(&mut self.child.0, bound).context("waiting for QEMU")
    }
}

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

/// Status port and QMP, once QEMU connected both.
fn connect(
    status: &UnixListener,
    qmp: &UnixListener,
    child: &mut Child,
    results: &Path,
) -> Result<(StatusPort, Qmp)> {
    let port = accept(status, child)?;
    let lines = File::create(results.join("status.jsonl")).context("making status.jsonl")?;
    let status = StatusPort::follow(port, lines);
    Ok((status, Qmp::over(accept(qmp, child)?)?))
}

/// The connection that QEMU makes, unless it ends or takes too long.
fn accept(listener: &UnixListener, child: &mut Child) -> Result<UnixStream> {
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

/// The local port that QEMU picked for the registry.
fn forwarded(qmp: &mut Qmp) -> Result<SocketAddr> {
    let table = qmp.execute(
        "human-monitor-command",
        json!({"command-line": "info usernet"}),
    )?;
    let table = table.as_str().unwrap_or_default();
    let port = forwarded_port(table).ok_or_else(|| anyhow!("QEMU forwards no port: {table}"))?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

/// Rows look like `TCP[HOST_FORWARD]  12  127.0.0.1 45123  10.0.2.15  5000  0  0`.
fn forwarded_port(table: &str) -> Option<u16> {
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|row| {
            row.first()
                .is_some_and(|kind| kind.contains("HOST_FORWARD"))
        })
        .and_then(|row| row.get(3)?.parse().ok())
}

/// A path below `directory`, for messages.
pub fn shown(directory: &Path) -> PathBuf {
    directory
        .strip_prefix(crate::results::repository())
        .unwrap_or(directory)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forwarded_port_is_read_from_qemus_table() {
        let table = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  TCP[HOST_FORWARD]  14       127.0.0.1 38533       10.0.2.15  5000     0     0\r\n";
        assert_eq!(forwarded_port(table), Some(38533));
        assert_eq!(forwarded_port("nothing"), None);
    }
}
