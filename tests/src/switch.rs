//! The private network of several machines: their cables lead to a switch.
//!
//! A QEMU without a machine is on it too: the DHCP server and the way in from this computer. There
//! is no way out. Cables are datagrams, so each machine can lose its power and come back.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use builder::qemu::{Cable, Machine, datagrams};
use image_layout::Arch;

use crate::frames::FrameSwitch;
use crate::qemu::node_ports;
use crate::qemu_process::{Forwarded, Reach, Running, accept, forwards, reach, spawn};
use crate::qmp::Qmp;

/// The cable of this computer; machines' names have no space.
const HOST: &str = "this computer";

/// A switch that runs until it is dropped.
#[derive(Debug)]
pub struct Switch {
    // First, so that QEMU is gone before its sockets are.
    _child: Running,
    _qmp: Qmp,
    _frames: FrameSwitch,
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
        let cables: Vec<[PathBuf; 2]> = addresses
            .keys()
            .map(String::as_str)
            .chain([HOST])
            .map(|name| ends(sockets.path(), name))
            .collect();
        let frames = FrameSwitch::start(&cables).context("making a switch")?;
        let [remote, local] = ends(sockets.path(), HOST);
        command
            .args(["-netdev", &network.netdev("host")])
            .args(["-netdev", "hubport,id=hub-host,hubid=0,netdev=host"])
            .arg("-netdev")
            .arg(datagrams("cable", &local, &remote))
            .args(["-netdev", "hubport,id=hub-cable,hubid=0,netdev=cable"]);
        let log = results.join("switch.log");
        let mut child = spawn(&mut command, arch, &log)?;
        let mut qmp = Qmp::over(accept(&listener, &mut child, &log)?)?;
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
