//! Packs images, charts and files into a haul as Hauler 2.x writes them.
//!
//! Source of the format: Hauler `pkg/consts/consts.go`, `pkg/store/store.go`,
//! `cmd/hauler/cli/store/save.go`. The same contents give the same bytes: entries are sorted and
//! carry one fixed time.

use std::collections::BTreeMap;
use std::io::{self, Write};

use flate2::{Compression, GzBuilder};
use image_layout::oci::{annotation, media_type};
use image_layout::{Arch, Digest, Reference};
use serde::Serialize;
use serde_json::{Value, json};

/// Modification time of every entry, seconds since 1970: 2026-01-01.
const TIME: u64 = 1_767_225_600;
/// [`TIME`] as an image configuration writes it.
const TIME_RFC3339: &str = "2026-01-01T00:00:00Z";

const KIND_IMAGE: &str = "dev.hauler/image";
const KIND_IMAGE_INDEX: &str = "dev.hauler/imageIndex";

const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const IMAGE_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CHART_LAYER: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const FILE_CONFIG: &str = "application/vnd.content.hauler.file.local.config.v1+json";
const FILE_LAYER: &str = "application/vnd.content.hauler.file.layer.v1";

/// A file of an archive: path, permission bits, contents.
pub type FileEntry<'a> = (&'a str, u32, &'a [u8]);

/// An image of one platform.
#[derive(Debug)]
pub struct PlatformImage<'a> {
    /// What it runs on.
    pub arch: Arch,
    /// Files of its single layer.
    pub files: Vec<FileEntry<'a>>,
    /// What it runs.
    pub command: Vec<&'a str>,
}

/// An OCI content descriptor.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: Digest,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

/// A haul in the making.
#[derive(Debug, Default)]
pub struct HaulWriter {
    blobs: BTreeMap<Digest, Vec<u8>>,
    index: Vec<Descriptor>,
    docker_save: Vec<Value>,
}

impl HaulWriter {
    /// An empty haul.
    pub fn new() -> HaulWriter {
        HaulWriter::default()
    }

