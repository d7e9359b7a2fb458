//! The node process: who this machine is, its clock, its network, its part in the cluster.
//!
//! A child of PID 1, which restarts it when it dies; then it takes up where things stand. What
//! comes from the network is parsed here and nowhere near PID 1.

mod access;
mod clock;
mod cluster;
mod config_file;
mod etc;
mod identity;
mod machine;
mod network;
mod state;
mod status;
mod words;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use image_layout::bootargs::BootArgs;
use image_layout::paths;
use tokio::sync::watch;

use self::cluster::{Pace, Stages, ThisMachine};
use self::network::netlink::{Netlink, NetlinkError};
use self::network::{Patience, Published, Reach};
use self::status::Reports;
use self::words::{Closed, Listener};
use crate::report::Sender;

/// Where things are: on a node the usual places, in tests below a directory.
#[derive(Clone, Debug)]
struct Place {
    /// Below it lies `etc`.
    root: PathBuf,
    /// sysfs.
    sys: PathBuf,
    /// procfs.
    proc: PathBuf,
    /// HAULCFG.
    config: PathBuf,
    /// The copy of cluster.yaml.
    cluster_yaml: PathBuf,
    /// HAUL.
    haul: PathBuf,
    /// What is on the image.
    image_json: PathBuf,
}

impl Place {
    /// The places of a node whose root directory is `root`.
    fn below(root: &Path) -> Place {
        let at = |path: &str| root.join(path.trim_start_matches('/'));
        Place {
            root: root.to_owned(),
            sys: at("sys"),
            proc: at("proc"),
            config: at(paths::node::CONFIG),
            cluster_yaml: at(paths::node::CLUSTER_YAML),
            haul: at(paths::node::HAUL),
            image_json: at(paths::node::HAUL).join(paths::haul::IMAGE_JSON),
        }
    }
}

/// The node process; see the module. Its standard error goes to a log that PID 1 keeps.
pub(crate) fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    let Some(sender) = Sender::from_env() else {
        eprintln!("error: agent node is started by PID 1 of a node, not by hand");
        eprintln!("  help: `agent serve DIR` serves a haul on any Linux host");
        return ExitCode::FAILURE;
    };
    match serve(&Place::below(Path::new("/")), sender) {
        Ok(never) => match never {},
        Err(error) => {
            // PID 1 starts this process again
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
enum NodeError {
    #[error("starting the runtime: {0}")]
    Runtime(#[source] io::Error),
    #[error("listening to PID 1: {0}")]
    Listen(#[source] io::Error),
    #[error(transparent)]
    Words(#[from] Closed),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

fn serve(place: &Place, sender: Sender) -> Result<Infallible, NodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(NodeError::Runtime)?;
    let command_line = read_bounded(&place.proc.join("cmdline"), 64 << 10).unwrap_or_default();
    let args = BootArgs::parse(&String::from_utf8_lossy(&command_line)).args;
    runtime.block_on(async {
        let (listener, words) = Listener::new(sender.listen().map_err(NodeError::Listen)?);
        let mut reports = Reports::new(sender);
        let (netlink, mut changes) = Netlink::connect()?;
        let identity =
            identity::identify(place, &args, &netlink, &mut changes, &mut reports).await?;
        let (reach, network) = watch::channel(Reach::default());
        let (addresses, of_cards) = watch::channel(BTreeSet::new());
        let published = Published { reach, addresses };
        let others = reports.clone();
        let stages = Stages {
            place: place.clone(),
            identity: identity.clone(),
            reports: reports.clone(),
            words,
            network,
            machine: Arc::new(ThisMachine),
            pace: Pace::default(),
        };
        let (plan, patience) = (&identity.plan, Patience::default());
        // none of them ends, but for a fault that only a new process mends
        tokio::select! {
            never = network::run(plan, place, patience, netlink, changes, published, &mut reports) => {
                Ok(never?)
            }
            closed = listener.run() => Err(closed.into()),
            never = stages.run() => match never {},
            never = access::run(place, &identity, of_cards, &others) => match never {},
        }
    })
}

/// A file of at most `limit` bytes; a longer one is an error, and is not read to its end.
fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}
