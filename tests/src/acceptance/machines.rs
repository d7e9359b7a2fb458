//! The two machines of the acceptance tests.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use builder::qemu::{Accelerator, Boot, Bus, Disk, Firmware, Identity, Machine, Network, Serial};
use image_layout::cluster::Mac;
use image_layout::status::{Outcome, Stage};
use serde_json::json;

use super::Acceptance;
use crate::clients::{self, run, run_within, tool};
use crate::images::kubeconfig;
use crate::qemu::{Cable, Vm};
use crate::switch::Switch;

/// What a machine is known by and where it is.
#[derive(Debug)]
pub(super) struct Who {
    pub(super) name: &'static str,
    pub(super) serial: &'static str,
    pub(super) address: Ipv4Addr,
    mac: Mac,
}

pub(super) const SERVER: Who = Who {
    name: "server",
    serial: "HB-SERVER",
    address: Ipv4Addr::new(10, 0, 2, 21),
    mac: Mac([0x52, 0x54, 0, 0x48, 0x42, 1]),
};
pub(super) const AGENT: Who = Who {
    name: "agent",
    serial: "HB-AGENT",
    address: Ipv4Addr::new(10, 0, 2, 22),
    mac: Mac([0x52, 0x54, 0, 0x48, 0x42, 2]),
};

/// k3s alone takes 500 MB, its data and images as much again (`docs/guide.md`).
const REAL_MIB: u32 = 4096;
const STAND_IN_MIB: u32 = 1024;

/// Both machines, switched on.
#[derive(Debug)]
pub(super) struct Machines {
    pub(super) server: Vm,
    agent: Vm,
    real: bool,
    kubeconfig: PathBuf,
    directory: PathBuf,
    // Last: the machines' cables lead to it.
    _switch: Switch,
}

impl Machines {
    pub(super) fn start(acceptance: &Acceptance, image: &Path) -> Result<Machines> {
        let addresses: BTreeMap<String, Ipv4Addr> = [&SERVER, &AGENT]
            .map(|who| (who.name.to_owned(), who.address))
            .into();
        let switch = Switch::start(addresses, acceptance.arch, &acceptance.directory)?;
        let accelerator = Accelerator::detect(image, acceptance.arch)?;
        let real = acceptance.k3s.is_some();
        let on = |who: &Who| -> Result<Vm> {
            let results = acceptance.directory.join(who.name);
            fs::create_dir_all(&results).context("making a directory for logs")?;
            let machine = Machine {
                arch: acceptance.arch,
                accelerator,
                memory_mib: if real { REAL_MIB } else { STAND_IN_MIB },
                cpus: 2,
                boot: Boot::Firmware(Firmware::find(acceptance.arch)?),
                disks: vec![Disk::new("stick", image, Bus::UsbStorage)],
                network: Some(Network {
                    cable: switch.cable(who.name),
                    mac: Some(who.mac),
                }),
                serial: Serial::File(results.join("console.log")),
                status_port: None,
                ports: Vec::new(),
                qmp: None,
                identity: Identity {
                    serial: Some(who.serial.to_owned()),
                    uuid: None,
                },
                clock: None,
                end_at_reboot: true,
                paused: true,
            };
            let mut vm = Vm::start(machine, Cable::In, &results)?;
            vm.reached_by(switch.reach(who.name)?);
            println!(
                "     {} is on; its console: {}",
                who.name,
                results.join("console.log").display()
            );
            Ok(vm)
        };
        Ok(Machines {
            server: on(&SERVER)?,
            agent: on(&AGENT)?,
            real,
            kubeconfig: kubeconfig(image),
            directory: acceptance.directory.clone(),
            _switch: switch,
        })
    }

