//! What reading an image back gives, and why it may give nothing.

use std::io;
use std::path::PathBuf;

use image_layout::catalog::ArtifactKind;
use image_layout::image::{FORMAT, ImageInfo};
use image_layout::{Arch, Digest};
use serde::Serialize;
use uuid::Uuid;

use super::plan::Extent;

/// What is on an image.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// Where it was read.
    pub path: PathBuf,
    /// Bytes of the image; a stick may be larger.
    pub bytes: u64,
    /// GUID of the disk.
    pub disk: Uuid,
    /// Its partitions.
    pub partitions: Vec<PartitionContents>,
    /// Architectures for which a boot loader, kernel and initramfs are there.
    pub boots: Vec<Arch>,
    /// What the builder put on it.
    pub image: ImageInfo,
    /// What it carries of its cluster's secrets; never these themselves.
    pub credentials: CredentialsContents,
    /// `cluster.yaml` as it is now.
    pub cluster: ClusterContents,
    /// What the registry serves, sorted by kind and name.
    pub artifacts: Vec<ArtifactContents>,
    /// What is odd but not fatal, one sentence each.
    pub warnings: Vec<String>,
}

/// Whether the holder of an image could be somebody in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialsContents {
    /// No secrets at all.
    None,
    /// The cluster's secret, and the key of the registries' authority where they speak HTTPS.
    Registry,
    /// Those of agents: it can join nodes to the cluster.
    Agent,
    /// The keys of its authorities: whoever holds it owns the cluster.
    CaKeys,
}

/// A partition.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionContents {
    /// Its number in the table.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Its GUID.
    pub guid: Uuid,
    /// Where it lies.
    #[serde(flatten)]
    pub extent: Extent,
}

/// `cluster.yaml`, or what is wrong with it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterContents {
    /// Name of the file that a node would read.
    pub file: Option<String>,
    /// Name of the cluster.
    pub name: Option<String>,
    /// Its nodes.
    pub nodes: Vec<NodeContents>,
    /// Why a node would refuse it.
    pub error: Option<String>,
}

/// A node of `cluster.yaml`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeContents {
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: String,
    /// Which machine it is.
    #[serde(rename = "match")]
    pub matches: String,
    /// Its address; none if it asks a DHCP server.
    pub address: Option<String>,
}

/// Something that the registry serves.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactContents {
    /// What it is.
    pub kind: ArtifactKind,
    /// Its full name, or a file's own name.
    pub name: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Platforms of an image, `linux/arm64`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
}

/// Why an image can't be read.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The file or device can't be read.
    #[error("reading {}", path.display())]
    Read {
        /// The image.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no Haulboot image: {why}", path.display())]
    NoImage {
        /// The file.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// The file ends before the image does.
    #[error("{} is cut off: it has {has} of {expected} bytes", path.display())]
    Truncated {
        /// The image.
        path: PathBuf,
        /// Its size.
        has: u64,
        /// The size that its partition table tells.
        expected: u64,
    },
    /// It was one, and is damaged.
    #[error("{} is damaged: {what}: {why}", path.display())]
    Damaged {
        /// The image.
        path: PathBuf,
        /// Which part.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is of a format that this builder does not know.
    #[error("{} has format {format}; this builder reads up to {FORMAT}", path.display())]
    Newer {
        /// The image.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
}

impl InspectError {
    /// What a person can do about it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            InspectError::Read { .. } => "reading a drive usually needs sudo",
            InspectError::NoImage { .. } => {
                "give an image that builder wrote, or a drive that one was written to"
            }
            InspectError::Truncated { .. } | InspectError::Damaged { .. } => {
                "write or copy the image again; if it is a drive, try another one"
            }
            InspectError::Newer { .. } => "use the builder that wrote the image, or a newer one",
        };
        Some(help.to_owned())
    }
}
