//! From an OCI layout to a [`Catalog`].

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

use super::{Artifact, ArtifactKind, BlobEntry, Catalog, FORMAT, ManifestEntry};
use crate::digest::Digest;
use crate::hauler::{self, Kind};
use crate::limits;
use crate::oci::{Descriptor, Manifest, annotation, media_type};
use crate::reference::{Host, Reference, Repository, Tag};

/// Where [`Catalog::build`] finds blobs.
pub trait BlobSource {
    /// The size of a blob in bytes, `None` if there is no such blob.
    fn size(&self, digest: &Digest) -> Option<u64>;

    /// A blob's bytes. Called for manifests and indexes only, and only for blobs whose size is at
    /// most [`limits::MANIFEST_BYTES`].
    fn read(&self, digest: &Digest) -> std::io::Result<Vec<u8>>;
}

/// Why a layout can't be catalogued.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// `index.json` is no JSON of the expected shape.
    #[error("index.json is no OCI index: {0}")]
    Index(serde_json::Error),
    /// More entries than [`limits::ARTIFACTS`].
    #[error("index.json names {0} artifacts; {max} are allowed", max = limits::ARTIFACTS)]
    TooMany(usize),
    /// A blob that something needs is not there.
    #[error("{wanted_by} needs blob {digest}, which is not in the haul")]
    MissingBlob {
        /// The missing blob.
        digest: Digest,
        /// Who needs it.
        wanted_by: String,
    },
    /// A blob has another size than its descriptor says.
    #[error("blob {digest} of {wanted_by} has {actual} bytes; its descriptor says {expected}")]
    WrongSize {
        /// The blob.
        digest: Digest,
        /// Who needs it.
        wanted_by: String,
        /// Bytes by the descriptor.
        expected: u64,
        /// Bytes there are.
        actual: u64,
    },
    /// A blob that is read as a manifest is not the one its digest names.
    #[error("manifest {digest} of {wanted_by} is damaged: its bytes have another digest")]
    WrongDigest {
        /// The manifest.
        digest: Digest,
        /// Who needs it.
        wanted_by: String,
    },
    /// A manifest is larger than any client reads.
    #[error("manifest {digest} of {wanted_by} has {size} bytes; {max} are allowed",
        max = limits::MANIFEST_BYTES)]
    ManifestTooLarge {
        /// The manifest.
        digest: Digest,
        /// Who needs it.
        wanted_by: String,
        /// Its bytes.
        size: u64,
    },
    /// A manifest is no JSON of the expected shape.
    #[error("manifest {digest} of {wanted_by} can't be read: {error}")]
    BadManifest {
        /// The manifest.
        digest: Digest,
        /// Who needs it.
        wanted_by: String,
        /// Why.
        error: serde_json::Error,
    },
    /// Indexes are nested deeper than [`limits::INDEX_DEPTH`].
    #[error("indexes below {0} are nested too deeply")]
    TooDeep(String),
    /// A blob can't be read.
    #[error("reading blob {digest}: {error}")]
    Read {
        /// The blob.
        digest: Digest,
        /// Why.
        error: std::io::Error,
    },
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

impl Catalog {
    /// Catalogues the layout whose `index.json` is given; see the module's description.
    ///
    /// Every blob that a named artifact needs must be there with the size its descriptor says, and
    /// every manifest must have its digest; contents of layers are the caller's to check. Children
    /// of an index that the haul left out (other platforms) are warnings as long as one is there.
    pub fn build(index_json: &[u8], blobs: &dyn BlobSource) -> Result<Catalog, CatalogError> {
        let index: Index = serde_json::from_slice(index_json).map_err(CatalogError::Index)?;
        let entries = index.manifests.unwrap_or_default();
        if entries.len() > limits::ARTIFACTS {
            return Err(CatalogError::TooMany(entries.len()));
        }
        let mut builder = Builder::new(blobs);
        let bases = Bases::of(&entries);
        for entry in &entries {
            builder.entry(entry, &bases)?;
        }
        Ok(builder.finish())
    }
}