    /// Waits until both nodes are Ready, and asks Kubernetes, or of the stand-in what it found.
    pub(super) fn up(&self, bound: Duration) -> Result<String> {
        for (who, vm) in [(&SERVER, &self.server), (&AGENT, &self.agent)] {
            let report = vm
                .status()
                .wait_stage(Stage::Cluster, Outcome::Done, bound)
                .with_context(|| format!("waiting for the node {}", who.name))?;
            println!(
                "     {} after {:.0} s: {}",
                who.name, report.at, report.detail
            );
        }
        if !self.real {
            for vm in [&self.server, &self.agent] {
                vm.probe().no_condition_fails(1)?;
            }
            let version = self.kubectl(&["get", "--raw", "/version"])?;
            ensure!(version.contains("gitVersion"), "/version is {version}");
            return Ok(
                "the stand-in on both nodes found everything that k3s needs, its pulls came \
                 through the mirror, and kubectl reaches it with the image's kubeconfig"
                    .to_owned(),
            );
        }
        self.kubectl_within(
            &[
                "wait",
                "--for=condition=Ready",
                "node/server",
                "node/agent",
                "--timeout=600s",
            ],
            Duration::from_secs(660),
        )?;
        let nodes = self.kubectl(&["get", "nodes", "-o", "wide"])?;
        for line in nodes.lines() {
            println!("     {line}");
        }
        Ok("both nodes are Ready".to_owned())
    }

    /// Runs kubectl and shows the command.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_within(arguments, clients::CLIENT_BOUND)
    }

    pub(super) fn kubectl_within(&self, arguments: &[&str], bound: Duration) -> Result<String> {
        println!("     $ kubectl {}", arguments.join(" "));
        let mut command = clients::kubectl(&self.kubeconfig, self.server.api()?);
        run_within(command.args(arguments), "tests/tools.sh", bound)
    }

    /// Runs helm and shows the command.
    pub(super) fn helm(&self, arguments: &[&str], bound: Duration) -> Result<String> {
        println!("     $ helm {}", arguments.join(" "));
        let own = tempfile::tempdir()?;
        let mut command = Command::new(tool("helm"));
        command
            .args(arguments)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--kube-apiserver")
            .arg(format!("https://{}", self.server.api()?))
            // Nothing of the user's own configuration.
            .env("HELM_CONFIG_HOME", own.path().join("config"))
            .env("HELM_CACHE_HOME", own.path().join("cache"))
            .env("HELM_DATA_HOME", own.path().join("data"));
        run_within(&mut command, "tests/tools.sh", bound)
    }

    /// Leaves what Kubernetes says in the directory, for whoever looks for the cause.
    pub(super) fn leave_traces(&self, test: usize) {
        let mut text = String::new();
        for arguments in [
            ["get", "pods", "-A", "-o", "wide"].as_slice(),
            &["describe", "pods", "-A"],
            &["get", "events", "-A", "--sort-by=.lastTimestamp"],
        ] {
            let said = match self.server.api() {
                Ok(api) => {
                    let mut command = clients::kubectl(&self.kubeconfig, api);
                    run(command.args(arguments), "tests/tools.sh")
                }
                Err(error) => Err(error),
            };
            let said = said.unwrap_or_else(|error| format!("{error:#}\n"));
            text.push_str(&format!("$ kubectl {}\n{said}\n", arguments.join(" ")));
        }
        let path = self.directory.join(format!("test-{test}.txt"));
        // The verdict counts; a full disk must not hide it.
        if fs::write(&path, text).is_ok() {
            println!("     what Kubernetes says of it is in {}", path.display());
        }
    }

    /// Presses both power buttons.
    pub(super) fn down(&mut self) -> Result<String> {
        for (who, vm) in [(&AGENT, &mut self.agent), (&SERVER, &mut self.server)] {
            vm.qmp().execute("system_powerdown", json!({}))?;
            vm.wait_down("guest-shutdown")
                .with_context(|| format!("switching the {} off", who.name))?;
        }
        Ok("both machines powered themselves off".to_owned())
    }
}
