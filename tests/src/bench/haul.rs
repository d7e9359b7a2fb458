//! A haul of 1 GiB, from a cold archive to the end of the first pull of everything: served where
//! it lies, beside unpacking it, copying it into docker-registry and pulling from there. Then many
//! skopeo that pull at once what memory has.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::contents::make_cold;
use super::peers::{DISTRIBUTION, HAULBOOT, Peer};
use super::usage::{cpu_seconds, written_bytes};
use super::{Bound, Contents, Figure, Image, Settings, Shape};
use crate::clients::run_within;

const PART: &str = "haul";
/// skopeo that copy an image each at once.
const AT_ONCE: usize = 8;
const SKOPEO_BOUND: Duration = Duration::from_secs(300);
const MIB: f64 = (1 << 20) as f64;

pub(super) fn run(settings: &Settings, directory: &Path) -> Result<Vec<Figure>> {
    let shape = Shape {
        images: 4,
        layers: 4,
        layer_bytes: if settings.smoke { 1 << 20 } else { 64 << 20 },
    };
    let contents = Contents::make(&directory.join("layout"), shape)?;
    let of = format!("{:.0} MiB", contents.bytes() as f64 / MIB);
    let mut time = Figure::new(PART, format!("cold to first full pull, {of}"), "seconds");
    let mut copy = Figure::new(PART, "of that, before the first pull can begin", "seconds");
    let mut written = Figure::new(PART, "written by the server", "MiB");
    let many = format!("{AT_ONCE} skopeo copy at once, warm");
    let mut at_once = Figure::new(PART, many.as_str(), "seconds");
    let mut cost = Figure::new(PART, many, "CPU seconds of the server");
    let archive = directory.join("haul.tar");
    contents.archive(&archive)?;
    for round in 1..=settings.rounds {
        eprintln!("haul, round {round}: {HAULBOOT}");
        make_cold(&archive)?;
        let started = Instant::now();
        let ours = Peer::haulboot(&archive)?;
        copy.add(HAULBOOT, started.elapsed().as_secs_f64());
        pull_all(&contents, &ours)?;
        time.add(HAULBOOT, started.elapsed().as_secs_f64());
        written.add(HAULBOOT, written_bytes(ours.process())? as f64 / MIB);
        let (seconds, cpu) = pull_at_once(&contents, &ours)?;
        at_once.add(HAULBOOT, seconds);
        cost.add(HAULBOOT, cpu);
        drop(ours);

        eprintln!("haul, round {round}: {DISTRIBUTION}");
        make_cold(&archive)?;
        let [unpacked, store] = [
            tempfile::tempdir_in(directory)?,
            tempfile::tempdir_in(directory)?,
        ];
        let started = Instant::now();
        let mut unpack = Command::new("tar");
        unpack
            .arg("-C")
            .arg(unpacked.path())
            .arg("-xf")
            .arg(&archive);
        run_within(&mut unpack, "the package tar", SKOPEO_BOUND)?;
        let theirs = Peer::distribution(store.path())?;
        for image in &contents.images {
            let layout = unpacked.path().display();
            let name = image.name();
            skopeo(&[
                "--dest-tls-verify=false",
                &format!("oci:{layout}:{name}"),
                &format!("docker://{}/{name}", theirs.address),
            ])?;
        }
        copy.add(DISTRIBUTION, started.elapsed().as_secs_f64());
        pull_all(&contents, &theirs)?;
        time.add(DISTRIBUTION, started.elapsed().as_secs_f64());
        written.add(DISTRIBUTION, written_bytes(theirs.process())? as f64 / MIB);
        let (seconds, cpu) = pull_at_once(&contents, &theirs)?;
        at_once.add(DISTRIBUTION, seconds);
        cost.add(DISTRIBUTION, cpu);
    }
    Ok(vec![
        time.ratio(DISTRIBUTION, HAULBOOT, None),
        copy.ratio(DISTRIBUTION, HAULBOOT, None),
        written.require(HAULBOOT, Bound::AtMost(0.0)),
        at_once.ratio(DISTRIBUTION, HAULBOOT, None),
        cost.ratio(DISTRIBUTION, HAULBOOT, None),
    ])
}

/// Pulls every image once.
fn pull_all(contents: &Contents, server: &Peer) -> Result<()> {
    let mut images = contents.images.iter();
    images.try_for_each(|image| pull(image, server))
}

/// Pulls images over and over, many at once. Returns seconds of the clock, and of the server's CPU.
fn pull_at_once(contents: &Contents, server: &Peer) -> Result<(f64, f64)> {
    let before = cpu_seconds(server.process())?;
    let started = Instant::now();
    std::thread::scope(|scope| {
        let images = contents.images.iter().cycle().take(AT_ONCE);
        let pulls: Vec<_> = images
            .map(|image| scope.spawn(move || pull(image, server)))
            .collect();
        pulls.into_iter().try_for_each(|pulled| {
            let pulled = pulled.join();
            pulled.unwrap_or_else(|_| Err(anyhow!("a pull panicked")))
        })
    })?;
    let seconds = started.elapsed().as_secs_f64();
    Ok((seconds, cpu_seconds(server.process())? - before))
}

fn pull(image: &Image, server: &Peer) -> Result<()> {
    let pulled = tempfile::tempdir()?;
    skopeo(&[
        "--src-tls-verify=false",
        &format!("docker://{}/{}", server.address, image.name()),
        &format!("dir:{}", pulled.path().display()),
    ])
}

fn skopeo(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("skopeo");
    command
        .args(["copy", "--quiet", "--preserve-digests"])
        .args(arguments);
    run_within(&mut command, "the package skopeo", SKOPEO_BOUND)?;
    Ok(())
}
