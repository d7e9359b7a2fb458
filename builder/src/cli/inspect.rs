//! `builder inspect`: what it is told.

use std::path::PathBuf;

use clap::Args;

/// Show what is on an image or a drive
///
/// Partitions, architectures, kernel, k3s, the nodes of cluster.yaml as it is on the drive now,
/// and the images, charts and files that the registry serves. Nothing is written.
#[derive(Args, Clone, Debug)]
pub struct InspectArgs {
    /// Image, or drive that one was written to
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,

    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
}
