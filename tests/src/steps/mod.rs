//! Carrying out a row: start the machines, do the steps.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use image_layout::Digest;
use image_layout::digest::Hasher;

use crate::clients;
use crate::images::{edited, image};
use crate::qemu::{Cable, Vm, shown};
use crate::results;
use crate::rows::{Card, Hardware, Row, Step};
use crate::served::Served;
use crate::switch::Switch;

mod checks;
mod cluster;
mod killed;
mod machine;

/// Runs a row to its end.
///
/// # Errors
/// When a step doesn't hold. The message says which, and where console, status lines and QEMU's
/// command line lie.
pub fn run(row: &Row) -> Result<()> {
    let directory = results::directory(&row.name).context("making a directory for results")?;
    steps(row, &directory).with_context(|| {
        format!(
            "console.log, status.jsonl, probe.jsonl, command and qemu.log are in {}",
            shown(&directory).display()
        )
    })
}

fn steps(row: &Row, directory: &Path) -> Result<()> {
    let mut run = Run::prepare(row, directory)?;
    if row.machines.is_empty() {
        run.start(ONLY)?;
    }
    run.steps(&row.steps, ONLY)
}

/// The name of a machine that is the only one.
const ONLY: &str = "machine";
/// What QEMU's DHCP server hands out first.
const FIRST_BY_DHCP: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

struct Run<'a> {
    row: &'a Row,
    slots: BTreeMap<&'a str, Slot<'a>>,
    switch: Option<Switch>,
    served: Served,
    directory: &'a Path,
    // Holds changed copies of images, drives, and kernel and initramfs of direct starts.
    _scratch: tempfile::TempDir,
}

/// A machine of the row, on or off.
struct Slot<'a> {
    name: &'a str,
    number: u8,
    hardware: &'a Hardware,
    /// The image as the builder wrote it; credentials lie beside it.
    built: PathBuf,
    /// What is in the machine.
    image: PathBuf,
    scratch: PathBuf,
    vm: Option<Vm>,
    starts: u32,
    /// Digests of the further drives as they were at first, by serial number.
    disks: BTreeMap<String, Digest>,
}

impl Slot<'_> {
    fn with_disks(mut self) -> Result<Self> {
        for disk in &self.hardware.disks {
            let path = self.disk(&disk.serial);
            let file = File::create(&path).context("making a drive")?;
            file.set_len(disk.bytes).context("making a drive")?;
            if let Some(label) = &disk.labelled {
                let mut command = Command::new("mke2fs");
                command.args(["-q", "-t", "ext4", "-L", label]).arg(&path);
                clients::run(&mut command, "the package e2fsprogs")?;
            }
            self.disks.insert(disk.serial.clone(), digest(&path)?);
        }
        ensure!(
            !self.hardware.stick_keeps || self.hardware.grow > 0,
            "only a copy of an image may keep what is written to it: say `grow`"
        );
        Ok(self)
    }

    fn disk_unchanged(&self, serial: &str) -> Result<()> {
        let before = self
            .disks
            .get(serial)
            .ok_or_else(|| anyhow!("{} has no drive {serial}", self.name))?;
        ensure!(
            digest(&self.disk(serial))? == *before,
            "the drive {serial} was written to"
        );
        Ok(())
    }

    /// The file of a further drive.
    fn disk(&self, serial: &str) -> PathBuf {
        self.scratch
            .join(format!("disk-{}.img", results::slug(serial)))
    }

    /// Where it is reached from outside.
    fn address(&self) -> Ipv4Addr {
        self.hardware.address.unwrap_or_else(|| {
            Ipv4Addr::from_bits(FIRST_BY_DHCP.to_bits() + u32::from(self.number))
        })
    }
}

/// A machine that is on, and what its steps need to know.
struct Node<'a> {
    row: &'a Row,
    vm: &'a mut Vm,
    built: &'a Path,
    image: &'a Path,
    served: &'a Served,
}

