//! What `make demo` shows: a haul becomes an image, boots, is pulled from, and is a cluster.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use builder::image::ArtifactContents;
use builder::qemu::{Accelerator, Boot, Bus, Disk, Firmware, Identity, Machine, Network, Serial};
use image_layout::catalog::ArtifactKind;
use image_layout::status::{Outcome, Stage, StatusLine};
use image_layout::{Arch, Digest};
use serde_json::json;

use crate::demo_haul::{self, Program};
use crate::launcher;
use crate::qemu::{Cable, Vm};

mod cluster;
mod pull;

pub use cluster::Shows;
use cluster::node_status;

/// From power-on until the node is up: emulated machines on a busy host take a minute, and with a
/// real k3s several.
const BOOT_BOUND: Duration = Duration::from_secs(1200);
const MEMORY_MIB: u32 = 1024;
/// k3s alone takes 500 MB, its data and images as much again.
const K3S_MEMORY_MIB: u32 = 4096;
/// What is shown.
#[derive(Debug)]
pub struct Demo {
    /// The machine that boots.
    pub arch: Arch,
    /// Hauls to use instead of the demonstration's own.
    pub hauls: Vec<PathBuf>,
    /// k3s binaries to carry; with the demonstration's own haul the stand-in of the tests where
    /// there is none.
    pub k3s: Vec<PathBuf>,
    /// The `cluster.yaml` to put on the image.
    pub config: Option<PathBuf>,
    /// The program of the demonstration's own images, per architecture.
    pub programs: Vec<(Arch, PathBuf)>,
    /// The builder.
    pub builder: PathBuf,
    /// Where image, logs and what was pulled are left.
    pub directory: PathBuf,
}

/// What a run leaves behind.
#[derive(Debug)]
pub struct Shown {
    /// The image that was booted.
    pub image: PathBuf,
    /// The image that was pulled.
    pub pulled: Option<(String, Digest)>,
    /// The file that was fetched.
    pub fetched: Option<(String, Digest)>,
    /// From the kernel's start until the registry listened, in seconds.
    pub registry_after: f64,
    /// Bytes that the node wrote to its stick.
    pub written: u64,
    /// What runs as k3s.
    pub cluster: Shows,
}

