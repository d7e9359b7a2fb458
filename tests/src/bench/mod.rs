//! `make bench`: what the registry costs and gives, beside others on the same machine.
//!
//! Peers are Debian's docker-registry and nginx over the same files, load comes from wrk, skopeo
//! and a client of our own. Servers that are compared take turns within each round, so that what
//! else the machine does in that time meets all of them; ratios are those of one round. Every server
//! listens on loopback, keeps to a directory of its own and is ended by its process id.

mod blobs;
mod contents;
mod figure;
mod haul;
mod http;
mod manifests;
mod medium;
mod peers;
mod start;
mod usage;
mod wrk;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;

pub use contents::{Contents, Image, Shape};
pub use figure::{Bound, Figure, Report, Target};

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Part {
    /// Requests for manifests, per CPU second of the server.
    Manifests,
    /// One large blob from page cache.
    Blobs,
    /// Start and memory with 1,000 images.
    Start,
    /// A haul of 1 GiB, from cold archive to first pull.
    Haul,
    /// Three clients at once, from a slow medium, on a machine in QEMU.
    Medium,
}

/// How a part is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often each figure is taken.
    pub rounds: usize,
    /// Smaller contents and shorter runs, to see that the program works; its figures say nothing.
    pub smoke: bool,
    /// Where contents are made; several GiB.
    pub scratch: PathBuf,
}

impl Settings {
    /// Seconds that load is put on a server for one figure.
    fn seconds(&self) -> u64 {
        if self.smoke { 1 } else { 3 }
    }
}

/// Runs one part. Says on standard error what it is at.
///
/// # Errors
/// When a program is missing (the message names its package), or a server does not answer as it
/// must.
pub fn run(part: Part, settings: &Settings) -> Result<Vec<Figure>> {
    let directory = tempfile::Builder::new()
        .prefix("haulboot-bench-")
        .tempdir_in(&settings.scratch)
        .context("making a directory for contents")?;
    match part {
        Part::Manifests => manifests::run(settings, directory.path()),
        Part::Blobs => blobs::run(settings, directory.path()),
        Part::Start => start::run(settings, directory.path()),
        Part::Haul => haul::run(settings, directory.path()),
        Part::Medium => medium::run(settings, directory.path()),
    }
}
