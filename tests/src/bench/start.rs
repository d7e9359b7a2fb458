//! Start and memory with 1,000 images of 10,000 blobs.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use super::http::Client;
use super::peers::{HAULBOOT, Peer};
use super::usage::{cpu_seconds, peak_resident, resident};
use super::{Bound, Contents, Figure, Settings, Shape};

const PART: &str = "start";
/// As many as the registry takes.
const CONNECTIONS: usize = 512;
/// Bytes that each client reads at once, and that the kernel keeps for it: they are many and none
/// is fast, so that the server has all answers in its hands at once.
const BUFFER: usize = 64 << 10;
/// Bytes of a thread that does nothing but read.
const STACK: usize = 64 << 10;

pub(super) fn run(settings: &Settings, directory: &Path) -> Result<Vec<Figure>> {
    let small = Shape {
        images: if settings.smoke { 10 } else { 1000 },
        layers: 8,
        layer_bytes: 256,
    };
    let many = Contents::make(&directory.join("many"), small)?;
    many.make_warm()?;
    let image = many.images.last().context("no images")?;
    let manifest = format!("/v2/{}/manifests/{}", image.repository, image.tag);
    let of = format!("{} images, {} blobs", many.images.len(), many.blob_count());
    let mut start = Figure::new(
        PART,
        format!("start to first answer, warm, {of}"),
        "milliseconds",
    );
    let mut cost = Figure::new(PART, "of that, CPU of the server", "milliseconds");
    let mut idle = Figure::new(PART, "resident memory then, idle", "MiB");
    for round in 1..=settings.rounds {
        eprintln!("start, round {round}");
        let before = Instant::now();
        let ours = Peer::haulboot(&many.directory)?;
        Client::connect(ours.address, BUFFER)?.whole(&manifest)?;
        start.add(HAULBOOT, before.elapsed().as_secs_f64() * 1e3);
        cost.add(HAULBOOT, cpu_seconds(ours.process())? * 1e3);
        idle.add(HAULBOOT, resident(ours.process())?);
    }
    let mut busy = Figure::new(
        PART,
        "most resident memory, 512 connections that pull",
        "MiB",
    );
    // the same images, and one with layers that take a while
    let large = Shape {
        images: 1,
        layers: 4,
        layer_bytes: if settings.smoke { 1 << 20 } else { 4 << 20 },
    };
    let both = many.with(large)?;
    both.make_warm()?;
    let image = both.images.last().context("no images")?;
    let blobs: Vec<_> = image
        .layers
        .iter()
        .map(|layer| format!("/v2/{}/blobs/{layer}", image.repository))
        .collect();
    for round in 1..=settings.rounds {
        eprintln!("{CONNECTIONS} connections, round {round}");
        let ours = Peer::haulboot(&both.directory)?;
        pull(&ours, &blobs)?;
        busy.add(HAULBOOT, peak_resident(ours.process())?);
    }
    Ok(vec![
        start.require(HAULBOOT, Bound::AtMost(100.0)),
        cost,
        idle.require(HAULBOOT, Bound::AtMost(24.0)),
        busy.require(HAULBOOT, Bound::AtMost(64.0)),
    ])
}

/// Every connection asks for a blob and only then reads it, so that all are answered at once.
fn pull(server: &Peer, blobs: &[String]) -> Result<()> {
    let together = std::sync::Barrier::new(CONNECTIONS);
    let (together, address) = (&together, server.address);
    let client = |path: &str| -> Result<()> {
        // whatever fails, the others must not wait for this one
        let asked = Client::connect(address, BUFFER).and_then(|mut client| {
            client.keep_little(BUFFER)?;
            let body = client.get(path)?;
            Ok((client, body))
        });
        together.wait();
        let (mut client, mut body) = asked?;
        while client.take(&mut body)? > 0 {}
        Ok(())
    };
    std::thread::scope(|scope| {
        let mut clients = Vec::new();
        for path in blobs.iter().cycle().take(CONNECTIONS) {
            let thread = std::thread::Builder::new().stack_size(STACK);
            clients.push(thread.spawn_scoped(scope, move || client(path)));
        }
        for client in clients {
            client?
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a client panicked")))?;
        }
        Ok(())
    })
}
