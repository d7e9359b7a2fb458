//! Following manifests to everything they need, each manifest once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::error::CatalogError;
use super::{BlobEntry, BlobSource, ManifestEntry};
use crate::digest::{Digest, Hasher};
use crate::hauler::Content;
use crate::limits;
use crate::oci::{Descriptor, Manifest, Platform, annotation, media_type};
use crate::text::{is_harmless, printable};

/// What there is to know about a manifest once it was followed. Kept small: a haul may have many.
pub(super) struct Walked {
    /// What it holds.
    pub(super) content: Content,
    /// Bytes of it and all that it needs.
    pub(super) size: u64,
    /// The platforms it runs on, at most [`limits::PLATFORMS`].
    pub(super) platforms: Vec<Platform>,
    /// Of a chart or file: its bytes and its own name.
    pub(super) layer: Option<(BlobEntry, Option<String>)>,
    /// How many indexes lie in one another below it.
    height: usize,
}

/// Follows manifests and notes what it meets.
pub(super) struct Walker<'a> {
    source: &'a dyn BlobSource,
    pub(super) manifests: BTreeMap<Digest, ManifestEntry>,
    pub(super) blobs: BTreeMap<Digest, u64>,
    pub(super) warnings: Warnings,
    done: HashMap<Digest, Rc<Walked>>,
}

impl<'a> Walker<'a> {
    pub(super) fn new(source: &'a dyn BlobSource) -> Self {
        Walker {
            source,
            manifests: BTreeMap::new(),
            blobs: BTreeMap::new(),
            warnings: Warnings::default(),
            done: HashMap::new(),
        }
    }

    /// Follows the manifest or index that `entry` names. `depth` is the number of indexes above it.
    pub(super) fn walk(
        &mut self,
        entry: &Descriptor,
        wanted_by: &str,
        depth: usize,
    ) -> Result<Rc<Walked>, CatalogError> {
        self.blob(entry, wanted_by)?;
        let walked = match self.done.get(&entry.digest) {
            Some(walked) => Rc::clone(walked),
            None if depth > limits::INDEX_DEPTH => {
                return Err(CatalogError::TooDeep(wanted_by.to_owned()));
            }
            None => {
                let manifest = self.read(entry, wanted_by)?;
                let walked = Rc::new(self.follow(entry, &manifest, wanted_by, depth)?);
                self.done.insert(entry.digest, Rc::clone(&walked));
                walked
            }
        };
        if depth + walked.height > limits::INDEX_DEPTH {
            return Err(CatalogError::TooDeep(wanted_by.to_owned()));
        }
        Ok(walked)
    }

    fn follow(
        &mut self,
        entry: &Descriptor,
        manifest: &Manifest,
        wanted_by: &str,
        depth: usize,
    ) -> Result<Walked, CatalogError> {
        let content = Content::of(manifest);
        let mut walked = Walked {
            content,
            size: entry.size,
            platforms: Vec::new(),
            layer: None,
            height: 0,
        };
        for descriptor in manifest.config.iter().chain(&manifest.layers) {
            if descriptor.is_nondistributable() && self.source.size(&descriptor.digest).is_none() {
                self.warnings.add(format!(
                    "{wanted_by} has a layer that its publisher does not let others hand out ({}); \
                     clients fetch it from the publisher",
                    descriptor.digest
                ));
                continue;
            }
            self.blob(descriptor, wanted_by)?;
            walked.size = walked.size.saturating_add(descriptor.size);
        }
        if matches!(content, Content::Chart | Content::File) {
            walked.layer = self.content_layer(manifest, wanted_by);
        }
        match &manifest.manifests {
            None => {
                let platform = self.config_platform(manifest);
                walked.platforms.extend(platform.filter(Platform::is_known));
            }
            Some(children) => self.follow_children(children, wanted_by, depth, &mut walked)?,
        }
        Ok(walked)
    }