/// Which images there are by name, so that a signature finds its subject.
struct Bases(HashMap<String, Digest>);

impl Bases {
    fn of(entries: &[Descriptor]) -> Bases {
        let kind = |entry: &Descriptor| {
            entry
                .annotations
                .get(annotation::KIND)
                .map(|k| Kind::parse(k))
        };
        let named = |wanted: fn(&Kind) -> bool| {
            entries
                .iter()
                .filter(move |entry| wanted(&kind(entry).unwrap_or(Kind::Image)))
                .filter_map(|entry| Some((full_name(entry)?.to_owned(), entry.digest)))
        };
        // an index wins over a manifest of the same name: signatures belong to what the tag means
        let images = named(|kind| *kind == Kind::Image);
        let indexes = named(|kind| *kind == Kind::ImageIndex);
        Bases(images.chain(indexes).collect())
    }
}

/// `io.containerd.image.name`, else the name without host.
fn full_name(entry: &Descriptor) -> Option<&str> {
    let annotation = |key| entry.annotations.get(key).map(String::as_str);
    annotation(annotation::IMAGE_NAME).or_else(|| annotation(annotation::REF_NAME))
}

/// What walking one manifest found.
#[derive(Default)]
struct Walked {
    size: u64,
    platforms: Vec<crate::oci::Platform>,
}

type Name = (
    ArtifactKind,
    Option<Host>,
    Repository,
    Option<Tag>,
    Option<Digest>,
);

struct Builder<'a> {
    source: &'a dyn BlobSource,
    artifacts: BTreeMap<Name, Artifact>,
    manifests: BTreeMap<Digest, ManifestEntry>,
    blobs: BTreeMap<Digest, u64>,
    warnings: BTreeSet<String>,
}

impl<'a> Builder<'a> {
    fn new(source: &'a dyn BlobSource) -> Self {
        Builder {
            source,
            artifacts: BTreeMap::new(),
            manifests: BTreeMap::new(),
            blobs: BTreeMap::new(),
            warnings: BTreeSet::new(),
        }
    }

    fn entry(&mut self, entry: &Descriptor, bases: &Bases) -> Result<(), CatalogError> {
        let shown = full_name(entry).map_or_else(|| entry.digest.to_string(), str::to_owned);
        let manifest = self.manifest(entry, &shown)?;
        let walked = self.walk(entry, &manifest, &shown, 0)?;
        let kind = entry
            .annotations
            .get(annotation::KIND)
            .map_or(Kind::Image, |k| Kind::parse(k));
        if let Some(artifact) = self.artifact(entry, &kind, &manifest, walked, bases) {
            self.name(artifact);
        }
        Ok(())
    }

    /// Gives an artifact its place among the names; of two with the same name the later counts, as
    /// for Hauler, but not without a word.
    fn name(&mut self, artifact: Artifact) {
        let by_digest = artifact.tag.is_none().then_some(artifact.digest);
        let key = (
            artifact.kind,
            artifact.host.clone(),
            artifact.repository.clone(),
            artifact.tag.clone(),
            by_digest,
        );
        match self.artifacts.entry(key) {
            Entry::Vacant(place) => {
                place.insert(artifact);
            }
            Entry::Occupied(mut place) => {
                if place.get().digest != artifact.digest {
                    self.warnings.insert(format!(
                        "{} is in the haul twice; {} is served by that name, {} by digest only",
                        artifact.name(),
                        artifact.digest,
                        place.get().digest
                    ));
                }
                place.insert(artifact);
            }
        }
    }

