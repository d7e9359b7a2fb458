//! What an image is made of, and what came of it.

use std::path::PathBuf;

use image_layout::Arch;
use image_layout::cluster::Cluster;
use image_layout::image::ImageInfo;
use image_layout::partitions::Guids;

use super::plan::Plan;
use crate::credentials::Kept;

/// What is to be on an image.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Hauls: archives, one of a haul's chunks, or directories with an OCI layout.
    pub hauls: Vec<PathBuf>,
    /// k3s binaries, at most one an architecture.
    pub k3s: Vec<PathBuf>,
    /// A list of the images that k3s needs, instead of the one beside the binary or in the hauls.
    pub k3s_images: Option<PathBuf>,
    /// Whether images that k3s needs and no haul has are a warning and no error.
    pub allow_missing_images: bool,
    /// `cluster.yaml`; without one a commented template goes onto the image.
    pub config: Option<PathBuf>,
    /// Directory of the cluster's credentials; without one they lie beside the image.
    pub credentials: Option<PathBuf>,
    /// Whether the image is for agents alone: it gets no CA keys.
    pub agents_only: bool,
    /// Architectures that are to boot, at least one.
    pub arches: Vec<Arch>,
    /// Boot packs to look at before those in the usual places.
    pub boot_packs: Vec<PathBuf>,
    /// Directories and packages with device firmware.
    pub firmware: Vec<PathBuf>,
    /// Whether the GUIDs are random instead of following from the contents.
    pub random_guids: bool,
    /// Further arguments for the kernel.
    pub append: Vec<String>,
    /// The build time that is wanted, seconds since 1970.
    pub source_date_epoch: Option<u64>,
}

/// An image that was written.
#[derive(Debug)]
pub struct Written {
    /// What is on it.
    pub info: ImageInfo,
    /// The `cluster.yaml` on it.
    pub cluster: Cluster,
    /// The credentials of its cluster; none without k3s, unless its registry asks something of clients.
    pub credentials: Option<Kept>,
    /// Where its partitions lie.
    pub plan: Plan,
    /// Its GUIDs.
    pub guids: Guids,
    /// Container images on it.
    pub images: usize,
    /// Helm charts on it.
    pub charts: usize,
    /// Files on it.
    pub files: usize,
    /// What a person should know, one sentence each.
    pub warnings: Vec<String>,
}