impl Demo {
    /// Where the node's console is logged.
    pub fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// Runs it all, saying what it does.
    ///
    /// # Errors
    /// When any part fails or gives other bytes than went in.
    pub fn show(&self) -> Result<Shown> {
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("making {}", self.directory.display()))?;
        heading("A haul");
        let hauls = self.haul()?;
        heading("An image of it");
        let image = self.image(&hauls)?;
        let artifacts = builder::image::inspect(&image)?.artifacts;
        heading("A machine boots from it");
        let mut vm = self.boot(&image)?;
        let registry_after = follow(&vm)?;
        heading("What it serves");
        let pulled = match first(&artifacts, ArtifactKind::Image) {
            Some(artifact) => Some(self.pull(&vm, artifact)?),
            None => None,
        };
        let fetched = match first(&artifacts, ArtifactKind::File) {
            Some(artifact) => Some(self.fetch(&vm, artifact)?),
            None => None,
        };
        status(&vm)?;
        self.cluster(&vm, &image)?;
        let written = vm.block_stats("stick")?.written_bytes;
        ensure!(
            written == 0,
            "the node wrote {written} bytes to its stick, which it must not"
        );
        println!("     the node wrote 0 bytes to the stick");
        heading("The power button");
        vm.qmp().execute("system_powerdown", json!({}))?;
        vm.wait_down("guest-shutdown")?;
        println!("     powered off");
        Ok(Shown {
            image,
            pulled,
            fetched,
            registry_after,
            written,
            cluster: self.shows(),
        })
    }

    /// The hauls that were given, or one of the project's own parts.
    fn haul(&self) -> Result<Vec<PathBuf>> {
        if !self.hauls.is_empty() {
            for haul in &self.hauls {
                println!("     {}", haul.display());
            }
            return Ok(self.hauls.clone());
        }
        let programs = self
            .programs
            .iter()
            .map(|(arch, path)| {
                let executable =
                    fs::read(path).with_context(|| format!("reading {}", path.display()))?;
                Ok(Program {
                    arch: *arch,
                    executable,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let path = self.directory.join("demo.tar.zst");
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        demo_haul::write(&programs, BufWriter::new(file))?;
        println!("     {}", path.display());
        println!("     images for two architectures, a Helm chart, a file");
        Ok(vec![path])
    }

    /// Has the builder write the image; its own words are shown.
    fn image(&self, hauls: &[PathBuf]) -> Result<PathBuf> {
        let image = self.directory.join("haulboot.img");
        let mut command = Command::new(&self.builder);
        for haul in hauls {
            command.arg("--haul").arg(haul);
        }
        for k3s in &self.k3s {
            command.arg("--k3s").arg(k3s);
        }
        if self.shows() == Shows::StandIn {
            println!("     no K3S was given: the stand-in of the tests takes its place");
            command.arg("--k3s").arg(launcher::launcher(self.arch)?);
        }
        if let Some(config) = self.config()? {
            command.arg("--config").arg(config);
        }
        command.args(["--arch", self.arch.name(), "-o"]).arg(&image);
        println!("     $ {}", shown(&command));
        let status = command
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("starting {}", self.builder.display()))?;
        ensure!(status.success(), "the builder ended with {status}");
        Ok(image)
    }

    fn boot(&self, image: &Path) -> Result<Vm> {
        let accelerator = Accelerator::detect(image, self.arch)?;
        let how = match accelerator {
            Accelerator::Kvm => "with KVM",
            Accelerator::Tcg => "emulated, about ten times slower than a real one",
        };
        println!("     {} in QEMU, UEFI, USB stick; {how}", self.arch);
        let machine = Machine {
            arch: self.arch,
            accelerator,
            memory_mib: match self.shows() {
                Shows::K3s => K3S_MEMORY_MIB,
                Shows::StandIn | Shows::Registry => MEMORY_MIB,
            },
            cpus: 2,
            boot: Boot::Firmware(Firmware::find(self.arch)?),
            disks: vec![Disk::new("stick", image, Bus::UsbStorage)],
            network: Some(Network::default()),
            serial: Serial::File(self.console()),
            status_port: None,
            ports: Vec::new(),
            qmp: None,
            identity: Identity::default(),
            clock: None,
            end_at_reboot: true,
            paused: false,
        };
        Vm::start(machine, Cable::In, &self.directory)
    }
}

/// Shows every stage as it ends; returns when the node is up, with the time at which its registry
/// listened.
fn follow(vm: &Vm) -> Result<f64> {
    let deadline = Instant::now() + BOOT_BOUND;
    let mut shown = 0;
    let mut registry_after = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let lines = vm.status().wait("the node's next stage", left, |lines| {
            lines
                .get(shown..)
                .filter(|new| !new.is_empty())
                .map(<[_]>::to_vec)
        })?;
        shown += lines.len();
        for line in lines {
            match line {
                StatusLine::Stage(report) => {
                    let (Outcome::Done | Outcome::Skipped) = report.outcome else {
                        let why = report.problem.map_or(report.detail, |problem| {
                            format!("{} {}", problem.what, problem.mend)
                        });
                        bail!("the stage {} failed: {why}", report.stage);
                    };
                    println!(
                        "     {:>7.2} s  {:<9} {}",
                        report.at, report.stage, report.detail
                    );
                    match report.stage {
                        Stage::Registry => registry_after = Some(report.at),
                        Stage::Run => {
                            return registry_after.context("the node is up without a registry");
                        }
                        _ => {}
                    }
                }
                StatusLine::Notice { text, at } => println!("     {at:>7.2} s  {text}"),
                StatusLine::Down { action, .. } => bail!("the node went down: {action}"),
            }
        }
    }
}

/// Asks the node how it is.
fn status(vm: &Vm) -> Result<()> {
    println!("     $ curl http://{}/status", vm.registry()?);
    let status = node_status(vm)?;
    if let Some(node) = &status.node {
        println!(
            "     node {}, role {}, {}",
            node.name,
            node.role,
            node.addresses.join(", ")
        );
    }
    for stage in &status.stages {
        println!(
            "     {:<9} ended after {:>6.2} s, took {:>6.2} s",
            stage.stage, stage.at, stage.took
        );
    }
    Ok(())
}

/// The first artifact of a kind; of images hello-world, where it is there.
fn first(artifacts: &[ArtifactContents], kind: ArtifactKind) -> Option<&ArtifactContents> {
    let mut fitting = artifacts.iter().filter(|artifact| artifact.kind == kind);
    fitting
        .clone()
        .find(|artifact| artifact.name == demo_haul::HELLO)
        .or_else(|| fitting.next())
}

/// A command as a person would type it.
fn shown(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

fn heading(what: &str) {
    println!("\n==== {what}");
}

/// The last lines of a log, for a person whose machine did not boot.
pub fn tail(log: &Path, lines: usize) -> io::Result<Vec<String>> {
    let mut bytes = Vec::new();
    File::open(log)?.take(16 << 20).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all
        .iter()
        .skip(all.len().saturating_sub(lines))
        .map(|line| line.trim_end().to_owned())
        .collect())
}