impl<'a> Run<'a> {
    fn prepare(row: &'a Row, directory: &'a Path) -> Result<Run<'a>> {
        let scratch = tempfile::tempdir().context("making a directory for the stick")?;
        let several = row
            .machines
            .iter()
            .map(|(name, hardware)| (name.as_str(), hardware));
        let machines: Vec<(&str, &Hardware)> = match row.machines.is_empty() {
            true => vec![(ONLY, &row.machine)],
            false => several.collect(),
        };
        let mut slots = BTreeMap::new();
        for (number, (name, hardware)) in machines.into_iter().enumerate() {
            let own = scratch.path().join(name);
            fs::create_dir(&own).context("making a directory for a machine")?;
            let built = image(&row.recipe(hardware))?;
            let slot = Slot {
                name,
                number: u8::try_from(number).context("too many machines")?,
                hardware,
                image: edited(&built, &row.edits(hardware), &own)?,
                built,
                scratch: own,
                vm: None,
                starts: 0,
                disks: BTreeMap::new(),
            };
            let slot = slot.with_disks()?;
            slots.insert(name, slot);
        }
        let switch = match slots.len() {
            0 | 1 => None,
            _ => {
                let addresses = slots
                    .iter()
                    .map(|(name, slot)| ((*name).to_owned(), slot.address()))
                    .collect();
                Some(Switch::start(addresses, row.arch, directory)?)
            }
        };
        Ok(Run {
            row,
            slots,
            switch,
            served: Served::of(&row.hauls)?,
            directory,
            _scratch: scratch,
        })
    }

    /// Does steps one after the other, on the machine `on` where they name no other.
    fn steps(&mut self, steps: &[Step], on: &str) -> Result<()> {
        for (number, step) in steps.iter().enumerate() {
            let done = match step {
                Step::Start(name) => self.start(name),
                Step::On(by_name) => by_name
                    .iter()
                    .try_for_each(|(name, steps)| self.steps(steps, name)),
                Step::DiskUnchanged(serial) => {
                    self.slot(on).and_then(|slot| slot.disk_unchanged(serial))
                }
                _ => self.node(on).and_then(|mut node| node.step(step)),
            };
            done.with_context(|| match step {
                Step::On(_) => format!("step {}", number + 1),
                _ => format!("step {} on {on} ({step:?})", number + 1),
            })?;
        }
        Ok(())
    }

    /// Switches a machine on, again perhaps.
    fn start(&mut self, name: &str) -> Result<()> {
        let several = !self.row.machines.is_empty();
        let slot = self
            .slots
            .get_mut(name)
            .ok_or_else(|| anyhow!("the row has no machine {name}"))?;
        if let Some(vm) = &mut slot.vm {
            ensure!(
                vm.wait_exit(std::time::Duration::ZERO)?.is_some(),
                "{name} is on already"
            );
        }
        slot.vm = None;
        slot.starts += 1;
        let directory = match (several, slot.starts) {
            (false, _) => self.directory.to_owned(),
            (true, 1) => self.directory.join(name),
            (true, again) => self.directory.join(format!("{name}-{again}")),
        };
        fs::create_dir_all(&directory).context("making a directory for results")?;
        let machine = machine::machine(self.row, slot, self.switch.as_ref())?;
        let cable = match slot.hardware.network {
            Card::Out => Cable::Out,
            Card::In | Card::None => Cable::In,
        };
        let mut vm = Vm::start(machine, cable, &directory)?;
        if let Some(switch) = &self.switch {
            vm.reached_by(switch.reach(name)?);
        }
        slot.vm = Some(vm);
        Ok(())
    }

    fn slot(&self, name: &str) -> Result<&Slot<'a>> {
        self.slots
            .get(name)
            .ok_or_else(|| anyhow!("the row has no machine {name}"))
    }

    fn node(&mut self, name: &str) -> Result<Node<'_>> {
        let slot = self
            .slots
            .get_mut(name)
            .ok_or_else(|| anyhow!("the row has no machine {name}"))?;
        Ok(Node {
            row: self.row,
            vm: slot
                .vm
                .as_mut()
                .ok_or_else(|| anyhow!("{name} was not switched on"))?,
            built: &slot.built,
            image: &slot.image,
            served: &self.served,
        })
    }
}

impl Node<'_> {
    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Stage(expected) => self.stage(expected),
            Step::Notice(text) => self.notice(text),
            Step::Pull(name) => self.pull(name),
            Step::PullAll => self.pull_all(),
            Step::FetchAll => self.fetch_all(),
            Step::HelmPullAll => self.helm_pull_all(),
            Step::Status(values) => self.status(values),
            Step::Answers(answers) => self.answers(answers),
            Step::Asked(asked) => self.asked(asked),
            Step::Untouched { root_bytes } => self.untouched(*root_bytes),
            Step::BlobsFail => self.blobs_fail(),
            Step::Cable(cable) => self.vm.cable(*cable),
            Step::Plug => self.vm.plug(self.image, "plugged"),
            Step::Unplug => self.vm.unplug("stick"),
            Step::PowerButton => self.power_button(),
            Step::CtrlAltDel => self.ctrl_alt_del(),
            Step::Cut => self.vm.cut(),
            Step::Probe(line) => Ok(self.vm.probe().wait_line(line, self.row.bound())?),
            Step::NoProbe(line) => self.vm.probe().no_line(line),
            Step::NoConditionFails { at_least } => self.vm.probe().no_condition_fails(*at_least),
            Step::Cluster(wanted) => self.cluster(wanted),
            Step::Kubectl(call) => self.kubectl(call),
            Step::RegistryKilled(wanted) => self.killed_while(wanted),
            Step::Start(_) | Step::On(_) | Step::DiskUnchanged(_) => {
                bail!("this step is the row's, not a machine's")
            }
        }
    }
}

/// The digest of a file, read in pieces.
fn digest(path: &Path) -> Result<Digest> {
    let mut hasher = Hasher::sha256();
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(piece.get(..read).unwrap_or_default()),
        }
    }
}
