//! What the hauls of the fixtures must be served as: the digests in their JSON files.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use image_layout::Digest;
use serde::Deserialize;

/// What is served of one haul.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Tags: repository, tag, digest. Charts and files of Hauler's paths are among them.
    pub tags: Vec<(String, String, Digest)>,
    /// Files and charts under `/files/`: name and digest.
    pub files: Vec<(String, Digest)>,
}

#[derive(Deserialize)]
struct Facts {
    #[serde(default)]
    served_registry: Option<Registry>,
    #[serde(default)]
    served_files: Option<Files>,
}

#[derive(Deserialize)]
struct Registry {
    repositories: BTreeMap<String, Repository>,
}

#[derive(Deserialize)]
struct Repository {
    #[serde(default)]
    tags: BTreeMap<String, Tag>,
}

#[derive(Deserialize)]
struct Tag {
    digest: Option<Digest>,
}

#[derive(Deserialize)]
struct Files {
    files: BTreeMap<String, FileFacts>,
}

#[derive(Deserialize)]
struct FileFacts {
    sha256: Digest,
}

/// The archive of a haul of the fixtures, by its name without `.tar.zst`.
///
/// # Errors
/// When there is none of that name.
pub fn archive(haul: &str) -> Result<PathBuf> {
    let path = hauls().join(format!("{haul}.tar.zst"));
    if !path.is_file() {
        bail!("there is no haul {}", path.display());
    }
    Ok(path)
}

fn hauls() -> PathBuf {
    crate::results::repository().join("tests/fixtures/hauls")
}

impl Served {
    /// What is served of several hauls together; of equal names the last counts.
    ///
    /// # Errors
    /// When a haul's JSON file can't be read.
    pub fn of(hauls: &[String]) -> Result<Served> {
        let mut tags = BTreeMap::new();
        let mut files = BTreeMap::new();
        for haul in hauls {
            let path = self::hauls().join(format!("{haul}.json"));
            let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let facts: Facts = serde_json::from_slice(&text)
                .with_context(|| format!("reading {}", path.display()))?;
            for (repository, entry) in facts
                .served_registry
                .into_iter()
                .flat_map(|r| r.repositories)
            {
                for (tag, entry) in entry.tags {
                    if let Some(digest) = entry.digest {
                        tags.insert((repository.clone(), tag), digest);
                    }
                }
            }
            for (name, file) in facts.served_files.into_iter().flat_map(|files| files.files) {
                files.insert(name, file.sha256);
            }
        }
        Ok(Served {
            tags: tags.into_iter().map(|((r, t), d)| (r, t, d)).collect(),
            files: files.into_iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_of_several_hauls_are_put_together() {
        let hauls = ["hauler-1.3.0-signed", "hauler-2.0.3-mixed-v1"].map(str::to_owned);
        let served = Served::of(&hauls).unwrap();
        let has = |repository: &str| served.tags.iter().any(|(r, _, _)| r == repository);
        assert!(has("signed/app") && has("library/hello"), "{served:?}");
        assert!(served.files.iter().any(|(name, _)| name == "local.conf"));
    }
}
