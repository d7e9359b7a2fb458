//! Everything that can be asked for, in memory.

mod build;
mod names;
mod together;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use axum::http::HeaderValue;
use bytes::Bytes;
use image_layout::catalog::{Artifact, ArtifactKind};
use image_layout::{Digest, Host, Repository, Tag};

use super::files::Files;
use super::referrers::Referrer;

pub(crate) use names::as_component;
pub(super) use names::{NameError, Scope, TagError};

/// What a haul contains, by every name that clients use.
///
/// Tags belong to a repository of a registry's host. Manifests and blobs are asked for by digest,
/// which names contents, so they are shared by all repositories.
#[derive(Debug, Default)]
pub(super) struct Index {
    repositories: Vec<TaggedRepository>,
    /// Full names of all, sorted, no two alike: what the catalog lists.
    full_names: Vec<String>,
    /// Position in `repositories` by full name; charts and files have no host.
    by_name: HashMap<(Option<Host>, Repository), usize>,
    /// Positions by name without host, in the order of their hosts.
    by_path: BTreeMap<Repository, Vec<usize>>,
    /// The registries that anything of the haul came from, as `OCI-Namespace` says them.
    hosts: BTreeMap<Host, HeaderValue>,
    /// Those of them that its images came from: what runtimes want a mirror for.
    image_hosts: BTreeSet<Host>,
    manifests: HashMap<Digest, StoredManifest>,
    blobs: HashMap<Digest, u64>,
    /// By [`as_tag_names_it`].
    referrers: HashMap<Digest, Vec<Referrer>>,
    /// What is under `/files/`.
    pub(super) files: Files,
    /// What has a name, for people to read; sorted by kind, host, repository, tag.
    pub(super) artifacts: Vec<Artifact>,
    /// What the haul lacks or does oddly, one sentence each.
    pub(super) warnings: Vec<String>,
}

/// A repository and its tags.
#[derive(Debug)]
pub(super) struct TaggedRepository {
    /// The registry it came from; none for Hauler's own, charts and files.
    pub(super) host: Option<Host>,
    /// Its name within the registry.
    pub(super) path: Repository,
    /// Whether the haul has nothing under this name but charts that a registry called so.
    pub(super) only_origin: bool,
    /// Its tags. Empty where the haul has images by digest only.
    pub(super) tags: BTreeMap<Tag, Digest>,
}

impl TaggedRepository {
    /// The name that means this repository and no other, as a client can ask for it:
    /// `docker.io/library/nginx`.
    pub(super) fn full_name(&self) -> String {
        match &self.host {
            Some(host) => format!("{}/{}", names::as_component(host), self.path),
            None => self.path.to_string(),
        }
    }
}

/// As much of a digest as a fallback tag has: of SHA-512 the first half (OCI distribution-spec,
/// "Referrers Tag Schema"), the rest zeros. Two that agree so far do not exist.
fn as_tag_names_it(digest: &Digest) -> Digest {
    match *digest {
        Digest::Sha256(bytes) => Digest::Sha256(bytes),
        Digest::Sha512(mut bytes) => {
            bytes.iter_mut().skip(32).for_each(|byte| *byte = 0);
            Digest::Sha512(bytes)
        }
    }
}

/// A manifest or index.
#[derive(Clone, Debug)]
pub(super) struct StoredManifest {
    /// Its `Content-Type`.
    pub(super) media_type: HeaderValue,
    /// Its size in bytes.
    pub(super) size: u64,
    /// Its bytes, verified; none where all manifests together are too many to keep.
    pub(super) bytes: Option<Bytes>,
}

impl Index {
    /// An index without contents, and the reason.
    pub(super) fn of_nothing(why: String) -> Index {
        Index {
            warnings: vec![why],
            ..Index::default()
        }
    }

    /// A manifest by digest.
    pub(super) fn manifest(&self, digest: &Digest) -> Option<&StoredManifest> {
        self.manifests.get(digest)
    }

    /// The size of a blob.
    pub(super) fn blob(&self, digest: &Digest) -> Option<u64> {
        self.blobs.get(digest).copied()
    }

    /// All blobs, manifests among them, with their sizes; sorted by digest.
    pub(super) fn blobs(&self) -> impl Iterator<Item = (Digest, u64)> {
        let mut sorted: Vec<_> = self.blobs.iter().map(|(d, s)| (*d, *s)).collect();
        sorted.sort_unstable();
        sorted.into_iter()
    }

    /// What refers to a manifest, sorted by digest.
    pub(super) fn referrers(&self, subject: &Digest) -> &[Referrer] {
        self.referrers
            .get(&as_tag_names_it(subject))
            .map_or(&[], Vec::as_slice)
    }

    /// The registries that the haul's images came from, sorted.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.image_hosts.iter()
    }

    /// Number and bytes of all blobs.
    pub(super) fn blob_totals(&self) -> (usize, u64) {
        (self.blobs.len(), self.blobs.values().sum())
    }

    /// Names of all repositories, or of one host's without the host, sorted.
    pub(super) fn repositories(&self, host: Option<&Host>) -> Vec<&str> {
        let Some(host) = host else {
            return self.full_names.iter().map(String::as_str).collect();
        };
        let of_host = self
            .repositories
            .iter()
            .filter(|repository| repository.host.as_ref() == Some(host));
        let mut paths: Vec<_> = of_host.map(|r| r.path.as_str()).collect();
        paths.sort_unstable();
        paths
    }

    /// `37 images, 2 charts, 1 file`.
    pub(super) fn summary(&self) -> String {
        let count = |kind: ArtifactKind, one: &str| {
            let count = self.artifacts.iter().filter(|a| a.kind == kind).count();
            let plural = if count == 1 { "" } else { "s" };
            format!("{count} {one}{plural}")
        };
        [
            count(ArtifactKind::Image, "image"),
            count(ArtifactKind::Chart, "chart"),
            count(ArtifactKind::File, "file"),
        ]
        .join(", ")
    }
}
