//! A layout with everything that is rare.

use std::path::Path;

use image_layout::Digest;
use image_layout::digest::Hasher;
use serde_json::{Value, json};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Bytes of the large blob.
pub(crate) const LARGE: usize = 3_000_001;

/// Bytes of a blob that fits into no socket's buffers.
pub(crate) const HUGE: u64 = 256 << 20;
/// The digest of so many zeros.
const HUGE_DIGEST: &str = "sha256:a6d72ac7690f53be6ae46ba88506bd97302a093f7108472bd9efc3cefda06484";

/// Contents of the large blob.
pub(crate) fn large() -> Vec<u8> {
    (0..LARGE).map(|i| (i % 253) as u8).collect()
}

/// What was written, by the names that tests use.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// An image for two platforms, `docker.io/library/app:1`; children in order.
    pub(crate) app: Digest,
    pub(crate) app_children: Vec<Digest>,
    /// `a.test/shop/db:1` and `b.test/shop/db:1`.
    pub(crate) db_a: Digest,
    pub(crate) db_b: Digest,
    /// `a.test/by/digest@sha512:...`.
    pub(crate) sha512: Digest,
    /// `a.test/docker/image:1`.
    pub(crate) docker: Digest,
    /// `a.test/hostile/types:1`.
    pub(crate) hostile: Digest,
    /// `h.test:5000/with/port:1`.
    pub(crate) port: Digest,
    /// `hauler/up:1.0.0-up2`.
    pub(crate) chart: Digest,
    /// An image of Docker Hub's of the same path and tag.
    pub(crate) hub_up: Digest,
    /// Refer to `db_a`: by its subject, with a type of its own; with its configuration's; listed
    /// by the fallback tag alone.
    pub(crate) referrer: Digest,
    pub(crate) referrer_by_config: Digest,
    pub(crate) referrer_by_tag: Digest,
    /// Refers to `sha512` by the fallback tag, which has half of its digits.
    pub(crate) referrer_by_short_tag: Digest,
    pub(crate) large: Digest,
    pub(crate) empty: Digest,
    /// Of [`HUGE`] bytes; a hole.
    pub(crate) huge: Digest,
    /// Contents of two files that are both called `Same.TXT`.
    pub(crate) same: [Digest; 2],
}

