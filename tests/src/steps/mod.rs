//! Carrying out a row: start the machine, do its steps.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use builder::qemu::{
    Accelerator, Boot, BootFiles, Bus, Disk, Firmware, Identity, Machine, Network, Serial,
};
use image_layout::status::{Status, StatusLine};

use crate::clients::{fetch, get, helm, skopeo};
use crate::images::{Recipe, edited, image};
use crate::qemu::{Cable, EXIT_BOUND, Vm, shown};
use crate::results;
use crate::rows::{Answers, Card, Expected, Row, Start, Step, Stick};
use crate::served::Served;

/// Runs a row to its end.
///
/// # Errors
/// When a step doesn't hold. The message says which, and where console, status lines and QEMU's
/// command line lie.
pub fn run(row: &Row) -> Result<()> {
    let directory = results::directory(&row.name).context("making a directory for results")?;
    steps(row, &directory).with_context(|| {
        format!(
            "console.log, status.jsonl, command and qemu.log are in {}",
            shown(&directory).display()
        )
    })
}

fn steps(row: &Row, directory: &Path) -> Result<()> {
    let mut run = Run::start(row, directory)?;
    for (number, step) in row.steps.iter().enumerate() {
        run.step(step)
            .with_context(|| format!("step {} ({step:?})", number + 1))?;
    }
    Ok(())
}

struct Run<'a> {
    row: &'a Row,
    vm: Vm,
    image: PathBuf,
    served: Served,
    // Holds a changed copy of the image, and kernel and initramfs of a direct start.
    _scratch: tempfile::TempDir,
}

