//! The hauls of the fixtures and what their JSON files say that must be served of them.
//!
//! Two witnesses: the index that the haul was saved with gives names with hosts, and what Hauler
//! answered when it served the haul gives types, sizes, charts and files. Where Hauler's answer
//! was a defect ([`Fixture::defects`]) the index is right.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use image_layout::{Digest, Reference};
use serde::Deserialize;

/// The largest window that a fixture is compressed with, as a power of two.
const WINDOW_LOG: u32 = 31;

/// An image that must be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedImage {
    /// Its name with host; the tag is absent where the haul has it by digest only.
    pub reference: Reference,
    /// The digest of its manifest or index.
    pub digest: Digest,
}

/// What Hauler answered for a tag. Names have no host: Hauler serves none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedTag {
    /// Repository.
    pub repository: String,
    /// Tag.
    pub tag: String,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
}

/// A chart that must be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedChart {
    /// Repository, `hauler/hello-chart`.
    pub repository: String,
    /// Hauler's tag, `1.2.3-build4`.
    pub tag: String,
    /// File name of its archive, `shop-1.2.3+build4.tgz`.
    pub archive: String,
    /// Digest of its archive.
    pub digest: Digest,
}

/// A file that must be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedFile {
    /// Its name.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
}

/// A haul of the fixtures.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Its name, without `.tar.zst`.
    pub name: String,
    /// Its archive; several where it comes in chunks, in their order.
    pub archives: Vec<PathBuf>,
    /// Its images.
    pub images: Vec<ExpectedImage>,
    /// Its charts.
    pub charts: Vec<ExpectedChart>,
    /// Its files; charts' archives are not among them.
    pub files: Vec<ExpectedFile>,
    /// Every tag that Hauler served.
    pub tags: Vec<ServedTag>,
    /// Every manifest that Hauler served by digest: repository, digest, media type.
    pub revisions: Vec<(String, Digest, String)>,
}

#[derive(Deserialize)]
struct Facts {
    #[serde(default)]
    inputs: Inputs,
    #[serde(default)]
    index_json: Option<Index>,
    #[serde(default)]
    served_registry: Option<Registry>,
}

#[derive(Default, Deserialize)]
struct Inputs {
    #[serde(default)]
    images: BTreeMap<String, Input>,
}

#[derive(Deserialize)]
struct Input {
    #[serde(default)]
    index: Option<Descriptor>,
    #[serde(default)]
    manifest: Option<Descriptor>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Registry {
    repositories: BTreeMap<String, Repository>,
}

#[derive(Deserialize)]
struct Repository {
    #[serde(default)]
    tags: BTreeMap<String, Tag>,
    #[serde(default)]
    revisions: BTreeMap<Digest, Revision>,
}

#[derive(Deserialize)]
struct Tag {
    status: u16,
    digest: Digest,
    content_type: String,
    size: u64,
    #[serde(default)]
    config_media_type: String,
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Revision {
    status: u16,
    #[serde(default)]
    content_type: String,
}

#[derive(Deserialize)]
struct Layer {
    digest: Digest,
    #[serde(default)]
    title: String,
}

fn hauls() -> PathBuf {
    crate::results::repository().join("tests/fixtures/hauls")
}

/// Names of all fixtures that must be served: all but `bad-*`.
///
/// # Errors
/// When the fixtures can't be listed.
pub fn names() -> Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(hauls()).context("listing the fixtures")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".json")
            && !name.starts_with("bad-")
        {
            names.insert(name.to_owned());
        }
    }
    ensure!(names.len() > 20, "only {} fixtures are there", names.len());
    Ok(names.into_iter().collect())
}

/// A fixture by its name.
///
/// # Errors
/// When there is none of that name, or its JSON file is not as expected.
pub fn load(name: &str) -> Result<Fixture> {
    // the odd ones are another packing of this one
    let described = match name.starts_with("odd-") {
        true => "hauler-2.0.3-small",
        false => name,
    };
    let path = hauls().join(format!("{described}.json"));
    let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let facts: Facts =
        serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
    let mut fixture = Fixture {
        name: name.to_owned(),
        archives: archives(name)?,
        images: Vec::new(),
        charts: Vec::new(),
        files: Vec::new(),
        tags: Vec::new(),
        revisions: Vec::new(),
    };
    let mut contents = BTreeSet::new();
    for (repository, entry) in facts
        .served_registry
        .into_iter()
        .flat_map(|registry| registry.repositories)
    {
        for (tag, entry) in entry.tags {
            if fixture.add_tag(&repository, &tag, entry)? {
                contents.insert(format!("{repository}:{tag}"));
            }
        }
        for (digest, revision) in entry.revisions {
            if revision.status == 200 {
                let media_type = revision.content_type;
                fixture
                    .revisions
                    .push((repository.clone(), digest, media_type));
            }
        }
    }
    match facts.index_json {
        Some(index) => fixture.images_of_index(&index, &contents)?,
        None => fixture.images_of_inputs(&facts.inputs)?,
    }
    Ok(fixture)
}

