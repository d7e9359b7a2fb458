//! A haul of 1 GiB, from a cold archive to the end of the first pull of everything: served where
//! it lies, beside unpacking it, copying it into docker-registry and pulling from there.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::contents::make_cold;
use super::peers::{DISTRIBUTION, HAULBOOT, Peer};
use super::usage::written_bytes;
use super::{Bound, Contents, Figure, Settings, Shape};
use crate::clients::run_within;

const PART: &str = "haul";
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
    }
    Ok(vec![
        time.ratio(DISTRIBUTION, HAULBOOT, None),
        copy.ratio(DISTRIBUTION, HAULBOOT, None),
        written.require(HAULBOOT, Bound::AtMost(0.0)),
    ])
}

/// Pulls every image once.
fn pull_all(contents: &Contents, server: &Peer) -> Result<()> {
    for image in &contents.images {
        let pulled = tempfile::tempdir()?;
        skopeo(&[
            "--src-tls-verify=false",
            &format!("docker://{}/{}", server.address, image.name()),
            &format!("dir:{}", pulled.path().display()),
        ])?;
    }
    Ok(())
}

fn skopeo(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("skopeo");
    command
        .args(["copy", "--quiet", "--preserve-digests"])
        .args(arguments);
    run_within(&mut command, "the package skopeo", SKOPEO_BOUND)?;
    Ok(())
}
