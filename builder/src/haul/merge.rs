//! Several hauls become one: one index, in one form, each name once.

use std::collections::BTreeMap;
use std::path::Path;

use image_layout::catalog::{BlobSource, CatalogError};
use image_layout::digest::Digest;
use image_layout::hauler::{self, Content, Kind, Name, Subjects};
use image_layout::oci::{Descriptor, Manifest, Platform, annotation, media_type};
use image_layout::text::printable;
use serde::Serialize;

use super::error::{HaulError, Place};
use super::store::Store;

/// What an entry is called in the merged index. The order of this type is the order of the index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Full name, as every era would write it today.
    name: String,
    role: Role,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    /// Owns the name. Hauler keeps an image and an index of one name beside each other.
    Named { index: bool },
    /// Signature, attestation or SBOM of a manifest.
    Attached(&'static str, Option<Digest>),
    /// Refers to a manifest, or has no name at all.
    ByDigest(Digest),
}

/// The entries of all hauls so far.
#[derive(Default)]
pub(super) struct Merged {
    entries: BTreeMap<Key, (Descriptor, usize)>,
    /// Images of earlier hauls that have the name of an entry and run elsewhere.
    elsewhere: BTreeMap<Key, BTreeMap<Platform, (Descriptor, usize)>>,
    hauls: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<&'a Descriptor>,
}

impl Merged {
    /// Adds the entries of one haul, whose manifests are in `blobs`. What it names goes before
    /// what earlier hauls call the same, except for an image that runs on another platform: those
    /// are joined, see [`Merged::join`].
    pub(super) fn add(&mut self, haul: String, entries: Vec<Descriptor>, blobs: &dyn BlobSource) {
        let number = self.hauls.len();
        let subjects = Subjects::of(&entries);
        for entry in entries {
            let (key, entry) = normalise(entry, &subjects, blobs);
            if let Role::Named { index } = key.role {
                let other = Key {
                    name: key.name.clone(),
                    role: Role::Named { index: !index },
                };
                if let Some((_, earlier)) = self.entries.get(&other)
                    && *earlier < number
                    && let Some(replaced) = self.entries.remove(&other)
                {
                    self.replaced(&key.name, &entry, &replaced, &haul);
                }
                let joined = Key {
                    name: key.name.clone(),
                    role: Role::Named { index: false },
                };
                self.set_aside(&joined, &entry, number, &haul, blobs);
            }
            let name = key.name.clone();
            let digest = entry.digest;
            if let Some(replaced) = self.entries.insert(key, (entry.clone(), number))
                && replaced.0.digest != digest
            {
                self.replaced(&name, &entry, &replaced, &haul);
            }
        }
        self.hauls.push(haul);
    }

    /// Keeps what `entry` would replace and need not, since it runs on another platform; drops
    /// what was kept so and is replaced now.
    fn set_aside(
        &mut self,
        key: &Key,
        entry: &Descriptor,
        number: usize,
        haul: &str,
        blobs: &dyn BlobSource,
    ) {
        let platform = platform(entry, blobs);
        if let Some((earlier, from)) = self.entries.get(key)
            && *from < number
            && earlier.digest != entry.digest
            && let (Some(its), Some(new)) = (self::platform(earlier, blobs), &platform)
            && its != *new
        {
            let (earlier, from) = (earlier.clone(), *from);
            self.entries.remove(key);
            let elsewhere = self.elsewhere.entry(key.clone()).or_default();
            elsewhere.insert(its, (earlier, from));
        }
        let Some(mut elsewhere) = self.elsewhere.remove(key) else {
            return;
        };
        match &platform {
            Some(platform) => {
                if let Some(replaced) = elsewhere.remove(platform) {
                    self.replaced(&key.name, entry, &replaced, haul);
                }
                self.elsewhere.insert(key.clone(), elsewhere);
            }
            // an index says all there is
            None => {
                for replaced in elsewhere.values() {
                    self.replaced(&key.name, entry, replaced, haul);
                }
            }
        }
    }

    /// Makes one index of images of one name that came from several hauls for several platforms, as
    /// k3s's archives for x86_64 and for arm64 do. `store` gets the indexes.
    pub(super) fn join(&mut self, store: &mut Store) -> Result<(), HaulError> {
        for (key, mut images) in std::mem::take(&mut self.elsewhere) {
            let Some((entry, number)) = self.entries.get(&key).cloned() else {
                continue;
            };
            let Some(platform) = platform(&entry, store) else {
                continue;
            };
            let named = Key {
                role: Role::Named { index: true },
                ..key.clone()
            };
            if images.is_empty() || self.entries.contains_key(&named) {
                continue;
            }
            images.insert(platform, (entry.clone(), number));
            let docker =
                |(image, _): &(Descriptor, usize)| image.media_type == media_type::DOCKER_MANIFEST;
            let kind = match images.values().all(docker) {
                true => media_type::DOCKER_LIST,
                false => media_type::OCI_INDEX,
            };
            let manifests: Vec<Descriptor> = images
                .into_iter()
                .map(|(platform, (image, _))| Descriptor {
                    platform: Some(platform),
                    annotations: BTreeMap::new(),
                    ..image
                })
                .collect();
            let place = Place::of(Path::new(&key.name));
            let index = serde_json::to_vec(&Index {
                schema_version: 2,
                media_type: kind,
                manifests: manifests.iter().collect(),
            })
            .map_err(|error| place.read_error(error.into()))?;
            let digest = Digest::sha256_of(&index);
            let size = index.len() as u64;
            store.take(&digest, size, &mut index.as_slice(), &place, &mut || {})?;
            let mut joined = Descriptor {
                media_type: kind.to_owned(),
                digest,
                size,
                ..entry
            };
            let kind = "dev.hauler/imageIndex".to_owned();
            joined.annotations.insert(annotation::KIND.to_owned(), kind);
            self.entries.remove(&key);
            self.entries.insert(named, (joined, number));
        }
        Ok(())
    }