    /// Adds a multi-platform image under its full name; returns the digest of its index.
    pub fn image(
        &mut self,
        name: &Reference,
        platforms: &[PlatformImage<'_>],
    ) -> io::Result<Digest> {
        let mut children = Vec::new();
        for platform in platforms {
            let tar = tar_of(&platform.files)?;
            let diff_id = Digest::sha256_of(&tar);
            let layer = self.blob(IMAGE_LAYER, gzip(&tar)?);
            let config = self.json_blob(
                IMAGE_CONFIG,
                &json!({
                    "architecture": platform.arch.oci(),
                    "os": "linux",
                    "created": TIME_RFC3339,
                    "config": {"Entrypoint": platform.command},
                    "rootfs": {"type": "layers", "diff_ids": [diff_id]},
                    "history": [{"created": TIME_RFC3339, "created_by": "haulboot demo"}],
                }),
            );
            self.docker_save.push(json!({
                "Config": config.digest.blob_path(),
                "RepoTags": [familiar_name(name)],
                "Layers": [layer.digest.blob_path()],
            }));
            let mut child = self.json_blob(
                media_type::OCI_MANIFEST,
                &json!({
                    "schemaVersion": 2,
                    "mediaType": media_type::OCI_MANIFEST,
                    "config": config,
                    "layers": [layer],
                }),
            );
            child.platform = Some(json!({"architecture": platform.arch.oci(), "os": "linux"}));
            children.push(child);
        }
        let index = self.json_blob(
            media_type::OCI_INDEX,
            &json!({
                "schemaVersion": 2,
                "mediaType": media_type::OCI_INDEX,
                "manifests": children,
            }),
        );
        let full = name.to_string();
        let without_host = full
            .split_once('/')
            .map_or(full.as_str(), |(_host, rest)| rest);
        let annotations = BTreeMap::from([
            (annotation::KIND, KIND_IMAGE_INDEX.to_owned()),
            (annotation::REF_NAME, without_host.to_owned()),
            (annotation::IMAGE_NAME, full),
        ]);
        Ok(self.enter(index, annotations))
    }

    /// Adds a Helm chart; `files` lie below the chart's folder, `metadata` is `Chart.yaml` as JSON.
    /// Returns the digest of its manifest.
    pub fn chart(
        &mut self,
        name: &str,
        version: &str,
        metadata: &Value,
        files: &[FileEntry<'_>],
    ) -> io::Result<Digest> {
        let paths: Vec<String> = files
            .iter()
            .map(|(path, ..)| format!("{name}/{path}"))
            .collect();
        let inside: Vec<FileEntry<'_>> = files
            .iter()
            .zip(&paths)
            .map(|((_, mode, contents), path)| (path.as_str(), *mode, *contents))
            .collect();
        let archive = gzip(&tar_of(&inside)?)?;
        Ok(self.titled(
            (media_type::HELM_CONFIG, metadata),
            (CHART_LAYER, archive),
            &format!("{name}-{version}.tgz"),
            &format!("hauler/{name}:{version}"),
        ))
    }

    /// Adds a file as `hauler store add file` does; returns the digest of its manifest.
    pub fn file(&mut self, name: &str, contents: &[u8]) -> Digest {
        self.titled(
            (FILE_CONFIG, &json!({"reference": name})),
            (FILE_LAYER, contents.to_vec()),
            name,
            &format!("hauler/{}:latest", name.to_lowercase()),
        )
    }

    /// Writes the haul: a tar archive in one zstd frame.
    pub fn write(&self, output: impl Write) -> io::Result<()> {
        let mut compressed = zstd::Encoder::new(output, 3)?;
        compressed.include_checksum(true)?;
        let mut archive = tar::Builder::new(compressed);
        for folder in ["blobs/", "blobs/sha256/"] {
            append(&mut archive, folder, 0o755, tar::EntryType::Directory, &[])?;
        }
        let file = tar::EntryType::Regular;
        for (digest, contents) in &self.blobs {
            append(&mut archive, &digest.blob_path(), 0o644, file, contents)?;
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": self.index,
        });
        for (name, contents) in [
            ("index.json", index),
            ("manifest.json", Value::from(self.docker_save.clone())),
            ("oci-layout", json!({"imageLayoutVersion": "1.0.0"})),
        ] {
            let contents = contents.to_string();
            append(&mut archive, name, 0o644, file, contents.as_bytes())?;
        }
        archive.into_inner()?.finish()?.flush()
    }

    /// An artifact of one configuration and one titled layer: what charts and files are.
    fn titled(
        &mut self,
        (config_type, config): (&'static str, &Value),
        (layer_type, layer): (&'static str, Vec<u8>),
        title: &str,
        name: &str,
    ) -> Digest {
        let config = self.json_blob(config_type, config);
        let mut layer = self.blob(layer_type, layer);
        layer.annotations = BTreeMap::from([(annotation::TITLE, title.to_owned())]);
        let manifest = self.json_blob(
            media_type::OCI_MANIFEST,
            &json!({
                "schemaVersion": 2,
                "mediaType": media_type::OCI_MANIFEST,
                "config": config,
                "layers": [layer],
            }),
        );
        let annotations = BTreeMap::from([
            (annotation::KIND, KIND_IMAGE.to_owned()),
            (annotation::REF_NAME, name.to_owned()),
        ]);
        self.enter(manifest, annotations)
    }

    /// Puts a descriptor into the haul's index.
    fn enter(
        &mut self,
        descriptor: Descriptor,
        annotations: BTreeMap<&'static str, String>,
    ) -> Digest {
        let digest = descriptor.digest;
        self.index.push(Descriptor {
            annotations,
            ..descriptor
        });
        digest
    }

    fn json_blob(&mut self, media_type: &'static str, value: &Value) -> Descriptor {
        self.blob(media_type, value.to_string().into_bytes())
    }

    /// Keeps a blob.
    fn blob(&mut self, media_type: &'static str, contents: Vec<u8>) -> Descriptor {
        let digest = Digest::sha256_of(&contents);
        let size = contents.len();
        self.blobs.insert(digest, contents);
        Descriptor {
            media_type,
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// The name as `docker load` shows it: without Docker Hub's host and `library/`.
fn familiar_name(name: &Reference) -> String {
    let full = name.to_string();
    let short = full.strip_prefix("docker.io/").unwrap_or(&full);
    short.strip_prefix("library/").unwrap_or(short).to_owned()
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn tar_of(files: &[FileEntry<'_>]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, mode, contents) in files {
        append(&mut archive, path, *mode, tar::EntryType::Regular, contents)?;
    }
    archive.into_inner()
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &str,
    mode: u32,
    kind: tar::EntryType,
    contents: &[u8],
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(TIME);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(contents.len() as u64);
    header.set_cksum();
    archive.append(&header, contents)
}