    fn artifact(
        &mut self,
        entry: &Descriptor,
        kind: &Kind,
        manifest: &Manifest,
        walked: Walked,
        bases: &Bases,
    ) -> Option<Artifact> {
        let config = manifest
            .config
            .as_ref()
            .map_or("", |config| config.media_type.as_str());
        let content_kind = if config == media_type::HELM_CONFIG {
            Some(ArtifactKind::Chart)
        } else if config.starts_with(media_type::HAULER_FILE_CONFIG_PREFIX) {
            Some(ArtifactKind::File)
        } else {
            None
        };
        let named = match content_kind {
            Some(_) => entry
                .annotations
                .get(annotation::REF_NAME)
                .and_then(|name| {
                    content_name(name).map(|(repository, tag)| (None, repository, tag))
                }),
            None => full_name(entry)
                .and_then(|name| name.parse::<Reference>().ok())
                .map(|name| (Some(name.host), name.repository, name.tag)),
        };
        let Some((host, repository, tag)) = named else {
            let name = full_name(entry).unwrap_or("no name");
            self.warnings.insert(format!(
                "{} has a name that no client can ask for ({name:?}); it is carried and not served by name",
                entry.digest
            ));
            return None;
        };
        let (artifact_kind, tag) = match (content_kind, kind) {
            (Some(kind), _) => (kind, tag),
            (None, Kind::Referrer) => (ArtifactKind::Referrer, None),
            (None, kind) => match kind.cosign_suffix() {
                Some(suffix) => {
                    let Some(tag) = self.cosign_tag(entry, suffix, bases) else {
                        self.warnings.insert(format!(
                            "{} belongs to an image that is not in the haul; it is served by digest only",
                            entry.digest
                        ));
                        return None;
                    };
                    (ArtifactKind::Attached, Some(tag))
                }
                None => (ArtifactKind::Image, tag),
            },
        };
        let layer = content_kind.and_then(|_| manifest.layers.first());
        Some(Artifact {
            kind: artifact_kind,
            host,
            repository,
            tag,
            digest: entry.digest,
            title: layer.and_then(|layer| layer.annotations.get(annotation::TITLE).cloned()),
            size: walked.size,
            platforms: walked.platforms,
            content: layer.map(|layer| BlobEntry {
                digest: layer.digest,
                size: layer.size,
            }),
        })
    }

    fn cosign_tag(&self, entry: &Descriptor, suffix: &str, bases: &Bases) -> Option<Tag> {
        let said = entry
            .annotations
            .get(annotation::SUBJECT_DIGEST)
            .and_then(|d| d.parse().ok());
        let subject = said.or_else(|| bases.0.get(full_name(entry)?).copied())?;
        hauler::cosign_tag(&subject, suffix).parse().ok()
    }

    /// Notes a blob that must be there.
    fn blob(&mut self, descriptor: &Descriptor, wanted_by: &str) -> Result<(), CatalogError> {
        let digest = descriptor.digest;
        let actual = self
            .source
            .size(&digest)
            .ok_or_else(|| CatalogError::MissingBlob {
                digest,
                wanted_by: wanted_by.to_owned(),
            })?;
        if actual != descriptor.size {
            return Err(CatalogError::WrongSize {
                digest,
                wanted_by: wanted_by.to_owned(),
                expected: descriptor.size,
                actual,
            });
        }
        self.blobs.insert(digest, actual);
        Ok(())
    }

