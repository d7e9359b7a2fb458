//! Archives of `docker save` in its old form, as k3s's `k3s-airgap-images-ARCH.tar` are too: no
//! OCI layout, but `manifest.json`, configurations and layers under names of their own.
//!
//! - Layers and configurations are hashed and stored as they come; which is which is known at the
//!   end, since `manifest.json` comes last.
//! - For each image of `manifest.json` a Docker manifest is made of its configuration and layers,
//!   as they are: the same archive gives the same manifest.
//! - A layer must be what the configuration says (`rootfs.diff_ids`, the SHA-256 of the unpacked
//!   layer), so that damage is found here and not on the node.
//!
//! Sources: moby, `image/spec/spec.md`; containerd, `core/images/archive/importer.go`.

use std::collections::BTreeMap;

use image_layout::catalog::BlobSource;
use image_layout::digest::Digest;
use image_layout::limits;
use image_layout::oci::{Descriptor, annotation, media_type};
use image_layout::reference::Reference;
use serde::{Deserialize, Serialize};

use super::error::{HaulError, Place};
use super::store::{Store, Stored};

const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const GZIP_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Links that are followed from one layer to the file that holds it.
const LINKS: usize = 8;

/// What an archive has besides the parts of an OCI layout.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Stored files by their names.
    files: BTreeMap<String, Stored>,
    /// Links by their names: a layer that images share lies in the archive once.
    links: BTreeMap<String, String>,
}

/// One image of `manifest.json`. Go writes `null` for no names.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Whether a file of such a name may be a layer or a configuration: `HEX.json`, `HEX.tar`,
/// `ID/layer.tar`, also with `.tar.gz`.
pub(super) fn is_part(name: &str) -> bool {
    let name = clean(name);
    let (directory, file) = name.rsplit_once('/').unwrap_or(("", &name));
    let layer = file.ends_with(".tar") || file.ends_with(".tar.gz");
    match directory {
        "" => layer || file.ends_with(".json"),
        _ => layer && !directory.contains('/'),
    }
}

impl Parts {
    /// Takes note of a file that was stored.
    pub(super) fn file(&mut self, name: &str, stored: Stored) {
        self.files.insert(clean(name), stored);
    }

    /// Takes note of a symbolic link; where it leads matters only if an image needs it.
    pub(super) fn link(&mut self, name: &str, target: &str) {
        let name = clean(name);
        let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
        let target = resolved(directory, target).unwrap_or_default();
        self.links.insert(name, target);
    }

    /// Takes note of a hard link, whose target is the name of another entry.
    pub(super) fn hard_link(&mut self, name: &str, target: &str) {
        self.links.insert(clean(name), clean(target));
    }

    /// Files and links.
    pub(super) fn len(&self) -> usize {
        self.files.len() + self.links.len()
    }

    /// The name of a link, if there is one: nothing else may have links.
    pub(super) fn any_link(&self) -> Option<&str> {
        self.links.keys().next().map(String::as_str)
    }

