//! What the stages do to this machine. Tests put another one in its place.

use std::fmt;
use std::io;

use image_layout::cluster::{Cluster, State};
use image_layout::status::{Problem, Stage};

use super::files::{self, Facts, FilesError, LaidDown};
use super::screens::Failure;
use crate::node::state::{self, Prepared};
use crate::node::status::Reports;
use crate::node::{Place, clock};

/// What is done to a machine. But for the clock, everything may block.
pub(in crate::node) trait Machine: fmt::Debug + Send + Sync {
    /// Makes the place ready where k3s keeps its data.
    fn prepare(&self, place: &Place, state: &State, reports: &Reports)
    -> Result<Prepared, Failure>;
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
    fn prepare(
        &self,
        place: &Place,
        state: &State,
        reports: &Reports,
    ) -> Result<Prepared, Failure> {
        let progress = |text: String| reports.progress(Stage::State, &text);
        state::prepare(place, state, &progress).map_err(|error| Failure {
            detail: error.short(),
            problem: error.problem(),
        })
    }

    fn lay_down(&self, place: &Place, facts: &Facts) -> Result<LaidDown, Failure> {
        files::lay_down(place, facts).map_err(|error| of_files(&error))
    }

    fn server(&self, cluster: &Cluster) -> Result<String, Failure> {
        files::server_address(cluster).map_err(|error| of_files(&error))
    }

    fn diagnose(&self, tail: &str) -> Option<Problem> {
        let meaning = files::diagnose::diagnose(tail)?;
        Some(Problem {
            what: meaning.what.to_owned(),
            mend: meaning.mend.to_owned(),
        })
    }

    fn set_clock(&self, time: u64) -> io::Result<()> {
        clock::step(time)
    }
}

/// A failure of laying files down, as the stages report it.
pub(super) fn of_files(error: &FilesError) -> Failure {
    Failure {
        detail: error.to_string(),
        problem: error.problem(),
    }
}
