//! From a catalog to an [`Index`].
//!
//! - Sizes of all blobs are checked against the catalog; what differs is not served.
//! - Manifests are read, compared with their digests, and kept as far as memory allows.
//! - Tags find their repositories; a chart gets the tag that Helm makes of its version, too.
//! - Referrers are collected from subjects and from fallback tags.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use axum::http::HeaderValue;
use bytes::Bytes;
use image_layout::catalog::{
    Artifact, ArtifactKind, BlobSource as _, Catalog, ManifestEntry, Origin,
};
use image_layout::digest::Hasher;
use image_layout::oci::{self, Manifest, media_type};
use image_layout::text::printable;
use image_layout::{Digest, Host, Repository, Tag};
use serde::Deserialize;

use super::super::files::Files;
use super::super::layout::Layout;
use super::super::limits;
use super::super::referrers::Referrer;
use super::together;
use super::{Index, StoredManifest, TaggedRepository, as_tag_names_it};

impl Index {
    /// Indexes a catalog over the layout it describes. What is not as the catalog says becomes a
    /// warning and is not served; the rest is.
    pub(in crate::registry) fn build(catalog: Catalog, layout: &Layout) -> Index {
        let mut builder = Builder {
            index: Index {
                // what is on a medium may have been written by anybody
                warnings: catalog.warnings.iter().map(|w| printable(w)).collect(),
                ..Index::default()
            },
            layout,
            manifest_memory: limits::MANIFEST_MEMORY,
            annotation_memory: limits::ANNOTATION_MEMORY,
            origins: Vec::new(),
        };
        builder.blobs(&catalog.blobs);
        builder.manifests(&catalog.manifests);
        for artifact in &catalog.artifacts {
            builder.artifact(artifact);
        }
        // after all others: what the haul has under such a name itself goes first
        for (origin, tags, digest) in std::mem::take(&mut builder.origins) {
            builder.origin(origin, tags, digest);
        }
        builder.referrers(&catalog.manifests);
        let mut index = builder.index;
        for (at, repository) in index.repositories.iter().enumerate() {
            let path = repository.path.clone();
            index.by_path.entry(path).or_default().push(at);
        }
        let full_names: BTreeSet<_> = index.repositories.iter().map(|r| r.full_name()).collect();
        index.full_names = full_names.into_iter().collect();
        let here = |artifact: &Artifact| index.manifests.contains_key(&artifact.digest);
        index.artifacts = catalog.artifacts.into_iter().filter(here).collect();
        index.files = Files::of(&index.artifacts, |digest| index.blobs.get(digest).copied());
        index
    }
}

struct Builder<'a> {
    index: Index,
    layout: &'a Layout,
    manifest_memory: u64,
    annotation_memory: usize,
    /// Where registries had charts, their tags there, and their manifests.
    origins: Vec<(Origin, Vec<Tag>, Digest)>,
}

/// As much of a chart's configuration (its `Chart.yaml` as JSON) as is read.
#[derive(Deserialize)]
struct ChartConfig {
    #[serde(default)]
    version: String,
}

