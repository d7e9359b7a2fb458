//! The cluster that `make demo` shows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use image_layout::status::Status;

use super::{Demo, heading, shown};
use crate::clients;
use crate::images::kubeconfig;
use crate::qemu::Vm;

/// With the demonstration's own haul: everything that needs an image which isn't in it is off.
const K3S_CONFIG: &str = "\
apiVersion: haulboot.dev/v1
kind: Cluster
name: demo
k3s:
  disable: [coredns, traefik, servicelb, metrics-server, local-storage]
  disable-helm-controller: true
nodes:
  - {name: node-1, match: any, role: server}
";

/// What runs as k3s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// Nothing.
    Registry,
    /// The stand-in of the tests.
    StandIn,
    /// k3s.
    K3s,
}

impl Demo {
    /// What runs as k3s.
    pub(super) fn shows(&self) -> Shows {
        match (self.k3s.is_empty(), self.hauls.is_empty()) {
            (false, _) => Shows::K3s,
            // A haul of its own may lack what every pod needs.
            (true, false) => Shows::Registry,
            (true, true) => Shows::StandIn,
        }
    }

    /// The configuration that was given, or one for a k3s with no images but the demonstration's.
    pub(super) fn config(&self) -> Result<Option<PathBuf>> {
        if self.config.is_some() || self.shows() != Shows::K3s || !self.hauls.is_empty() {
            return Ok(self.config.clone());
        }
        let path = self.directory.join("cluster.yaml");
        fs::write(&path, K3S_CONFIG).with_context(|| format!("writing {}", path.display()))?;
        Ok(Some(path))
    }

    /// Shows k3s on the node, and asks it from outside.
    pub(super) fn cluster(&self, vm: &Vm, image: &Path) -> Result<()> {
        let arguments: &[&str] = match self.shows() {
            Shows::Registry => return Ok(()),
            Shows::StandIn => &["get", "--raw", "/version"],
            Shows::K3s => &["get", "nodes", "-o", "wide"],
        };
        heading("The cluster");
        let status = node_status(vm)?;
        if let Some(cluster) = &status.cluster {
            let place = match cluster.in_place {
                true => "unpacked on the stick, nothing of it was copied to memory",
                false => "unpacked by itself, to memory",
            };
            println!("     k3s {}, {place}", cluster.k3s);
        }
        let api = vm.api()?;
        let mut command = clients::kubectl(&kubeconfig(image), api);
        command.args(arguments);
        println!("     $ {}", shown(&command));
        for line in clients::run(&mut command, "tests/tools.sh")?.lines() {
            println!("     {line}");
        }
        if self.shows() == Shows::StandIn {
            vm.probe().no_condition_fails(1)?;
            println!("     This was a stand-in: it checks what k3s needs and runs no pods.");
            println!("     A real one: make demo K3S=/path/to/k3s");
        }
        Ok(())
    }
}

/// Asks the node how it is.
pub(super) fn node_status(vm: &Vm) -> Result<Status> {
    let answer = clients::get(vm.registry()?, "/status")?;
    ensure!(answer.status == 200, "/status: status {}", answer.status);
    serde_json::from_slice(&answer.body).context("reading /status")
}
