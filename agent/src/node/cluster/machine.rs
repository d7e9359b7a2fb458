//! What the stages do to this machine. Tests put another one in its place.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::net::Ipv4Addr;

use image_layout::cluster::{Cluster, Role, State};
use image_layout::image::K3sInfo;
use image_layout::status::{Problem, StateStatus};

use super::screens::Failure;
use crate::node::{Place, clock};
use crate::node::status::Reports;

/// What is known before k3s's files are laid down.
pub(in crate::node) struct Facts {
    pub(in crate::node) name: String,
    pub(in crate::node) role: Role,
    pub(in crate::node) cluster: Cluster,
    pub(in crate::node) address: Ipv4Addr,
    pub(in crate::node) interface: String,
    pub(in crate::node) server: Option<String>,
    pub(in crate::node) k3s: K3sInfo,
    pub(in crate::node) hosts: Vec<String>,
}
/// What was laid down.
pub(in crate::node) struct LaidDown {
    pub(in crate::node) in_place: bool,
    pub(in crate::node) notices: Vec<String>,
    pub(in crate::node) data_dir: PathBuf,
}

/// Where k3s keeps its data, made ready.
pub(in crate::node) struct Prepared {
    /// For the status.
    pub(in crate::node) status: StateStatus,
    /// One line.
    pub(in crate::node) detail: String,
    /// What a person should know.
    pub(in crate::node) notices: Vec<String>,
}

/// What is done to a machine. But for the clock, everything may block.
pub(in crate::node) trait Machine: fmt::Debug + Send + Sync {
    /// Makes the place ready where k3s keeps its data.
    fn prepare(&self, place: &Place, state: &State, reports: &Reports) -> Result<Prepared, Failure>;
    /// Lays down everything that k3s finds when it starts.
    fn lay_down(&self, place: &Place, facts: &Facts) -> Result<LaidDown, Failure>;
    /// The URL of the server that agents join.
    fn server(&self, cluster: &Cluster) -> Result<String, Failure>;
    /// What k3s's last lines usually mean.
    fn diagnose(&self, tail: &str) -> Option<Problem>;
    /// Sets the clock, seconds since 1970.
    fn set_clock(&self, time: u64) -> io::Result<()>;
}

/// The machine this process runs on.
#[derive(Debug)]
pub(in crate::node) struct ThisMachine;
impl Machine for ThisMachine {
    fn prepare(&self, _: &Place, _: &State, _: &Reports) -> Result<Prepared, Failure> { unimplemented!() }
    fn lay_down(&self, _: &Place, _: &Facts) -> Result<LaidDown, Failure> { unimplemented!() }
    fn server(&self, _: &Cluster) -> Result<String, Failure> { unimplemented!() }
    fn diagnose(&self, _: &str) -> Option<Problem> { None }
    fn set_clock(&self, time: u64) -> io::Result<()> { clock::step(time) }
}
