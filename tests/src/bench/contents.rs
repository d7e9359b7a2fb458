//! Contents to serve: an OCI layout as the builder lays it out, made of blobs that can't be
//! compressed, and the same files as docker-registry's store.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use image_layout::Digest;
use image_layout::catalog::{BlobSource, Catalog};
use image_layout::digest::Hasher;
use image_layout::oci::{annotation, media_type};
use image_layout::{hauler, paths};
use rustix::fs::Advice;
use serde_json::{Value, json};

use crate::clients::run;

/// Registries that images are said to come from.
const HOSTS: [&str; 4] = ["docker.io", "ghcr.io", "quay.io", "registry.example"];
const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Bytes made and written at once.
const PIECE: usize = 1 << 20;

/// How many images of what size.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Images, each of one platform.
    pub images: usize,
    /// Layers of each, no two alike.
    pub layers: usize,
    /// Bytes of a layer.
    pub layer_bytes: usize,
}

/// An image of the contents.
#[derive(Clone, Debug)]
pub struct Image {
    /// Name without host.
    pub repository: String,
    /// Tag.
    pub tag: &'static str,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Digests of its layers.
    pub layers: Vec<Digest>,
}

impl Image {
    /// `REPOSITORY:TAG`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// An OCI layout in a directory.
#[derive(Debug)]
pub struct Contents {
    /// The directory.
    pub directory: PathBuf,
    /// What is in it.
    pub images: Vec<Image>,
    /// What `index.json` lists.
    index: Vec<Value>,
    /// Its blobs and their sizes in bytes.
    blobs: BTreeMap<Digest, u64>,
    random: Random,
}

impl Contents {
    /// Makes a layout with catalog in `directory`. The same shape gives the same bytes.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn make(directory: &Path, shape: Shape) -> Result<Contents> {
        fs::create_dir_all(directory.join("blobs/sha256"))
            .with_context(|| format!("making {}", directory.display()))?;
        let version = json!({"imageLayoutVersion": "1.0.0"}).to_string();
        fs::write(directory.join("oci-layout"), version)?;
        let contents = Contents {
            directory: directory.to_owned(),
            images: Vec::new(),
            index: Vec::new(),
            blobs: BTreeMap::new(),
            random: Random(0x9e37_79b9_7f4a_7c15),
        };
        contents.with(shape)
    }

