//! What `make demo` shows: a haul becomes an image, boots, and is pulled from.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use builder::image::ArtifactContents;
use builder::qemu::{Accelerator, Boot, Bus, Disk, Firmware, Identity, Machine, Network, Serial};
use flate2::read::GzDecoder;
use image_layout::catalog::ArtifactKind;
use image_layout::oci::{Manifest, annotation};
use image_layout::status::{Outcome, Stage, Status, StatusLine};
use image_layout::{Arch, Digest};
use serde_json::{Value, json};

use crate::clients;
use crate::demo_haul::{self, Program};
use crate::qemu::{Cable, Vm};

/// From power-on to the registry: emulated machines on a busy host take a minute.
const BOOT_BOUND: Duration = Duration::from_secs(300);
const MEMORY_MIB: u32 = 1024;

/// What is shown.
#[derive(Debug)]
pub struct Demo {
    /// The machine that boots.
    pub arch: Arch,
    /// Hauls to use instead of the demonstration's own.
    pub hauls: Vec<PathBuf>,
    /// k3s binaries to carry.
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
        println!("     two images for two architectures, a Helm chart, a file");
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
        if let Some(config) = &self.config {
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
            memory_mib: MEMORY_MIB,
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

    /// Pulls an image with skopeo, compares its digest, and runs it where that is possible.
    fn pull(&self, vm: &Vm, artifact: &ArtifactContents) -> Result<(String, Digest)> {
        let name = artifact.name.clone();
        let to = self.directory.join("pulled");
        if to.exists() {
            fs::remove_dir_all(&to).with_context(|| format!("removing {}", to.display()))?;
        }
        let mut command = Command::new("skopeo");
        command
            .args([
                "copy",
                "--quiet",
                "--all",
                "--preserve-digests",
                "--src-tls-verify=false",
            ])
            .arg(format!("docker://{}/{name}", vm.registry()?))
            .arg(format!("dir:{}", to.display()));
        println!("     $ {}", shown(&command));
        clients::run(&mut command, "the package skopeo")?;
        let manifest = to.join("manifest.json");
        let bytes =
            fs::read(&manifest).with_context(|| format!("reading {}", manifest.display()))?;
        let digest = Digest::sha256_of(&bytes);
        ensure!(
            digest == artifact.digest,
            "{name} came as {digest}, and {} went into the image",
            artifact.digest
        );
        println!("     {digest}, as in the haul");
        if name == demo_haul::HELLO && self.arch == Arch::current() {
            let words = run_pulled(&to, self.arch).context("running the image's program")?;
            println!("     its program says: {words}");
        }
        Ok((name, digest))
    }

    /// Fetches a file; what it must be is in its manifest, which is asked for by digest.
    fn fetch(&self, vm: &Vm, artifact: &ArtifactContents) -> Result<(String, Digest)> {
        let name = &artifact.name;
        let repository = name
            .split_once(':')
            .map_or(name.as_str(), |(before, _)| before);
        let path = format!("/v2/{repository}/manifests/{}", artifact.digest);
        let answer = clients::get(vm.registry()?, &path)?;
        ensure!(
            answer.status == 200 && Digest::sha256_of(&answer.body) == artifact.digest,
            "{path}: status {}, or other bytes than went into the image",
            answer.status
        );
        let manifest: Manifest =
            serde_json::from_slice(&answer.body).with_context(|| format!("reading {path}"))?;
        let layer = manifest.layers.first();
        let title = layer.and_then(|layer| layer.annotations.get(annotation::TITLE));
        let (Some(layer), Some(title)) = (layer, title) else {
            bail!("the manifest of {name} has no titled layer");
        };
        let path = format!("/files/{title}");
        println!("     $ curl http://{}{path}", vm.registry()?);
        clients::fetch(vm.registry()?, &path, &layer.digest)?;
        println!("     {}, as in the haul", layer.digest);
        Ok((title.clone(), layer.digest))
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
    let answer = clients::get(vm.registry()?, "/status")?;
    ensure!(answer.status == 200, "/status: status {}", answer.status);
    println!("     $ curl http://{}/status", vm.registry()?);
    let status: Status = serde_json::from_slice(&answer.body).context("reading /status")?;
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

/// Runs the program of an image that skopeo copied to `directory`; returns its first line.
fn run_pulled(directory: &Path, arch: Arch) -> Result<String> {
    let read = |name: &str| -> Result<Value> {
        let path = directory.join(name);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))
    };
    let hex = |descriptor: &Value| -> Result<String> {
        let digest: Digest = descriptor["digest"]
            .as_str()
            .context("a descriptor has no digest")?
            .parse()?;
        Ok(digest.hex())
    };
    let index = read("manifest.json")?;
    let child = index["manifests"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|child| child["platform"]["architecture"] == arch.oci())
        .with_context(|| format!("the index has no image for {}", arch.oci()))?;
    let manifest = read(&format!("{}.manifest.json", hex(child)?))?;
    let layer = directory.join(hex(&manifest["layers"][0])?);
    let layer = File::open(&layer).with_context(|| format!("opening {}", layer.display()))?;
    let root = directory.join("root");
    tar::Archive::new(GzDecoder::new(layer))
        .unpack(&root)
        .context("unpacking the layer")?;
    let output = Command::new(root.join("hello")).output()?;
    ensure!(output.status.success(), "it ended with {}", output.status);
    let words = String::from_utf8(output.stdout)?;
    Ok(words.lines().next().unwrap_or_default().to_owned())
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