    /// Names of the files, for archives that turn out to be something else.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    fn find(&self, name: &str) -> Option<&Stored> {
        let mut name = clean(name);
        for _ in 0..LINKS {
            match self.files.get(&name) {
                Some(stored) => return Some(stored),
                None => name = self.links.get(&name)?.clone(),
            }
        }
        None
    }

    /// Makes manifests of what `manifest_json` names and stores them; gives one entry a name, as
    /// an `index.json` would have it. `place` is the archive.
    pub(super) fn entries(
        &self,
        manifest_json: &[u8],
        store: &mut Store,
        place: &Place,
    ) -> Result<Vec<Descriptor>, HaulError> {
        let wrong = |name: &str, what: String| HaulError::Docker {
            place: Place {
                entry: Some(name.to_owned()),
                ..place.clone()
            },
            what,
        };
        let images: Vec<Image> = serde_json::from_slice(manifest_json)
            .map_err(|error| wrong("manifest.json", format!("it can't be understood: {error}")))?;
        if images.is_empty() {
            return Err(wrong("manifest.json", "it names no image".to_owned()));
        }
        let mut entries = Vec::new();
        for image in images {
            let missing = |name: &str| {
                wrong(
                    name,
                    "manifest.json names it, and it is not there".to_owned(),
                )
            };
            let config = self
                .find(&image.config)
                .ok_or_else(|| missing(&image.config))?;
            let layers: Vec<(String, &Stored)> = image
                .layers
                .unwrap_or_default()
                .into_iter()
                .map(|name| match self.find(&name) {
                    Some(layer) => Ok((name, layer)),
                    None => Err(missing(&name)),
                })
                .collect::<Result<_, _>>()?;
            named_by_digest(&image.config, config).map_err(|actual| HaulError::WrongDigest {
                place: Place {
                    entry: Some(image.config.clone()),
                    ..place.clone()
                },
                actual,
            })?;
            for stored in layers.iter().map(|(_, layer)| *layer).chain([config]) {
                store.adopt(stored)?;
            }
            let bytes = match config.size <= limits::MANIFEST_BYTES {
                true => store
                    .read(&config.digest)
                    .map_err(|error| error.to_string()),
                false => Err("it is too large".to_owned()),
            };
            let diff_ids = bytes
                .and_then(|bytes| {
                    serde_json::from_slice::<Config>(&bytes).map_err(|error| error.to_string())
                })
                .map_err(|error| {
                    wrong(
                        &image.config,
                        format!("it is no image's configuration: {error}"),
                    )
                })?
                .rootfs
                .diff_ids
                .unwrap_or_default();
            if diff_ids.len() != layers.len() {
                return Err(wrong(
                    &image.config,
                    format!(
                        "it has {} layers, manifest.json {}",
                        diff_ids.len(),
                        layers.len()
                    ),
                ));
            }
            for ((name, layer), diff_id) in layers.iter().zip(&diff_ids) {
                if layer.unpacked != *diff_id {
                    return Err(HaulError::WrongDigest {
                        place: Place {
                            entry: Some(name.clone()),
                            ..place.clone()
                        },
                        actual: layer.unpacked,
                    });
                }
            }
            let layers = layers.iter().map(|(_, layer)| match layer.gzip {
                true => descriptor(GZIP_LAYER, layer.digest, layer.size),
                false => descriptor(LAYER, layer.digest, layer.size),
            });
            let manifest = Manifest {
                schema_version: 2,
                media_type: media_type::DOCKER_MANIFEST,
                config: descriptor(CONFIG, config.digest, config.size),
                layers: layers.collect(),
            };
            let manifest = serde_json::to_vec(&manifest)
                .map_err(|error| wrong(&image.config, error.to_string()))?;
            let digest = Digest::sha256_of(&manifest);
            let size = manifest.len() as u64;
            store.take(&digest, size, &mut manifest.as_slice(), place, &mut || {})?;
            let entry = descriptor(media_type::DOCKER_MANIFEST, digest, size);
            let names = image.repo_tags.unwrap_or_default();
            if names.is_empty() {
                entries.push(entry.clone());
            }
            for name in names {
                let mut entry = entry.clone();
                // a name that can't be asked for is kept, and warned about, as in any haul
                let full = name
                    .parse::<Reference>()
                    .map_or(name, |name| name.to_string());
                entry
                    .annotations
                    .insert(annotation::IMAGE_NAME.to_owned(), full);
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

/// `HEX.json` must have the digest that its name says; gives the one it has if not.
fn named_by_digest(name: &str, config: &Stored) -> Result<(), Digest> {
    let said = name
        .strip_suffix(".json")
        .and_then(|hex| Digest::from_parts("sha256", hex));
    match said {
        Some(said) if said != config.digest => Err(config.digest),
        _ => Ok(()),
    }
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        platform: None,
        annotations: BTreeMap::new(),
    }
}

/// A name without dots and doubled slashes.
fn clean(name: &str) -> String {
    let parts = name.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.collect::<Vec<_>>().join("/")
}

/// Where a link in `directory` leads; none if that is outside of the archive.
fn resolved(directory: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = directory
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
