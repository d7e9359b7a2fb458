//! `haulboot.json` on HAUL: what an image carries, for people and for the node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Arch, Digest};

/// The format this crate describes. A node refuses an image of a newer one.
pub const FORMAT: u32 = 1;

/// What is on an image. Written once by the builder, at HAUL:[`crate::paths::haul::IMAGE_JSON`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageInfo {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the builder.
    pub builder: String,
    /// Build time in seconds since 1970, derived from the inputs: see `docs/image-format.md`.
    pub built: u64,
    /// Name of the cluster in the `cluster.yaml` that was built in.
    pub cluster: String,
    /// Per architecture, what boots and runs there.
    pub arches: BTreeMap<Arch, ArchInfo>,
    /// Whether the stick is for agents alone: it has no CA keys and no server token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub agents_only: bool,
    /// Who may read the registry by the `cluster.yaml` that was built in, and how: what holds where
    /// that on the stick can't be read any more.
    #[serde(default, skip_serializing_if = "AccessInfo::is_open")]
    pub access: AccessInfo,
    /// The hauls, as given to the builder.
    pub hauls: Vec<HaulInfo>,
    /// Blobs of all hauls: how many, and bytes.
    pub blobs: BlobTotals,
}

/// Bounds on who reads the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessInfo {
    /// Over HTTPS alone.
    #[serde(default)]
    pub tls: bool,
    /// Users alone.
    #[serde(default)]
    pub users: bool,
}

impl AccessInfo {
    /// What a `cluster.yaml` asks for.
    pub fn of(registry: &crate::cluster::Registry) -> AccessInfo {
        AccessInfo {
            tls: registry.tls,
            users: !registry.users.is_empty(),
        }
    }

    /// Whether everybody may read, over HTTP.
    pub fn is_open(&self) -> bool {
        !self.tls && !self.users
    }
}

/// What an image carries for one architecture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchInfo {
    /// `uname -r` of the kernel.
    pub kernel: String,
    /// Version of the kernel's package.
    pub kernel_package: String,
    /// Version of `systemd-boot`'s package.
    pub boot_loader_package: String,
    /// Version of the agent.
    pub agent: String,
    /// The k3s binary, if one is carried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k3s: Option<K3sInfo>,
    /// Names of the files of device firmware that were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<String>,
}

/// A k3s binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct K3sInfo {
    /// Its version, if it can be read from the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
    /// Where its data lies unpacked, [`crate::paths::haul::k3s_data`]: the directory's name. None
    /// for a file of a shape that the builder does not know; k3s unpacks itself then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// One of the hauls that went in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaulInfo {
    /// File name as given, without its directory.
    pub name: String,
}

/// A count of blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobTotals {
    /// How many.
    pub count: u64,
    /// Their size together, in bytes.
    pub bytes: u64,
}
