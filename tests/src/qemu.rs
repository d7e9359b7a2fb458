//! A running virtual machine and everything a test reaches it by.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use builder::qemu::{self as emulator, Forward, Machine, Serial, UserNetwork, wait_within};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::probe::{self, ProbePort};
use crate::qemu_process::{
    API_PORT, CONNECT_BOUND, NODE_PORTS, REGISTRY_PORT, Reach, Running, accept, forwards, monitor,
    reach, spawn,
};
use crate::qmp::Qmp;
use crate::status::StatusPort;

/// How long a machine may take from the request to power off until QEMU ends.
pub const EXIT_BOUND: Duration = Duration::from_secs(60);

/// A machine that runs until it is dropped.
#[derive(Debug)]
pub struct Vm {
    // First, so that QEMU is gone before its sockets are.
    child: Running,
    qmp: Qmp,
    status: StatusPort,
    probe: ProbePort,
    reach: Option<Reach>,
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
    /// `results`. Status port, the probe's port, QMP, serial console, pause and end at reboot are
    /// set here, and on a network of its own the ports by which the node is reached.
    ///
    /// # Errors
    /// When QEMU isn't installed or doesn't start; the message says what to install.
    pub fn start(mut machine: Machine, cable: Cable, results: &Path) -> Result<Vm> {
        // Socket paths have at most 107 bytes, so not below the results.
        let sockets = tempfile::tempdir().context("making a directory for sockets")?;
        let listen = |name: &str| {
            let path = sockets.path().join(name);
            UnixListener::bind(&path)
                .map(|listener| (path, listener))
                .context("listening")
        };
        let (status_socket, status_listener) = listen("status")?;
        let (probe_socket, probe_listener) = listen("probe")?;
        let (qmp_socket, qmp_listener) = listen("qmp")?;
        machine.status_port = Some(status_socket);
        machine.ports = vec![(probe::PORT.to_owned(), probe_socket)];
        machine.qmp = Some(qmp_socket);
        machine.serial = Serial::File(results.join("console.log"));
        machine.end_at_reboot = true;
        machine.paused = true;
        let mut forwarding = false;
        if let Some(network) = &mut machine.network
            && let emulator::Cable::Own(own) = &mut network.cable
        {
            let address = own.forwards.first().and_then(|forward| forward.address);
            *own = node_ports([address]);
            forwarding = true;
        }
        fs::write(results.join("command"), machine.command_line() + "\n")
            .context("writing the command line down")?;
        let log = results.join("qemu.log");
        let mut child = spawn(&mut machine.command(), machine.arch, &log)?;
        let lines =
            |name: &str| File::create(results.join(name)).with_context(|| format!("making {name}"));
        let port = accept(&status_listener, &mut child, &log)?;
        let status = StatusPort::follow(port, lines("status.jsonl")?);
        let port = accept(&probe_listener, &mut child, &log)?;
        let probe = ProbePort::follow(port, lines("probe.jsonl")?);
        let mut qmp = monitor(&qmp_listener, &mut child, &log)?;
        let reach = match forwarding {
            true => Some(reach(&forwards(&mut qmp)?, None)),
            false => None,
        };
        let mut vm = Vm {
            child,
            qmp,
            status,
            probe,
            reach,
            _sockets: sockets,
        };
        if cable == Cable::Out {
            vm.cable(cable)?;
        }
        vm.qmp.execute("cont", json!({}))?;
        Ok(vm)
    }

    /// Says how a node on a cable to other machines is reached.
    pub fn reached_by(&mut self, reach: Reach) {
        self.reach = Some(reach);
    }

    /// The status port.
    pub fn status(&self) -> &StatusPort {
        &self.status
    }

    /// What the stand-in for k3s reports.
    pub fn probe(&self) -> &ProbePort {
        &self.probe
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
        self.port(REGISTRY_PORT)
    }

    /// Where k3s answers on the node.
    ///
    /// # Errors
    /// When the machine has no network card.
    pub fn api(&self) -> Result<SocketAddr> {
        self.port(API_PORT)
    }

    /// Where one of [`NODE_PORTS`] of the node is reached.
    ///
    /// # Errors
    /// When the machine has no network card, or the port isn't one of them.
    pub fn port(&self, port: u16) -> Result<SocketAddr> {
        self.reach
            .as_ref()
            .ok_or_else(|| anyhow!("the machine has no network card"))?
            .port(port)
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

    /// Takes the power away.
    ///
    /// # Errors
    /// When QEMU doesn't end.
    pub fn cut(&mut self) -> Result<()> {
        self.qmp.execute("quit", json!({}))?;
        self.wait_exit(EXIT_BOUND)?
            .map(|_| ())
            .ok_or_else(|| anyhow!("QEMU did not end within {} s", EXIT_BOUND.as_secs()))
    }

    /// Waits until QEMU ends; `None` when it still runs after `bound`.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub fn wait_exit(&mut self, bound: Duration) -> Result<Option<ExitStatus>> {
        wait_within(&mut self.child.0, bound).context("waiting for QEMU")
    }
}

/// A network on which [`NODE_PORTS`] of every node with one of these addresses are reached.
pub fn node_ports(addresses: impl IntoIterator<Item = Option<std::net::Ipv4Addr>>) -> UserNetwork {
    let ports = |address| {
        NODE_PORTS.map(|port| Forward {
            local: 0,
            address,
            port,
        })
    };
    UserNetwork {
        forwards: addresses.into_iter().flat_map(ports).collect(),
    }
}

/// A path below `directory`, for messages.
pub fn shown(directory: &Path) -> PathBuf {
    directory
        .strip_prefix(crate::results::repository())
        .unwrap_or(directory)
        .to_owned()
}