impl Builder<'_> {
    fn warn(&mut self, warning: String) {
        self.index.warnings.push(warning);
    }

    fn blobs(&mut self, blobs: &[image_layout::catalog::BlobEntry]) {
        let layout = self.layout;
        let sizes = together::map(blobs, |blob| layout.size(&blob.digest));
        // a table that grows is there twice for a moment
        self.index.blobs.reserve(blobs.len());
        for (blob, size) in blobs.iter().zip(sizes) {
            match size {
                Some(size) if size == blob.size => {
                    self.index.blobs.insert(blob.digest, size);
                }
                Some(size) => self.warn(format!(
                    "blob {} has {size} bytes instead of {}; it is not served",
                    blob.digest, blob.size
                )),
                None => self.warn(format!("blob {} is missing; it is not served", blob.digest)),
            }
        }
    }

    fn manifests(&mut self, entries: &[ManifestEntry]) {
        // what has another size, or is not there: said by `blobs`
        let there =
            |entry: &&ManifestEntry| self.index.blobs.get(&entry.digest) == Some(&entry.size);
        let entries: Vec<&ManifestEntry> = entries.iter().filter(there).collect();
        let mut memory = self.manifest_memory;
        let kept: Vec<(&ManifestEntry, bool)> = entries
            .into_iter()
            .map(|entry| {
                let keep = entry.size <= image_layout::limits::MANIFEST_BYTES.min(memory);
                memory -= if keep { entry.size } else { 0 };
                (entry, keep)
            })
            .collect();
        self.manifest_memory = memory;
        let read = together::map(&kept, |(entry, keep)| {
            keep.then(|| self.read(&entry.digest)).transpose()
        });
        for ((entry, _), read) in kept.into_iter().zip(read) {
            match read {
                Ok(bytes) => self.manifest(entry, bytes.map(Bytes::from)),
                Err(why) => {
                    self.index.blobs.remove(&entry.digest);
                    let digest = entry.digest;
                    self.warn(format!("manifest {digest} is not served: {why}"));
                }
            }
        }
    }

    fn manifest(&mut self, entry: &ManifestEntry, bytes: Option<Bytes>) {
        let media_type = Some(&entry.media_type)
            .filter(|said| oci::is_manifest_type(said))
            .and_then(|said| HeaderValue::from_str(said).ok());
        let media_type = media_type.unwrap_or_else(|| {
            // the catalog is of other hands than ours; the manifest itself tells what it is
            let manifest = bytes
                .as_deref()
                .and_then(|b| serde_json::from_slice(b).ok());
            manifest
                .and_then(|manifest: Manifest| {
                    HeaderValue::try_from(manifest.served_media_type("")).ok()
                })
                .unwrap_or(HeaderValue::from_static(media_type::OCI_MANIFEST))
        });
        let manifest = StoredManifest {
            media_type,
            size: entry.size,
            bytes,
        };
        self.index.manifests.insert(entry.digest, manifest);
    }

    /// Reads a small blob and compares it with its digest.
    fn read(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        let size = self.index.blobs.get(digest).ok_or("it is missing")?;
        let bytes = self
            .layout
            .read_blob(digest, *size)
            .map_err(|error| error.to_string())?;
        let mut hasher = Hasher::like(digest);
        hasher.update(&bytes);
        if hasher.finish() != *digest {
            return Err("it is damaged: its bytes have another digest".to_owned());
        }
        Ok(bytes)
    }

    fn parse(&self, digest: &Digest) -> Option<Manifest> {
        let stored = self.index.manifests.get(digest)?;
        match &stored.bytes {
            Some(bytes) => serde_json::from_slice(bytes).ok(),
            None if stored.size <= image_layout::limits::MANIFEST_BYTES => {
                serde_json::from_slice(&self.read(digest).ok()?).ok()
            }
            None => None,
        }
    }

    fn artifact(&mut self, artifact: &Artifact) {
        if !self.index.manifests.contains_key(&artifact.digest) {
            self.warn(format!(
                "{} is not served: its manifest is missing or damaged",
                artifact.name()
            ));
            return;
        }
        if let Some(host) = &artifact.host {
            self.index.image_hosts.insert(host.clone());
        }
        let helm_tag = self.helm_tag(artifact);
        if let Some(origin) = &artifact.origin {
            let tags = artifact.tag.iter().chain(&helm_tag).cloned().collect();
            self.origins.push((origin.clone(), tags, artifact.digest));
        }
        let repository = self.repository(artifact.host.clone(), artifact.repository.clone());
        repository.only_origin = false;
        if let Some(tag) = &artifact.tag {
            repository.tags.insert(tag.clone(), artifact.digest);
        }
        if let Some(tag) = helm_tag {
            repository.tags.entry(tag).or_insert(artifact.digest);
        }
    }

    /// Names a chart once more as the registry did that it was pulled from: whoever installs it
    /// knows it by that name.
    fn origin(&mut self, origin: Origin, tags: Vec<Tag>, digest: Digest) {
        let repository = self.repository(Some(origin.host), origin.repository);
        for tag in tags {
            repository.tags.entry(tag).or_insert(digest);
        }
    }

    /// A repository, which is made if it isn't there.
    fn repository(&mut self, host: Option<Host>, path: Repository) -> &mut TaggedRepository {
        if let Some(host) = &host
            && let Ok(value) = HeaderValue::from_str(host.as_str())
        {
            self.index.hosts.insert(host.clone(), value);
        }
        let repositories = &mut self.index.repositories;
        let at = *self
            .index
            .by_name
            .entry((host.clone(), path.clone()))
            .or_insert_with(|| {
                let tags = BTreeMap::new();
                repositories.push(TaggedRepository {
                    host,
                    path,
                    only_origin: true,
                    tags,
                });
                repositories.len() - 1
            });
        &mut repositories[at]
    }

    /// The tag that Helm asks for where Hauler made another: of `1.0.0+up2` Hauler makes
    /// `1.0.0-up2` (Hauler: `pkg/reference`), Helm `1.0.0_up2` (Helm: `pkg/registry/util.go`).
    fn helm_tag(&self, artifact: &Artifact) -> Option<Tag> {
        let tag = artifact.tag.as_ref()?;
        if artifact.kind != ArtifactKind::Chart || !tag.as_str().contains('-') {
            return None;
        }
        let config = self.parse(&artifact.digest)?.config?;
        if config.size > limits::CHART_CONFIG_BYTES {
            return None;
        }
        let config: ChartConfig = serde_json::from_slice(&self.read(&config.digest).ok()?).ok()?;
        let same = config.version.replace('+', "-") == tag.as_str();
        if !same || !config.version.contains('+') {
            return None;
        }
        config.version.replace('+', "_").parse().ok()
    }

    fn referrers(&mut self, entries: &[ManifestEntry]) {
        let by_digest: HashMap<Digest, &ManifestEntry> =
            entries.iter().map(|entry| (entry.digest, entry)).collect();
        let mut found: BTreeMap<(Digest, Digest), Referrer> = BTreeMap::new();
        for entry in entries {
            if let Some(subject) = entry.subject
                && let Some(referrer) = self.referrer(entry)
            {
                found.insert((as_tag_names_it(&subject), entry.digest), referrer);
            }
        }
        for (subject, index) in self.fallback_tags() {
            // an index of a fallback tag may list what names no subject itself
            let listed = self.parse(&index).and_then(|index| index.manifests);
            for child in listed.unwrap_or_default() {
                let key = (subject, child.digest);
                if !found.contains_key(&key)
                    && let Some(entry) = by_digest.get(&child.digest)
                    && let Some(referrer) = self.referrer(entry)
                {
                    found.insert(key, referrer);
                }
            }
        }
        for ((subject, _), referrer) in found {
            let referrers = self.index.referrers.entry(subject).or_default();
            referrers.push(referrer);
        }
    }

    fn referrer(&mut self, entry: &ManifestEntry) -> Option<Referrer> {
        let stored = self.index.manifests.get(&entry.digest)?;
        let media_type = stored.media_type.to_str().ok()?.to_owned();
        let mut annotations = self
            .parse(&entry.digest)
            .map(|manifest| manifest.annotations)
            .unwrap_or_default();
        // as clients get them: a control character is six bytes there
        let bytes = serde_json::to_string(&annotations).map_or(0, |json| json.len());
        match self.annotation_memory.checked_sub(bytes) {
            Some(left) => self.annotation_memory = left,
            None => annotations.clear(),
        }
        Some(Referrer {
            media_type,
            digest: entry.digest,
            size: entry.size,
            artifact_type: entry.artifact_type.clone(),
            annotations,
        })
    }

    /// Subject, as [`as_tag_names_it`] has it, and index of every tag of the form `sha256-HEX` or
    /// `sha512-HEX`, 64 digits both.
    fn fallback_tags(&self) -> Vec<(Digest, Digest)> {
        let tags = self.index.repositories.iter().flat_map(|r| &r.tags);
        tags.filter_map(|(tag, index)| {
            let (algorithm, hex) = tag.as_str().split_once('-')?;
            let filled = match algorithm {
                "sha512" if hex.len() == 64 => format!("{hex:0<128}"),
                "sha256" => hex.to_owned(),
                _ => return None,
            };
            Some((Digest::from_parts(algorithm, &filled)?, *index))
        })
        .collect()
    }
}