    fn follow_children(
        &mut self,
        children: &[Descriptor],
        wanted_by: &str,
        depth: usize,
        walked: &mut Walked,
    ) -> Result<(), CatalogError> {
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
            let part = child
                .platform
                .as_ref()
                .map_or_else(|| child.digest.to_string(), ToString::to_string);
            self.warnings.add(format!(
                "{wanted_by} comes without its part for {}",
                printable(&part)
            ));
        }
        let mut seen = BTreeSet::new();
        for child in here {
            let below = self.walk(child, wanted_by, depth + 1)?;
            walked.size = walked.size.saturating_add(below.size);
            walked.height = walked.height.max(below.height + 1);
            // what the index says goes before what the configuration says: only it has the variant
            let platforms = match &child.platform {
                Some(said) => std::slice::from_ref(said),
                None => below.platforms.as_slice(),
            };
            for platform in platforms.iter().filter(|platform| platform.is_known()) {
                if walked.platforms.len() < limits::PLATFORMS && seen.insert(platform.clone()) {
                    walked.platforms.push(platform.clone());
                }
            }
        }
        Ok(())
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
        if self.blobs.len() > limits::BLOBS {
            return Err(CatalogError::TooManyBlobs);
        }
        Ok(())
    }

    /// Reads and notes a manifest.
    fn read(&mut self, entry: &Descriptor, wanted_by: &str) -> Result<Manifest, CatalogError> {
        let digest = entry.digest;
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
        let mut hasher = Hasher::like(&digest);
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
        let config_type = manifest.config.as_ref().map(|config| &config.media_type);
        // any text that can be asked for: types of artifacts have parameters, and stand in JSON alone
        let is_text =
            |said: &&String| (1..=255).contains(&said.len()) && !said.chars().any(char::is_control);
        let own = manifest.artifact_type.as_ref().filter(is_text);
        let artifact_type = own.or(config_type.filter(is_text));
        let noted = ManifestEntry {
            digest,
            size: entry.size,
            media_type: manifest.served_media_type(&entry.media_type),
            subject: manifest.subject.as_ref().map(|subject| subject.digest),
            artifact_type: artifact_type.cloned(),
        };
        self.manifests.insert(digest, noted);
        Ok(manifest)
    }

    /// The layer of a chart or file that is handed out, with its own name.
    fn content_layer(
        &mut self,
        manifest: &Manifest,
        wanted_by: &str,
    ) -> Option<(BlobEntry, Option<String>)> {
        // a chart may have a second layer, its provenance
        let archive = |layer: &&Descriptor| layer.media_type == media_type::HELM_CONTENT;
        let layers = &manifest.layers;
        let layer = layers.iter().find(archive).or_else(|| layers.first())?;
        let title = layer.annotation(annotation::TITLE);
        if title.is_some_and(|title| !is_title(title)) {
            self.warnings.add(format!(
                "{wanted_by} calls itself {:?}, which is no file name; it goes by the name it is \
                 stored under",
                printable(title.unwrap_or_default())
            ));
        }
        let content = BlobEntry {
            digest: layer.digest,
            size: layer.size,
        };
        let title = title.filter(|title| is_title(title)).map(str::to_owned);
        Some((content, title))
    }

    /// The platform that an image's configuration names (OCI image-spec, config.md).
    fn config_platform(&self, manifest: &Manifest) -> Option<Platform> {
        let config = manifest.config.as_ref()?;
        if Content::of(manifest) != Content::Image || config.size > limits::MANIFEST_BYTES {
            return None;
        }
        let bytes = self.source.read(&config.digest).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// Whether a file's own name can be shown and saved under: one or more names joined by slashes,
/// nothing that climbs, nothing that a terminal acts upon.
fn is_title(title: &str) -> bool {
    title.len() <= limits::TITLE_BYTES
        && title.chars().all(is_harmless)
        && title
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."))
}

/// Sentences, each once, the first [`limits::WARNINGS`] in alphabetical order.
#[derive(Default)]
pub(super) struct Warnings {
    kept: BTreeSet<String>,
    dropped: u64,
}

impl Warnings {
    pub(super) fn add(&mut self, warning: String) {
        if self.kept.insert(warning) && self.kept.len() > limits::WARNINGS {
            self.kept.pop_last();
            self.dropped += 1;
        }
    }

    pub(super) fn finish(self) -> Vec<String> {
        let more = (self.dropped > 0).then(|| format!("and {} more warnings", self.dropped));
        self.kept.into_iter().chain(more).collect()
    }
}
