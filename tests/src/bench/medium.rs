//! Three clients that pull a haul of 1 GiB at once from a node whose medium is slow: how much is
//! read from the medium, and how long it takes the last of them.
//!
//! The node is a machine in QEMU, which counts what is read and slows it down from when the
//! registry serves. It is slow enough that the medium, not the emulation, is what all wait for.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use builder::qemu::{Accelerator, Boot, BootFiles, Bus, Disk, Identity, Machine, Network, Serial};
use image_layout::Arch;
use image_layout::status::{Outcome, Stage};
use serde_json::json;

use super::http::Client;
use super::{Bound, Contents, Figure, Settings, Shape};
use crate::clients::run_within;
use crate::images::builder_program;
use crate::qemu::{Cable, Vm};
use crate::results;

const PART: &str = "medium";
/// Clients that pull at once.
const CLIENTS: usize = 3;
/// Layers that each of them fetches at once: containerd's `max_concurrent_downloads`.
const AT_ONCE: usize = 3;
/// What the medium gives in a second ...
const BYTES_PER_SECOND: u64 = 12_000_000;
/// ... to an emulated processor, which must bring three times as much to the clients.
const EMULATED_BYTES_PER_SECOND: u64 = 3_000_000;
/// How long an emulated machine may boot.
const BOOT_BOUND: Duration = Duration::from_secs(300);
const BUILD_BOUND: Duration = Duration::from_secs(300);
/// Bytes that a client reads at once.
const BUFFER: usize = 256 << 10;
const STICK: &str = "stick";

pub(super) fn run(settings: &Settings, directory: &Path) -> Result<Vec<Figure>> {
    let shape = Shape {
        images: 8,
        layers: 4,
        layer_bytes: if settings.smoke { 1 << 20 } else { 32 << 20 },
    };
    let contents = Contents::make(&directory.join("layout"), shape)?;
    let image = stick(&contents, directory)?;
    let results = results::directory("bench medium").context("making a directory for results")?;
    eprintln!("medium: booting a node");
    let machine = machine(&image, directory)?;
    let rate = match machine.accelerator {
        Accelerator::Tcg => EMULATED_BYTES_PER_SECOND,
        _ => BYTES_PER_SECOND,
    };
    let mut vm = Vm::start(machine, Cable::In, &results)?;
    vm.status()
        .wait_stage(Stage::Run, Outcome::Done, BOOT_BOUND)?;
    let registry = vm.registry()?;
    let limits = json!({
        "device": STICK, "bps": 0, "bps_rd": rate, "bps_wr": 0,
        "iops": 0, "iops_rd": 0, "iops_wr": 0,
    });
    vm.qmp().execute("block_set_io_throttle", limits)?;
    let before = vm.block_stats(STICK)?.read_bytes;
    eprintln!("medium: {CLIENTS} clients pull");
    let seconds = pull(&contents, registry)?;
    let read = vm.block_stats(STICK)?.read_bytes - before;

    let haul = contents.bytes() as f64;
    let of = format!(
        "{CLIENTS} clients, {:.0} MiB, medium of {} MB/s",
        haul / (1 << 20) as f64,
        rate / 1_000_000
    );
    let sequential = haul / rate as f64;
    let mut bytes = Figure::new(PART, of, "bytes read from the medium / haul");
    bytes.add("haulboot", read as f64 / haul);
    let mut time = Figure::new(
        PART,
        format!("one sequential read takes {sequential:.1} s"),
        "time until the last is done / sequential read",
    );
    let mut done = seconds;
    done.sort_by(f64::total_cmp);
    let last = done.last().copied().unwrap_or(f64::INFINITY);
    time.add("haulboot", last / sequential);
    Ok(vec![
        bytes.require("haulboot", Bound::AtMost(1.05)),
        time.require("haulboot", Bound::AtMost(1.15)),
    ])
}

