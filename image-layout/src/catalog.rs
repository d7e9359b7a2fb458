//! The catalog of a haul: what is in it, under which names, ready to be served.
//!
//! [`Catalog::build`] derives it from an OCI layout by Hauler's conventions. The builder writes it
//! beside the layout; `agent serve` derives it when a directory has none.

mod build;
mod error;
mod walk;

use serde::{Deserialize, Serialize};

pub use build::BlobSource;
pub use error::CatalogError;

use crate::digest::Digest;
use crate::oci::Platform;
use crate::reference::{Host, Repository, Tag};

/// Version of the catalog's format.
pub const FORMAT: u32 = 1;

/// What a haul contains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Catalog {
    /// [`FORMAT`].
    pub format: u32,
    /// Everything that has a name, sorted by kind, host, repository, tag.
    pub artifacts: Vec<Artifact>,
    /// Every manifest and index that can be asked for, sorted by digest.
    pub manifests: Vec<ManifestEntry>,
    /// Every blob the manifests need, manifests included, sorted by digest.
    pub blobs: Vec<BlobEntry>,
    /// What the haul lacks or does oddly, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Something with a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// What it is.
    pub kind: ArtifactKind,
    /// The registry it came from. Charts and files have none: they live under Hauler's paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    /// Its repository, `library/nginx`, `hauler/hello-world`.
    pub repository: Repository,
    /// Where a registry had a chart before it became one of Hauler's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Its tag; none where the haul has it by digest only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Its manifest or index.
    pub digest: Digest,
    /// A file's or chart's own file name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Bytes of what it consists of, shared layers counted each time.
    pub size: u64,
    /// Platforms of an image that the haul carries, in the order of its index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    /// A file's contents, a chart's archive: the single layer to hand out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<BlobEntry>,
}

/// A repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The registry.
    pub host: Host,
    /// The repository, `charts/hello-world`.
    pub repository: Repository,
}

/// What an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactKind {
    /// A container image.
    Image,
    /// A Helm chart.
    Chart,
    /// A file.
    File,
    /// A signature, attestation or SBOM by cosign's tags.
    Attached,
    /// A manifest that refers to another by its subject.
    Referrer,
}

/// A manifest or index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestEntry {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The `Content-Type` to serve it with.
    pub media_type: String,
    /// The manifest it refers to, if it has a subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// Type as the referrers API lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// A blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlobEntry {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl Artifact {
    /// The name a person would use: `docker.io/library/nginx:1.16.0`.
    pub fn name(&self) -> String {
        let mut name = self
            .host
            .as_ref()
            .map_or_else(String::new, |host| format!("{host}/"));
        name.push_str(self.repository.as_str());
        match &self.tag {
            Some(tag) => format!("{name}:{tag}"),
            None => format!("{name}@{}", self.digest),
        }
    }
}

impl Catalog {
    /// Artifacts of one kind.
    pub fn of_kind(&self, kind: ArtifactKind) -> impl Iterator<Item = &Artifact> {
        self.artifacts
            .iter()
            .filter(move |artifact| artifact.kind == kind)
    }

    /// Number and bytes of all blobs.
    pub fn totals(&self) -> crate::image::BlobTotals {
        crate::image::BlobTotals {
            count: self.blobs.len() as u64,
            bytes: self.blobs.iter().map(|blob| blob.size).sum(),
        }
    }
}