impl<'a> Run<'a> {
    fn start(row: &'a Row, directory: &Path) -> Result<Run<'a>> {
        let scratch = tempfile::tempdir().context("making a directory for the stick")?;
        let built = image(&row.recipe())?;
        let image = edited(&built, &row.edits(), scratch.path())?;
        let machine = machine(row, &image, scratch.path())?;
        let cable = match row.machine.network {
            Card::Out => Cable::Out,
            Card::In | Card::None => Cable::In,
        };
        Ok(Run {
            row,
            vm: Vm::start(machine, cable, directory)?,
            image,
            served: Served::of(&row.hauls)?,
            _scratch: scratch,
        })
    }

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
            Step::Untouched { root_bytes } => self.untouched(*root_bytes),
            Step::BlobsFail => self.blobs_fail(),
            Step::Cable(cable) => self.vm.cable(*cable),
            Step::Plug => self.vm.plug(&self.image, "plugged"),
            Step::Unplug => self.vm.unplug("stick"),
            Step::PowerButton => {
                self.vm
                    .qmp()
                    .execute("system_powerdown", serde_json::json!({}))?;
                self.down("poweroff", "guest-shutdown")
            }
            Step::CtrlAltDel => {
                let key = |name: &str| serde_json::json!({"type": "qcode", "data": name});
                let keys = [key("ctrl"), key("alt"), key("delete")];
                self.vm
                    .qmp()
                    .execute("send-key", serde_json::json!({"keys": keys}))?;
                self.down("reboot", "guest-reset")
            }
        }
    }

    fn stage(&self, expected: &Expected) -> Result<()> {
        let status = self.vm.status();
        let report = status.wait_stage(expected.name, expected.outcome, self.row.bound())?;
        let problem = report.problem.as_ref();
        for (what, wanted, said) in [
            ("detail", &expected.detail, Some(&report.detail)),
            (
                "problem",
                &expected.problem,
                problem.map(|problem| &problem.what),
            ),
            ("mend", &expected.mend, problem.map(|problem| &problem.mend)),
        ] {
            let said = said.map_or("", String::as_str);
            ensure!(
                said.contains(wanted),
                "{what} is {said:?}, without {wanted:?}"
            );
        }
        Ok(())
    }

    fn notice(&self, wanted: &str) -> Result<()> {
        let what = format!("a notice with {wanted:?}");
        Ok(self.vm.status().wait(&what, self.row.bound(), |lines| {
            lines.iter().find_map(|line| match line {
                StatusLine::Notice { text, .. } if text.contains(wanted) => Some(()),
                _ => None,
            })
        })?)
    }

    fn down(&mut self, action: &str, reason: &str) -> Result<()> {
        let what = format!("the last line with {action}");
        let said = self
            .vm
            .status()
            .wait(&what, EXIT_BOUND, |lines| match lines.last() {
                Some(StatusLine::Down { action, .. }) => Some(action.clone()),
                _ => None,
            })?;
        ensure!(
            said == action,
            "the node says {said:?} instead of {action:?}"
        );
        self.vm.wait_down(reason)
    }

    fn pull(&self, name: &str) -> Result<()> {
        let wanted = self
            .served
            .tags
            .iter()
            .find(|(repository, tag, _)| format!("{repository}:{tag}") == name);
        let (repository, _, digest) = wanted.ok_or_else(|| anyhow!("the hauls have no {name}"))?;
        let registry = self.vm.registry()?;
        for name in [name.to_owned(), format!("{repository}@{digest}")] {
            let arrived = skopeo(registry, &name)?;
            ensure!(arrived == *digest, "{name} arrived as {arrived}");
        }
        Ok(())
    }

    fn pull_all(&self) -> Result<()> {
        ensure!(!self.served.tags.is_empty(), "the hauls have no tags");
        self.served
            .tags
            .iter()
            .try_for_each(|(repository, tag, _)| self.pull(&format!("{repository}:{tag}")))
    }

    fn fetch_all(&self) -> Result<()> {
        ensure!(!self.served.files.is_empty(), "the hauls have no files");
        let registry = self.vm.registry()?;
        for (name, digest) in &self.served.files {
            // In a path `+` stands for itself.
            fetch(registry, &format!("/files/{name}"), digest)?;
        }
        Ok(())
    }

    fn helm_pull_all(&self) -> Result<()> {
        ensure!(!self.served.charts.is_empty(), "the hauls have no charts");
        let registry = self.vm.registry()?;
        for chart in &self.served.charts {
            let arrived = helm(registry, &chart.repository, &chart.tag)?;
            ensure!(
                arrived == chart.digest,
                "{} arrived as {arrived}",
                chart.repository
            );
        }
        Ok(())
    }

    fn status(&self, values: &BTreeMap<String, serde_json::Value>) -> Result<()> {
        let answer = get(self.vm.registry()?, "/status")?;
        ensure!(answer.status == 200, "/status answers {}", answer.status);
        // The shape, then the values.
        serde_json::from_slice::<Status>(&answer.body).context("reading /status")?;
        let status: serde_json::Value = serde_json::from_slice(&answer.body)?;
        for (pointer, wanted) in values {
            let found = status.pointer(pointer);
            ensure!(
                found == Some(wanted),
                "{pointer} is {found:?} instead of {wanted}"
            );
        }
        Ok(())
    }

    fn answers(&self, wanted: &Answers) -> Result<()> {
        let path = &wanted.path;
        let answer = get(self.vm.registry()?, path)?;
        ensure!(
            answer.status == wanted.status,
            "{path} answers {}",
            answer.status
        );
        let body = String::from_utf8_lossy(&answer.body);
        ensure!(body.contains(&wanted.contains), "{path} answers {body:?}");
        Ok(())
    }

    fn untouched(&mut self, root_bytes: u64) -> Result<()> {
        let stats = self.vm.block_stats("stick")?;
        ensure!(
            stats.writes == 0 && stats.written_bytes == 0,
            "the stick was written to: {stats:?}"
        );
        ensure!(
            stats.read_bytes > 0,
            "QEMU's counters stand still: {stats:?}"
        );
        let answer = get(self.vm.registry()?, "/status")?;
        let status: Status = serde_json::from_slice(&answer.body).context("reading /status")?;
        let used = status.root_bytes_used;
        ensure!(
            (1..=root_bytes).contains(&used),
            "the tmpfs that is / holds {used} bytes; the bound is {root_bytes}"
        );
        Ok(())
    }

    fn blobs_fail(&self) -> Result<()> {
        let registry = self.vm.registry()?;
        for (name, _) in &self.served.files {
            // The page cache may still have some; one that it hasn't is enough.
            match get(registry, &format!("/files/{name}")) {
                Ok(answer) if answer.status == 200 => {}
                Ok(answer) if answer.status >= 500 => return Ok(()),
                Ok(answer) => bail!("/files/{name} answers {}", answer.status),
                Err(_) => return Ok(()),
            }
        }
        bail!("every file still came back")
    }
}