/// Writes a layout, one thing after another.
pub(crate) struct Writer<'a> {
    dir: &'a Path,
    /// The entries of `index.json`.
    pub(crate) entries: Vec<Value>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(dir: &'a Path) -> Writer<'a> {
        Writer {
            dir,
            entries: Vec::new(),
        }
    }

    /// Writes `index.json`.
    pub(crate) fn finish(self) {
        let index = json!({"schemaVersion": 2, "manifests": self.entries});
        let index = serde_json::to_vec(&index).unwrap();
        std::fs::write(self.dir.join("index.json"), index).unwrap();
    }

    pub(crate) fn blob_as(&self, digest: Digest, bytes: &[u8]) -> Digest {
        let path = self.dir.join(digest.blob_path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        digest
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> Digest {
        self.blob_as(Digest::sha256_of(bytes), bytes)
    }

    pub(crate) fn descriptor(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = self.blob(bytes);
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    pub(crate) fn image(&self, text: &str, more: Value) -> (Digest, Vec<u8>) {
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.descriptor(CONFIG, br#"{"os":"linux","architecture":"amd64"}"#),
            "layers": [self.descriptor(LAYER, text.as_bytes())],
        });
        for (key, value) in more.as_object().unwrap() {
            match value {
                Value::Null => manifest.as_object_mut().unwrap().remove(key),
                value => manifest
                    .as_object_mut()
                    .unwrap()
                    .insert(key.clone(), value.clone()),
            };
        }
        let bytes = serde_json::to_vec(&manifest).unwrap();
        (self.blob(&bytes), bytes)
    }

    pub(crate) fn name(
        &mut self,
        name: &str,
        kind: &str,
        media_type: &str,
        digest: Digest,
        size: usize,
    ) {
        let (_, short) = name.split_once('/').unwrap();
        self.entries.push(json!({
            "mediaType": media_type, "digest": digest, "size": size,
            "annotations": {
                "kind": format!("dev.hauler/{kind}"),
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": short,
            },
        }));
    }

    /// A blob of [`HUGE`] bytes; a hole.
    pub(crate) fn huge(&self) -> Digest {
        let huge = self.blob_as(HUGE_DIGEST.parse().unwrap(), b"");
        std::fs::File::options()
            .write(true)
            .open(self.dir.join(huge.blob_path()))
            .and_then(|file| file.set_len(HUGE))
            .unwrap();
        huge
    }

    /// An image under a name.
    pub(crate) fn named(&mut self, name: &str, text: &str, more: Value) -> Digest {
        let (digest, bytes) = self.image(text, more);
        self.name(name, "image", OCI_MANIFEST, digest, bytes.len());
        digest
    }

    /// A chart or file under Hauler's name.
    pub(crate) fn content(
        &mut self,
        name: &str,
        config: (&str, &str),
        title: &str,
        text: &str,
    ) -> [Digest; 2] {
        let layer = self.descriptor("application/octet-stream", text.as_bytes());
        let digest = self.content_of(name, config, title, layer);
        [digest, Digest::sha256_of(text.as_bytes())]
    }

    /// The same of a layer that is there.
    pub(crate) fn content_of(
        &mut self,
        name: &str,
        config: (&str, &str),
        title: &str,
        mut layer: Value,
    ) -> Digest {
        layer["annotations"] = json!({"org.opencontainers.image.title": title});
        let config = self.descriptor(config.0, config.1.as_bytes());
        let (digest, bytes) = self.image(name, json!({"config": config, "layers": [layer]}));
        self.entries.push(json!({
            "mediaType": OCI_MANIFEST, "digest": digest, "size": bytes.len(),
            "annotations": {
                "kind": "dev.hauler/image", "org.opencontainers.image.ref.name": name,
            },
        }));
        digest
    }
}

/// Writes the layout.
pub(crate) fn write(dir: &Path) -> Written {
    let mut writer = Writer::new(dir);
    let large_blob = writer.descriptor(LAYER, &large());
    let empty_blob = writer.descriptor(LAYER, b"");

    let children = ["amd64", "arm64"].map(|arch| (arch, writer.image(arch, json!({}))));
    let manifests: Vec<_> = children
        .iter()
        .map(|(arch, (digest, bytes))| {
            json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": bytes.len(),
                   "platform": {"os": "linux", "architecture": arch}})
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    let index = serde_json::to_vec(&index).unwrap();
    let app = writer.blob(&index);
    for tag in ["1", "B", "a", "c", "d"] {
        let name = format!("index.docker.io/library/app:{tag}");
        writer.name(&name, "imageIndex", OCI_INDEX, app, index.len());
    }

    let db_a = writer.named("a.test/shop/db:1", "of a", json!({}));
    let db_b = writer.named("b.test/shop/db:1", "of b", json!({}));
    writer.named("a.test/shop/db:only-a", "only a", json!({}));
    writer.named("a.test/a/blobs/b:1", "awkward", json!({}));
    let port = writer.named("h.test:5000/with/port:1", "port", json!({}));
    let layers = json!({"layers": [large_blob, empty_blob]});
    writer.named("a.test/big/image:1", "", layers);
    let huge = writer.huge();
    let layers = json!({"layers": [{"mediaType": LAYER, "digest": huge, "size": HUGE}]});
    writer.named("a.test/huge/image:1", "", layers);
    let docker = writer.named(
        "a.test/docker/image:1",
        "docker",
        json!({"mediaType": DOCKER_MANIFEST}),
    );
    let hostile = writer.named(
        "a.test/hostile/types:1",
        "hostile",
        json!({"mediaType": "text/html\r\nSet-Cookie: a=b",
               "annotations": {"<script>": "alert(1)\r\nX: y"}}),
    );

    let (_, bytes) = writer.image("long digest", json!({}));
    let mut hasher = Hasher::like(&Digest::Sha512([0; 64]));
    hasher.update(&bytes);
    let sha512 = writer.blob_as(hasher.finish(), &bytes);
    let name = format!("a.test/by/digest@{sha512}");
    writer.name(&name, "image", OCI_MANIFEST, sha512, bytes.len());

    let subject = json!({"mediaType": OCI_MANIFEST, "digest": db_a, "size": 1});
    let (referrer, bytes) = writer.image(
        "sbom",
        json!({"subject": subject, "artifactType": "application/spdx+json",
               "annotations": {"made.by": "test"}}),
    );
    writer.name(
        "a.test/shop/db:1",
        "referrers/x",
        OCI_MANIFEST,
        referrer,
        bytes.len(),
    );
    let (referrer_by_config, bytes) =
        writer.image("other", json!({"subject": subject, "artifactType": ""}));
    writer.name(
        "a.test/shop/db:1",
        "referrers/y",
        OCI_MANIFEST,
        referrer_by_config,
        bytes.len(),
    );
    let (referrer_by_tag, bytes) = writer.image("fallback", json!({"artifactType": "x/fallback"}));
    let fallback = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": referrer_by_tag, "size": bytes.len()}]});
    let fallback = serde_json::to_vec(&fallback).unwrap();
    let digest = writer.blob(&fallback);
    let name = format!("a.test/shop/db:sha256-{}", db_a.hex());
    writer.name(&name, "imageIndex", OCI_INDEX, digest, fallback.len());

    let (referrer_by_short_tag, bytes) = writer.image("short", json!({"artifactType": "x/short"}));
    let fallback = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": referrer_by_short_tag, "size": bytes.len()}]});
    let fallback = serde_json::to_vec(&fallback).unwrap();
    let digest = writer.blob(&fallback);
    let name = format!("a.test/by/digest:sha512-{}", &sha512.hex()[..64]);
    writer.name(&name, "imageIndex", OCI_INDEX, digest, fallback.len());

    let helm = "application/vnd.cncf.helm.config.v1+json";
    let config = (helm, r#"{"name":"up","version":"1.0.0+up2"}"#);
    let [chart, _] = writer.content("hauler/up:1.0.0-up2", config, "up-1.0.0+up2.tgz", "chart");
    let hub_up = writer.named("docker.io/hauler/up:1.0.0-up2", "an image", json!({}));
    let file = (
        "application/vnd.content.hauler.file.local.config.v1+json",
        "{}",
    );
    let [_, one] = writer.content("hauler/same.txt:latest", file, "Same.TXT", "one");
    let [_, two] = writer.content("other/same.txt:latest", file, "Same.TXT", "two");
    // of the same name to Hauler, which writes it in lower case
    writer.content("hauler/same.txt:latest", file, "SAME.txt", "three");
    let title = "../../etc/passwd\r\nX: y";
    writer.content("hauler/traversal:latest", file, title, "never");
    let title = "sub/<b>\"evil\"&'.html";
    writer.content(
        "hauler/evil:latest",
        file,
        title,
        "<script>alert(1)</script>",
    );

    writer.finish();
    Written {
        app,
        app_children: children.iter().map(|(_, (digest, _))| *digest).collect(),
        db_a,
        db_b,
        sha512,
        docker,
        hostile,
        port,
        chart,
        hub_up,
        referrer,
        referrer_by_config,
        referrer_by_tag,
        referrer_by_short_tag,
        large: Digest::sha256_of(&large()),
        empty: Digest::sha256_of(b""),
        huge,
        same: [one, two],
    }
}