/// An image with the contents as its haul.
fn stick(contents: &Contents, directory: &Path) -> Result<std::path::PathBuf> {
    let haul = directory.join("haul.tar");
    contents.archive(&haul)?;
    let image = directory.join("stick.img");
    let mut build = Command::new(builder_program()?);
    build
        .args(["--arch", Arch::current().name(), "--haul"])
        .arg(&haul)
        .arg("-o")
        .arg(&image)
        .current_dir(results::repository());
    if std::env::var_os("HAULBOOT_BOOT_PACKS").is_none() {
        build.env("HAULBOOT_BOOT_PACKS", results::target().join("boot-packs"));
    }
    run_within(&mut build, "make", BUILD_BOUND).context("building an image")?;
    std::fs::remove_file(&haul)?;
    Ok(image)
}

/// A node of this computer's architecture, started without firmware, which only takes time.
fn machine(image: &Path, directory: &Path) -> Result<Machine> {
    let arch = Arch::current();
    let files = BootFiles::extract(image, arch)?;
    let [kernel, initramfs] = ["kernel", "initramfs"].map(|name| directory.join(name));
    std::fs::write(&kernel, &files.kernel)?;
    std::fs::write(&initramfs, &files.initramfs)?;
    Ok(Machine {
        arch,
        accelerator: Accelerator::detect(image, arch)?,
        memory_mib: 2048,
        cpus: 2,
        boot: Boot::Kernel {
            kernel,
            initramfs,
            command_line: files.options,
        },
        disks: vec![Disk::new(STICK, image, Bus::VirtioBlk)],
        network: Some(Network::default()),
        // the harness puts its own in place
        serial: Serial::File(directory.join("console.log")),
        status_port: None,
        ports: Vec::new(),
        qmp: None,
        identity: Identity::default(),
        clock: None,
        end_at_reboot: true,
        paused: true,
    })
}

/// A client's connections. QEMU listens with room for one that waits (libslirp, `tcpx_listen`), so
/// each is answered before another is made.
fn connect(registry: SocketAddr) -> Result<Vec<Client>> {
    (0..AT_ONCE)
        .map(|_| {
            let mut client = Client::connect(registry, BUFFER)?;
            client.whole("/v2/")?;
            Ok(client)
        })
        .collect()
}

/// Every client fetches every layer, in the same order, a few at once. Returns the seconds that
/// each took.
fn pull(contents: &Contents, registry: SocketAddr) -> Result<Vec<f64>> {
    let layers: Vec<String> = contents
        .images
        .iter()
        .flat_map(|image| {
            let path = |layer| format!("/v2/{}/blobs/{layer}", image.repository);
            image.layers.iter().map(path)
        })
        .collect();
    let connections = (0..CLIENTS).map(|_| connect(registry));
    let connections = connections.collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    let layers = &layers;
    std::thread::scope(|scope| {
        let clients: Vec<_> = connections
            .into_iter()
            .map(|connections| scope.spawn(move || client(layers, connections)))
            .collect();
        clients
            .into_iter()
            .map(|client| {
                let done = client.join();
                let done = done.unwrap_or_else(|_| Err(anyhow!("a client panicked")))?;
                Ok((done - started).as_secs_f64())
            })
            .collect()
    })
}

/// Fetches all layers; returns when it was done.
fn client(layers: &[String], connections: Vec<Client>) -> Result<Instant> {
    let next = Mutex::new(layers.iter());
    let next = &next;
    let fetch = move |mut client: Client| -> Result<()> {
        loop {
            let layer = next.lock().map_err(|_| anyhow!("a fetch panicked"))?.next();
            match layer {
                Some(path) => client.whole(path)?,
                None => return Ok(()),
            };
        }
    };
    std::thread::scope(|scope| {
        let fetches: Vec<_> = connections
            .into_iter()
            .map(|client| scope.spawn(move || fetch(client)))
            .collect();
        fetches.into_iter().try_for_each(|fetch| {
            fetch
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a fetch panicked")))
        })
    })?;
    Ok(Instant::now())
}
