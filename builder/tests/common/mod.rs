//! Hauls for tests: the fixtures, and small ones made to be wrong.

// each test program uses a part of it
#![allow(dead_code, unreachable_pub)]

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use builder::progress::Progress;
use image_layout::Digest;
use serde_json::Value;

/// `tests/fixtures/hauls`.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hauls")
}

/// Everything in the fixtures that begins so: path of the haul, its JSON.
pub fn fixtures_named(prefix: &str) -> Vec<(PathBuf, Value)> {
    let mut found = Vec::new();
    for file in fs::read_dir(fixtures()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let Some(case) = name.strip_suffix(".json") else {
            continue;
        };
        if !case.starts_with(prefix) {
            continue;
        }
        let json = serde_json::from_slice(&fs::read(fixtures().join(&name)).unwrap()).unwrap();
        let archive = fixtures().join(format!("{case}.tar.zst"));
        let chunks = fixtures().join(case);
        let haul = if archive.exists() {
            archive
        } else {
            let mut files: Vec<_> = fs::read_dir(chunks).unwrap().collect();
            files.sort_by_key(|file| file.as_ref().unwrap().file_name());
            files.remove(0).unwrap().path()
        };
        found.push((haul, json));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!found.is_empty(), "no fixtures {prefix}*");
    found
}

/// Remembers warnings.
#[derive(Default)]
pub struct Heard(pub RefCell<Vec<String>>);

impl Heard {
    /// Whether a warning has such words.
    pub fn has(&self, words: &str) -> bool {
        self.0
            .borrow()
            .iter()
            .any(|warning| warning.contains(words))
    }
}

impl Progress for Heard {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn end(&self, _: &str) {}
    fn warn(&self, warning: &str) {
        self.0.borrow_mut().push(warning.to_owned());
    }
}

/// A haul to be put together.
#[derive(Default)]
pub struct Haul {
    /// Entries of the archive: name, contents.
    pub files: Vec<(String, Vec<u8>)>,
    entries: Vec<Value>,
}

impl Haul {
    /// Adds a blob; returns its digest.
    pub fn blob(&mut self, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256_of(bytes);
        self.files.push((digest.blob_path(), bytes.to_vec()));
        digest
    }

    /// Adds an image of one layer under a full name, as Hauler 2.1 does; returns its digest.
    pub fn image(&mut self, name: &str, layer: &[u8]) -> Digest {
        let config = br#"{"architecture":"amd64","os":"linux"}"#;
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": self.blob(config).to_string(), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": self.blob(layer).to_string(), "size": layer.len()}],
        });
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let digest = self.blob(&manifest);
        let (_, without_host) = name.split_once('/').unwrap();
        self.entry(
            &manifest,
            &[
                ("kind", "dev.hauler/image"),
                ("io.containerd.image.name", name),
                ("org.opencontainers.image.ref.name", without_host),
            ],
        );
        digest
    }

    /// Names a manifest that was added as a blob.
    pub fn entry(&mut self, manifest: &[u8], annotations: &[(&str, &str)]) {
        let annotations: serde_json::Map<_, _> = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Value::from(*value)))
            .collect();
        self.entries.push(serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::sha256_of(manifest).to_string(),
            "size": manifest.len(),
            "annotations": annotations,
        }));
    }

    /// The files with `index.json` last.
    pub fn finished(&self) -> Vec<(String, Vec<u8>)> {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": self.entries});
        let mut files = self.files.clone();
        files.push(("index.json".into(), serde_json::to_vec(&index).unwrap()));
        files
    }

    /// A plain tar archive.
    pub fn tar(&self) -> Vec<u8> {
        tar(&self.finished())
    }

    /// Writes the archive into `directory`.
    pub fn write(&self, directory: &Path, name: &str) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, self.tar()).unwrap();
        path
    }
}

/// Packs files.
pub fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, contents) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(contents.len() as u64);
        header.set_mtime(1_700_000_000);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, contents.as_slice())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// Every file below a directory: relative path and contents, sorted.
pub fn tree(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for file in fs::read_dir(next).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path
                    .strip_prefix(directory)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}
