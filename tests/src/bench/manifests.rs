//! Requests for manifests, by tag and by digest, per second of the server's CPU: wrk runs on the
//! same processors, so what a server answers in a second of the clock says as much about wrk.

use std::path::Path;

use anyhow::{Result, ensure};

use super::peers::{DISTRIBUTION, HAULBOOT, NGINX, Peer};
use super::usage::cpu_seconds;
use super::{Bound, Contents, Figure, Settings, Shape, wrk};

const PART: &str = "manifests";
/// Manifests of ordinary images.
const SHAPE: Shape = Shape {
    images: 10,
    layers: 8,
    layer_bytes: 4096,
};

pub(super) fn run(settings: &Settings, directory: &Path) -> Result<Vec<Figure>> {
    let contents = Contents::make(&directory.join("layout"), SHAPE)?;
    let store = directory.join("store");
    contents.distribution_store(&store)?;
    contents.make_warm()?;
    let Some(image) = contents.images.first() else {
        return Ok(Vec::new());
    };
    let ours = Peer::haulboot(&contents.directory)?;
    let distribution = Peer::distribution(&store)?;
    let nginx = Peer::nginx(&contents.directory)?;
    let manifests = format!("/v2/{}/manifests", image.repository);
    let file = format!("/{}", image.manifest.blob_path());
    let mut figures = Vec::new();
    for (what, path) in [
        ("by tag", format!("{manifests}/{}", image.tag)),
        ("by digest", format!("{manifests}/{}", image.manifest)),
    ] {
        let mut figure = Figure::new(PART, what, "requests per CPU second of the server");
        let mut clock = Figure::new(
            PART,
            what,
            "requests per second, wrk on the same processors",
        );
        for round in 1..=settings.rounds {
            for (peer, path) in [(&ours, &path), (&distribution, &path), (&nginx, &file)] {
                eprintln!("manifests {what}, round {round}: {}", peer.name);
                let before = cpu_seconds(peer.process())?;
                let answers = wrk::requests(peer.address, path, settings.seconds())? as f64;
                let took = cpu_seconds(peer.process())? - before;
                ensure!(took > 0.0, "{} took no time", peer.name);
                figure.add(peer.name, answers / took);
                clock.add(peer.name, answers / settings.seconds() as f64);
            }
        }
        figures.push(
            figure
                .ratio(HAULBOOT, DISTRIBUTION, Some(Bound::AtLeast(20.0)))
                .ratio(HAULBOOT, NGINX, None),
        );
        figures.push(clock);
    }
    Ok(figures)
}
