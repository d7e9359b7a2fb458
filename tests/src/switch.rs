//! The private network of several machines.
//!
//! A QEMU without a machine is the DHCP server and the way in from this computer; there is no way
//! out. It and the machines are joined by a switch of datagrams, so each can lose its power and
//! come back.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use builder::qemu::{Cable, Machine, datagrams};
use image_layout::Arch;

use crate::frames::Frames;
use crate::qemu::node_ports;
use crate::qemu_process::{Forwarded, Reach, Running, forwards, monitor, reach, spawn};
use crate::qmp::Qmp;

/// The port of this computer; no machine can have the name.
const HOST: &str = "(host)";

/// A network that runs until it is dropped.
#[derive(Debug)]
pub struct Switch {
    // First, so that QEMU is gone before its sockets are.
    _child: Running,
    _qmp: Qmp,
    _frames: Frames,
    addresses: BTreeMap<String, Ipv4Addr>,
    forwards: Vec<Forwarded>,
    sockets: tempfile::TempDir,
}

impl Switch {
    /// Starts a switch with a socket for every machine; registry and k3s of each are reached at
    /// the address given here, whether it is the node's own or comes by DHCP. `arch` says whose
    /// QEMU is used; what it says goes to `results`.
    ///
    /// # Errors
    /// When QEMU isn't installed or doesn't start.
    pub fn start(
        addresses: BTreeMap<String, Ipv4Addr>,
        arch: Arch,
        results: &Path,
    ) -> Result<Switch> {
        let sockets = tempfile::tempdir().context("making a directory for sockets")?;
        let control = sockets.path().join("qmp");
        let listener = UnixListener::bind(&control).context("listening")?;
        let mut command = Command::new(Machine::program(arch));
        // "none" is a board without anything; the network is all that this QEMU does.
        command.args(["-M", "none", "-nodefaults", "-display", "none"]);
        command
            .args([
                "-chardev",
                &format!("socket,id=qmp,path={}", control.display()),
            ])
            .args(["-mon", "chardev=qmp,mode=control"]);
        let network = node_ports(addresses.values().copied().map(Some));
        command
            .args(["-netdev", &network.netdev("host")])
            .args(["-netdev", "hubport,id=hub-host,hubid=0,netdev=host"]);
        let [theirs, ours] = ends(sockets.path(), HOST);
        command
            .arg("-netdev")
            .arg(datagrams("cable", &ours, &theirs))
            .args(["-netdev", "hubport,id=hub-cable,hubid=0,netdev=cable"]);
        let names = addresses.keys().map(String::as_str).chain([HOST]);
        let ports: Vec<_> = names.map(|name| ends(sockets.path(), name)).collect();
        let frames = Frames::start(&ports).context("making the switch")?;
        let log = results.join("switch.log");
        let mut child = spawn(&mut command, arch, &log)?;
        let mut qmp = monitor(&listener, &mut child, &log)?;
        let forwards = forwards(&mut qmp)?;
        Ok(Switch {
            _child: child,
            _qmp: qmp,
            _frames: frames,
            addresses,
            forwards,
            sockets,
        })
    }

    /// The cable of a machine.
    pub fn cable(&self, name: &str) -> Cable {
        let [remote, local] = ends(self.sockets.path(), name);
        Cable::Datagrams { local, remote }
    }

    /// How a machine is reached.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn reach(&self, name: &str) -> Result<Reach> {
        let address = self
            .addresses
            .get(name)
            .ok_or_else(|| anyhow!("no machine {name} is on this network"))?;
        Ok(reach(&self.forwards, Some(*address)))
    }
}

/// The sockets of a machine's cable: the switch's end and the machine's.
fn ends(directory: &Path, name: &str) -> [PathBuf; 2] {
    ["switch", "machine"].map(|end| directory.join(format!("{name}.{end}")))
}