    fn replaced(&mut self, name: &str, by: &Descriptor, was: &(Descriptor, usize), haul: &str) {
        let (name, haul) = (printable(name), printable(haul));
        let (was, number) = was;
        let warning = match self.hauls.get(*number) {
            Some(earlier) => format!(
                "{name} of {} ({}) is left out: {haul} has another ({})",
                printable(earlier),
                was.digest,
                by.digest
            ),
            None => format!(
                "{haul} has {name} twice; {} is left out, {} is taken",
                was.digest, by.digest
            ),
        };
        if self.warnings.len() < image_layout::limits::WARNINGS {
            self.warnings.push(warning);
        }
    }

    /// What was left out, one sentence each.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// `index.json` of the merged layout: the same hauls give the same bytes.
    pub(super) fn index_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Index {
            schema_version: 2,
            media_type: media_type::OCI_INDEX,
            manifests: self.entries.values().map(|(entry, _)| entry).collect(),
        })
    }

    /// Which haul an error is about.
    pub(super) fn blame(&self, error: &CatalogError) -> String {
        let wanted_by = match error {
            CatalogError::MissingBlob { wanted_by, .. }
            | CatalogError::WrongSize { wanted_by, .. }
            | CatalogError::WrongDigest { wanted_by, .. }
            | CatalogError::ManifestTooLarge { wanted_by, .. }
            | CatalogError::BadManifest { wanted_by, .. }
            | CatalogError::TooDeep(wanted_by) => Some(wanted_by),
            _ => None,
        };
        let named = |entry: &Descriptor| {
            let shown = hauler::raw_name(entry).map_or_else(|| entry.digest.to_string(), printable);
            wanted_by.is_some_and(|wanted| *wanted == shown)
        };
        let mut about = self.entries.values().filter(|(entry, _)| named(entry));
        about
            .next()
            .and_then(|(_, number)| self.hauls.get(*number))
            .cloned()
            .unwrap_or_else(|| self.hauls.join(", "))
    }
}

/// Brings an entry into the form that Hauler 2.1 writes, which every version reads: full name with
/// `docker.io`, a kind, a name without host, and what a signature belongs to.
fn normalise(
    mut entry: Descriptor,
    subjects: &Subjects,
    blobs: &dyn BlobSource,
) -> (Key, Descriptor) {
    let manifest = manifest(&entry, blobs);
    let content = Content::of(&manifest);
    let kind = Kind::of(&entry);
    let of_hauler = entry.annotations.contains_key(annotation::KIND);
    let name = Name::of(&entry, content);
    let mut set = |key: &str, value: String| {
        entry.annotations.insert(key.to_owned(), value);
    };
    if let Some(name) = &name
        && name.host.is_some()
    {
        set(annotation::IMAGE_NAME, name.to_string());
        if !of_hauler {
            let without_host = Name {
                host: None,
                ..name.clone()
            };
            set(annotation::REF_NAME, without_host.to_string());
        }
    }
    if !of_hauler {
        let kind = match content {
            Content::Index => "dev.hauler/imageIndex",
            _ => "dev.hauler/image",
        };
        set(annotation::KIND, kind.to_owned());
    }
    if entry.media_type.is_empty() {
        entry.media_type = manifest.served_media_type("");
    }
    let role = match kind.cosign_suffix() {
        Some(suffix) => {
            let subject = subjects.find(&entry);
            if let Some(subject) = subject {
                let said = annotation::SUBJECT_DIGEST.to_owned();
                entry.annotations.insert(said, subject.to_string());
            }
            Role::Attached(suffix, subject)
        }
        None if kind == Kind::Referrer || hauler::raw_name(&entry).is_none() => {
            Role::ByDigest(entry.digest)
        }
        None => Role::Named {
            index: content == Content::Index,
        },
    };
    let name = name
        .map(|name| name.to_string())
        .or_else(|| hauler::raw_name(&entry).map(str::to_owned))
        .unwrap_or_default();
    (Key { name, role }, entry)
}

/// An entry's manifest, to see what it is; one that can't be read is an error of the catalog.
fn manifest(entry: &Descriptor, blobs: &dyn BlobSource) -> Manifest {
    let small = blobs.size(&entry.digest) <= Some(image_layout::limits::MANIFEST_BYTES);
    let bytes = small.then(|| blobs.read(&entry.digest).ok()).flatten();
    bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// The platform of an image of one platform, as its configuration says.
fn platform(entry: &Descriptor, blobs: &dyn BlobSource) -> Option<Platform> {
    let manifest = manifest(entry, blobs);
    if Content::of(&manifest) != Content::Image {
        return None;
    }
    let config = manifest.config?;
    let small = blobs.size(&config.digest)? <= image_layout::limits::MANIFEST_BYTES;
    let bytes = small.then(|| blobs.read(&config.digest).ok()).flatten()?;
    let platform: Platform = serde_json::from_slice(&bytes).ok()?;
    platform.is_known().then_some(platform)
}