    /// Reads and notes a manifest.
    fn manifest(&mut self, entry: &Descriptor, wanted_by: &str) -> Result<Manifest, CatalogError> {
        let digest = entry.digest;
        self.blob(entry, wanted_by)?;
        if entry.size > limits::MANIFEST_BYTES {
            return Err(CatalogError::ManifestTooLarge {
                digest,
                wanted_by: wanted_by.to_owned(),
                size: entry.size,
            });
        }
        let bytes = self
            .source
            .read(&digest)
            .map_err(|error| CatalogError::Read { digest, error })?;
        let mut hasher = crate::digest::Hasher::like(&digest);
        hasher.update(&bytes);
        if hasher.finish() != digest {
            return Err(CatalogError::WrongDigest {
                digest,
                wanted_by: wanted_by.to_owned(),
            });
        }
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| CatalogError::BadManifest {
                digest,
                wanted_by: wanted_by.to_owned(),
                error,
            })?;
        let config_type = manifest
            .config
            .as_ref()
            .map(|config| config.media_type.clone());
        self.manifests.insert(
            digest,
            ManifestEntry {
                digest,
                size: entry.size,
                media_type: manifest.served_media_type(&entry.media_type),
                subject: manifest.subject.as_ref().map(|subject| subject.digest),
                artifact_type: manifest
                    .artifact_type
                    .clone()
                    .or(config_type)
                    .filter(|said| !said.is_empty()),
            },
        );
        Ok(manifest)
    }

    fn walk(
        &mut self,
        entry: &Descriptor,
        manifest: &Manifest,
        wanted_by: &str,
        depth: usize,
    ) -> Result<Walked, CatalogError> {
        if depth > limits::INDEX_DEPTH {
            return Err(CatalogError::TooDeep(wanted_by.to_owned()));
        }
        let mut walked = Walked {
            size: entry.size,
            platforms: Vec::new(),
        };
        for descriptor in manifest.config.iter().chain(&manifest.layers) {
            self.blob(descriptor, wanted_by)?;
            walked.size = walked.size.saturating_add(descriptor.size);
        }
        let Some(children) = &manifest.manifests else {
            walked.platforms.extend(
                entry
                    .platform
                    .clone()
                    .or_else(|| self.config_platform(manifest)),
            );
            return Ok(walked);
        };
        let (here, gone): (Vec<_>, Vec<_>) = children
            .iter()
            .partition(|child| self.source.size(&child.digest).is_some());
        if let (true, Some(first)) = (here.is_empty(), gone.first()) {
            return Err(CatalogError::MissingBlob {
                digest: first.digest,
                wanted_by: wanted_by.to_owned(),
            });
        }
        for child in gone {
            let platform = child
                .platform
                .as_ref()
                .map_or_else(|| child.digest.to_string(), |p| p.to_string());
            self.warnings
                .insert(format!("{wanted_by} comes without its part for {platform}"));
        }
        for child in here {
            let read = self.manifest(child, wanted_by)?;
            let below = self.walk(child, &read, wanted_by, depth + 1)?;
            walked.size = walked.size.saturating_add(below.size);
            let known = below.platforms.into_iter().filter(|p| p.os != "unknown");
            walked.platforms.extend(known);
        }
        Ok(walked)
    }

    /// The platform that an image's configuration names (OCI image-spec, config.md).
    fn config_platform(&self, manifest: &Manifest) -> Option<crate::oci::Platform> {
        let config = manifest.config.as_ref()?;
        let image_config = config
            .media_type
            .starts_with("application/vnd.oci.image.config.")
            || config
                .media_type
                .starts_with("application/vnd.docker.container.image.");
        if !image_config || config.size > limits::MANIFEST_BYTES {
            return None;
        }
        let bytes = self.source.read(&config.digest).ok()?;
        let platform: crate::oci::Platform = serde_json::from_slice(&bytes).ok()?;
        (!platform.os.is_empty() && !platform.architecture.is_empty()).then_some(platform)
    }

    fn finish(self) -> Catalog {
        let blobs = self
            .blobs
            .into_iter()
            .map(|(digest, size)| BlobEntry { digest, size });
        Catalog {
            format: FORMAT,
            artifacts: self.artifacts.into_values().collect(),
            manifests: self.manifests.into_values().collect(),
            blobs: blobs.collect(),
            warnings: self.warnings.into_iter().collect(),
        }
    }
}

/// A chart's or file's name, `hauler/hello-world:1.0.0`: never with a host.
fn content_name(name: &str) -> Option<(Repository, Option<Tag>)> {
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag.parse().ok()?)),
        _ => (name, None),
    };
    Some((repository.parse().ok()?, tag))
}