fn machine(row: &Row, image: &Path, scratch: &Path) -> Result<Machine> {
    let hardware = &row.machine;
    let boot = match row.start {
        Start::Uefi => Boot::Firmware(Firmware::find(row.arch).map_err(with_help)?),
        Start::Direct => direct(row, image, image, scratch)?,
        Start::DirectForeign => {
            let own = crate::images::image(&Recipe {
                arches: vec![row.arch],
                hauls: row.hauls.clone(),
            })?;
            direct(row, &own, image, scratch)?
        }
    };
    let drive = |id: &str, bus| Disk {
        read_bytes_per_second: hardware.read_bytes_per_second,
        sector: hardware.sector.unwrap_or(512),
        ..Disk::new(id, image, bus)
    };
    let mut disks = Vec::new();
    if hardware.stick == Stick::In {
        disks.push(drive("stick", row.bus));
    }
    if hardware.second_stick {
        disks.push(drive("second", Bus::UsbStorage));
    }
    Ok(Machine {
        arch: row.arch,
        accelerator: match row.start {
            // An image for another architecture has no kernel to try KVM with.
            Start::DirectForeign => Accelerator::Tcg,
            _ => Accelerator::detect(image, row.arch)?,
        },
        memory_mib: hardware.memory.unwrap_or(1024),
        cpus: hardware.cpus.unwrap_or(1),
        boot,
        disks,
        network: match hardware.network {
            Card::None => None,
            Card::In | Card::Out => Some(Network {
                registry_port: 0,
                guest_address: hardware.address,
                mac: hardware.mac,
            }),
        },
        // The harness puts its own in place.
        serial: Serial::File(scratch.join("console.log")),
        status_port: None,
        qmp: None,
        identity: Identity {
            serial: hardware.serial.clone(),
            uuid: hardware.uuid,
        },
        clock: hardware.clock.clone(),
        end_at_reboot: true,
        paused: true,
    })
}

/// A start with the kernel of one image and the `haulboot.*` arguments of another.
fn direct(row: &Row, kernel_of: &Path, arguments_of: &Path, scratch: &Path) -> Result<Boot> {
    let files = BootFiles::extract(kernel_of, row.arch)?;
    let arches = builder::qemu::architectures(arguments_of)?;
    let arch = *arches
        .first()
        .ok_or_else(|| anyhow!("the image boots nothing"))?;
    let options = BootFiles::extract(arguments_of, arch)?.options;
    let ours = options
        .split_whitespace()
        .filter(|word| word.starts_with("haulboot."))
        .collect::<Vec<_>>()
        .join(" ");
    let kernel = scratch.join("kernel");
    let initramfs = scratch.join("initramfs");
    fs::write(&kernel, files.kernel)?;
    fs::write(&initramfs, files.initramfs)?;
    Ok(Boot::Kernel {
        kernel,
        initramfs,
        command_line: format!(
            "console=tty0 console={} {ours} {}",
            row.arch.serial_console(),
            row.machine.kernel_arguments
        ),
    })
}

fn with_help(error: builder::qemu::QemuError) -> anyhow::Error {
    match error.help() {
        Some(help) => anyhow::Error::new(error).context(help),
        None => error.into(),
    }
}
