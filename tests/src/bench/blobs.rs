//! One large blob from page cache, on one connection and on eight.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::peers::{HAULBOOT, NGINX, Peer};
use super::usage::cpu_seconds;
use super::{Bound, Contents, Figure, Settings, Shape, http};

const PART: &str = "blobs";
const MB: f64 = 1e6;

pub(super) fn run(settings: &Settings, directory: &Path) -> Result<Vec<Figure>> {
    let shape = Shape {
        images: 1,
        layers: 1,
        layer_bytes: if settings.smoke { 8 << 20 } else { 512 << 20 },
    };
    let contents = Contents::make(&directory.join("layout"), shape)?;
    contents.make_warm()?;
    let Some((image, layer)) = contents
        .images
        .first()
        .and_then(|image| Some((image, image.layers.first()?)))
    else {
        return Ok(Vec::new());
    };
    let ours = Peer::haulboot(&contents.directory)?;
    let nginx = Peer::nginx(&contents.directory)?;
    let blob = format!("/v2/{}/blobs/{layer}", image.repository);
    let file = format!("/{}", layer.blob_path());
    let mut figures = Vec::new();
    for (what, connections, least) in [("1 connection", 1, 0.7), ("8 connections", 8, 0.9)] {
        let mut clock = Figure::new(PART, what, "MB/s, client on the same processors");
        let mut cost = Figure::new(PART, what, "MB per CPU second of the server");
        for round in 1..=settings.rounds {
            for (peer, path) in [(&ours, &blob), (&nginx, &file)] {
                eprintln!("blobs, {what}, round {round}: {}", peer.name);
                let before = cpu_seconds(peer.process())?;
                let duration = Duration::from_secs(settings.seconds());
                let (bytes, seconds) = http::stream(peer.address, path, connections, duration)?;
                let took = cpu_seconds(peer.process())? - before;
                ensure!(took > 0.0, "{} took no time", peer.name);
                clock.add(peer.name, bytes as f64 / seconds / MB);
                cost.add(peer.name, bytes as f64 / took / MB);
            }
        }
        figures.push(clock.ratio(HAULBOOT, NGINX, Some(Bound::AtLeast(least))));
        figures.push(cost.ratio(HAULBOOT, NGINX, None));
    }
    Ok(figures)
}