    /// The same with further images.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn with(mut self, shape: Shape) -> Result<Contents> {
        let first = self.images.len();
        for number in first..first + shape.images {
            let entry = self.image(number, shape);
            let entry = entry.with_context(|| format!("writing {}", self.directory.display()))?;
            self.index.push(entry);
        }
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": self.index,
        });
        let index = serde_json::to_vec(&index)?;
        fs::write(self.directory.join(hauler::INDEX), &index)?;
        let catalog = Catalog::build(&index, &self).context("cataloguing")?;
        let catalog = serde_json::to_vec(&catalog)?;
        fs::write(self.directory.join(paths::haul::CATALOG), catalog)?;
        Ok(self)
    }

    /// Bytes of all blobs.
    pub fn bytes(&self) -> u64 {
        self.blobs.values().sum()
    }

    /// How many blobs there are.
    pub fn blob_count(&self) -> usize {
        self.blobs.len()
    }

    /// Where a blob lies.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.blob_path())
    }

    /// Packs the layout into an uncompressed tar archive, as `hauler store save` makes one: without
    /// catalog.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn archive(&self, archive: &Path) -> Result<()> {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&self.directory).arg("-cf").arg(archive);
        tar.args(["blobs", hauler::INDEX, "oci-layout"]);
        run(&mut tar, "the package tar")?;
        Ok(())
    }

    /// Reads every blob once, so that the kernel has it in memory.
    ///
    /// # Errors
    /// When a blob can't be read.
    pub fn make_warm(&self) -> Result<()> {
        let mut piece = vec![0; PIECE];
        for digest in self.blobs.keys() {
            let mut file = File::open(self.path(digest))?;
            while file.read(&mut piece)? > 0 {}
        }
        Ok(())
    }

    /// Lays the same files out as docker-registry stores them, by hard links (distribution:
    /// `registry/storage/paths.go`).
    ///
    /// # Errors
    /// When it can't be written.
    pub fn distribution_store(&self, root: &Path) -> Result<()> {
        let store = root.join("docker/registry/v2");
        for digest in self.blobs.keys() {
            let hex = digest.hex();
            let place = store.join("blobs/sha256").join(&hex[..2]).join(&hex);
            fs::create_dir_all(&place)?;
            fs::hard_link(self.path(digest), place.join("data"))?;
        }
        for image in &self.images {
            let repository = store.join("repositories").join(&image.repository);
            let link = |place: PathBuf, digest: &Digest| -> Result<()> {
                fs::create_dir_all(&place)?;
                fs::write(place.join("link"), digest.to_string())?;
                Ok(())
            };
            let manifests = repository.join("_manifests");
            let hex = image.manifest.hex();
            let tag = manifests.join("tags").join(image.tag);
            for place in [
                manifests.join("revisions/sha256").join(&hex),
                tag.join("current"),
                tag.join("index/sha256").join(&hex),
            ] {
                link(place, &image.manifest)?;
            }
            for layer in &image.layers {
                link(repository.join("_layers/sha256").join(layer.hex()), layer)?;
            }
        }
        Ok(())
    }

    /// Writes an image and returns its entry in the index.
    fn image(&mut self, number: usize, shape: Shape) -> Result<Value> {
        let layers = (0..shape.layers)
            .map(|_| self.layer(shape.layer_bytes))
            .collect::<Result<Vec<_>>>()?;
        // as a layer is a tar archive that is not compressed, it is its own `diff_id`
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
            "config": {"Labels": {"number": number.to_string()}},
            "rootfs": {"type": "layers", "diff_ids": layers},
        });
        let config = self.small(config.to_string().as_bytes())?;
        let described: Vec<_> = layers
            .iter()
            .map(|digest| json!({"mediaType": LAYER, "digest": digest, "size": shape.layer_bytes}))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": {
                "mediaType": IMAGE_CONFIG, "digest": config, "size": self.blobs.get(&config),
            },
            "layers": described,
        });
        let manifest = self.small(manifest.to_string().as_bytes())?;
        let repository = format!("team-{}/app-{number}", number % 20);
        let host = HOSTS.get(number % HOSTS.len()).unwrap_or(&"docker.io");
        let image = Image {
            tag: "1.0",
            repository,
            manifest,
            layers,
        };
        let name = image.name();
        self.images.push(image);
        Ok(json!({
            "mediaType": media_type::OCI_MANIFEST,
            "digest": manifest,
            "size": self.blobs.get(&manifest),
            "annotations": {
                annotation::KIND: "dev.hauler/image",
                annotation::IMAGE_NAME: format!("{host}/{name}"),
                annotation::REF_NAME: name,
            },
        }))
    }

    fn small(&mut self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::sha256_of(bytes);
        fs::write(self.path(&digest), bytes)?;
        self.blobs.insert(digest, bytes.len() as u64);
        Ok(digest)
    }

    /// A blob of random bytes; its name is known when it is written.
    fn layer(&mut self, bytes: usize) -> Result<Digest> {
        let unnamed = self.directory.join("blobs/unnamed");
        let mut file = File::create(&unnamed)?;
        let mut hasher = Hasher::sha256();
        let mut piece = vec![0; bytes.min(PIECE)];
        let mut left = bytes;
        while left > 0 {
            let next = left.min(piece.len());
            let piece = piece.get_mut(..next).unwrap_or_default();
            self.random.fill(piece);
            hasher.update(piece);
            file.write_all(piece)?;
            left -= next;
        }
        let digest = hasher.finish();
        fs::rename(&unnamed, self.path(&digest))?;
        self.blobs.insert(digest, bytes as u64);
        Ok(digest)
    }
}

/// Asks the kernel to forget what it has of a file in memory. It keeps pages that are not on the
/// disk yet, so they are written first.
///
/// # Errors
/// When it can't be opened, or its pages can't be written.
pub(super) fn make_cold(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    file.sync_data()?;
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(())
}

impl BlobSource for Contents {
    fn size(&self, digest: &Digest) -> Option<u64> {
        self.blobs.get(digest).copied()
    }

    fn read(&self, digest: &Digest) -> std::io::Result<Vec<u8>> {
        fs::read(self.path(digest))
    }
}

/// The same bytes on every machine: xorshift64 (Marsaglia 2003).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        for eight in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let next = self.0.to_le_bytes();
            eight.copy_from_slice(next.get(..eight.len()).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_have_a_catalog_with_every_image_and_blob() {
        let directory = tempfile::tempdir().unwrap();
        let shape = Shape {
            images: 3,
            layers: 2,
            layer_bytes: 100,
        };
        let contents = Contents::make(directory.path(), shape).unwrap();
        let catalog = fs::read(directory.path().join(paths::haul::CATALOG)).unwrap();
        let catalog: Catalog = serde_json::from_slice(&catalog).unwrap();
        assert_eq!(catalog.artifacts.len(), 3);
        assert_eq!(catalog.blobs.len(), 3 * (1 + 1 + 2));
        assert_eq!(catalog.warnings, Vec::<String>::new());
        for image in &contents.images {
            for layer in &image.layers {
                let bytes = fs::read(contents.path(layer)).unwrap();
                assert_eq!(Digest::sha256_of(&bytes), *layer);
            }
        }
    }
}