/// The file of a fixture, or its chunks in order.
fn archives(name: &str) -> Result<Vec<PathBuf>> {
    let single = hauls().join(format!("{name}.tar.zst"));
    if single.is_file() {
        return Ok(vec![single]);
    }
    let directory = hauls().join(name);
    let mut chunks = fs::read_dir(&directory)
        .with_context(|| format!("there is no haul {name}"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    chunks.sort();
    Ok(chunks)
}

impl Fixture {
    /// What Hauler served under a wrong digest: tags to leave out when its answers are compared.
    /// Of two images of one name from two registries it serves either.
    pub fn defects(&self) -> &'static [(&'static str, &'static str)] {
        match self.name.as_str() {
            "hauler-2.0.3-name-collision" => &[("library/hello", "1")],
            _ => &[],
        }
    }

    /// Unpacks it as anybody would: zstd, then tar.
    ///
    /// # Errors
    /// When it can't be read or written.
    pub fn unpack(&self, to: &Path) -> Result<()> {
        let mut whole: Box<dyn Read> = Box::new(std::io::empty());
        for path in &self.archives {
            let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
            whole = Box::new(whole.chain(file));
        }
        let mut decoder = zstd::Decoder::new(whole)?;
        decoder.window_log_max(WINDOW_LOG)?;
        tar::Archive::new(decoder)
            .unpack(to)
            .with_context(|| format!("unpacking {}", self.name))
    }

    /// Notes a tag that Hauler served; true if it is a chart or a file.
    fn add_tag(&mut self, repository: &str, tag: &str, entry: Tag) -> Result<bool> {
        ensure!(
            entry.status == 200,
            "{repository}:{tag}: status {}",
            entry.status
        );
        self.tags.push(ServedTag {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            digest: entry.digest,
            media_type: entry.content_type,
            size: entry.size,
        });
        let chart = entry.config_media_type == "application/vnd.cncf.helm.config.v1+json";
        let file = entry
            .config_media_type
            .starts_with("application/vnd.content.hauler.file.");
        if !chart && !file {
            return Ok(false);
        }
        let layer = entry
            .layers
            .into_iter()
            .next()
            .ok_or_else(|| anyhow!("{repository}:{tag} has no layer"))?;
        if chart {
            self.charts.push(ExpectedChart {
                repository: repository.to_owned(),
                tag: tag.to_owned(),
                archive: layer.title,
                digest: layer.digest,
            });
        } else {
            self.files.push(ExpectedFile {
                name: layer.title,
                digest: layer.digest,
            });
        }
        Ok(true)
    }

    fn images_of_index(&mut self, index: &Index, contents: &BTreeSet<String>) -> Result<()> {
        for entry in &index.manifests {
            let annotation = |key: &str| entry.annotations.get(key).map(String::as_str);
            let kind = annotation("kind").unwrap_or("image");
            let short = annotation("org.opencontainers.image.ref.name").unwrap_or_default();
            let image = ["image", "imageIndex"]
                .iter()
                .any(|kinds| kind == *kinds || kind.ends_with(&format!("/{kinds}")));
            if !image || contents.contains(short) {
                continue;
            }
            let name = annotation("io.containerd.image.name").unwrap_or(short);
            self.images.push(ExpectedImage {
                reference: name.parse()?,
                digest: entry.digest,
            });
        }
        Ok(())
    }

    fn images_of_inputs(&mut self, inputs: &Inputs) -> Result<()> {
        for (name, input) in &inputs.images {
            let descriptor = input
                .index
                .as_ref()
                .or(input.manifest.as_ref())
                .ok_or_else(|| anyhow!("{name} has neither index nor manifest"))?;
            self.images.push(ExpectedImage {
                reference: name.parse()?,
                digest: descriptor.digest,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fixture_says_what_is_in_it() {
        for name in names().unwrap() {
            let fixture = load(&name).unwrap();
            let carries = fixture.images.len() + fixture.charts.len() + fixture.files.len();
            assert!(carries > 0, "{name}");
            assert!(!fixture.tags.is_empty() || !fixture.revisions.is_empty());
        }
        let mixed = load("hauler-2.0.3-mixed-v1").unwrap();
        assert_eq!(
            (mixed.images.len(), mixed.charts.len(), mixed.files.len()),
            (10, 2, 4)
        );
        assert_eq!(load("hauler-2.0.3-chunked").unwrap().archives.len(), 2);
    }
}
