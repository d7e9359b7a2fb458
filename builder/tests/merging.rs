//! Several hauls in one layout, and hauls of other tools.

// the helpers of tests may fail as tests do
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;

use builder::haul::{self, Era, HaulError, Loaded};
use builder::progress::Silent;
use common::{Haul, Heard, fixtures, fixtures_named, tar, tree};
use image_layout::Digest;
use image_layout::catalog::{Artifact, ArtifactKind};
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn named<'a>(loaded: &'a Loaded, name: &str) -> &'a Artifact {
    let artifacts = &loaded.catalog.artifacts;
    artifacts
        .iter()
        .find(|artifact| artifact.name() == name)
        .unwrap_or_else(|| panic!("no {name} in {artifacts:#?}"))
}

fn index(layout: &Path) -> Value {
    serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap()
}

#[test]
fn of_two_hauls_with_one_name_the_later_wins_with_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let (mut old, mut new) = (Haul::default(), Haul::default());
    old.image("docker.io/library/a:1", b"old layer");
    let kept = old.image("docker.io/library/kept:1", b"shared layer");
    let digest = new.image("docker.io/library/a:1", b"new layer");
    new.image("docker.io/library/b:1", b"shared layer");
    let old = old.write(directory.path(), "old.tar");
    let new = new.write(directory.path(), "new.tar");
    let layout = directory.path().join("layout");
    let heard = Heard::default();
    let loaded = haul::load(&[old.clone(), new.clone()], &layout, &heard).unwrap();
    assert_eq!(named(&loaded, "docker.io/library/a:1").digest, digest);
    assert_eq!(named(&loaded, "docker.io/library/kept:1").digest, kept);
    assert!(
        heard.has("docker.io/library/a:1 of old.tar"),
        "{:?}",
        heard.0
    );
    assert!(heard.has("new.tar has another"), "{:?}", heard.0);
    // what only the old one needed is gone: its manifest and its layer
    assert_eq!(loaded.unneeded.count, 2);
    assert!(
        !layout
            .join(Digest::sha256_of(b"old layer").blob_path())
            .exists()
    );
    assert!(
        layout
            .join(Digest::sha256_of(b"shared layer").blob_path())
            .exists()
    );
    let names: Vec<_> = loaded.hauls.iter().map(|haul| haul.name.as_str()).collect();
    assert_eq!(names, ["old.tar", "new.tar"]);
    // the same haul twice is one haul
    let once = haul::inspect(&[old.clone(), old], &Silent).unwrap();
    assert_eq!((once.hauls.len(), once.catalog.warnings.len()), (1, 0));
}

#[test]
fn an_image_for_one_platform_and_its_index_replace_each_other_over_hauls() {
    let case = |name: &str| fixtures().join(format!("hauler-{name}.tar.zst"));
    let (one, all) = (case("1.2.5-platform-amd64"), case("2.0.3-multiarch"));
    let loaded = haul::inspect(&[one.clone(), all.clone()], &Silent).unwrap();
    let platforms = |loaded: &Loaded| named(loaded, "docker.io/library/hello:1").platforms.len();
    assert_eq!(platforms(&loaded), 2);
    let loaded = haul::inspect(&[all, one], &Silent).unwrap();
    assert_eq!(platforms(&loaded), 1);
    assert!(
        loaded
            .catalog
            .warnings
            .iter()
            .any(|w| w.contains("docker.io/library/hello:1"))
    );
}

#[test]
fn a_haul_may_rest_on_the_blobs_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let mut base = Haul::default();
    base.image("docker.io/library/a:1", b"layer");
    let mut update = Haul::default();
    update.image("docker.io/library/a:2", b"layer");
    update.files.retain(|(_, contents)| contents != b"layer");
    let base = base.write(directory.path(), "base.tar");
    let update = update.write(directory.path(), "update.tar");
    let loaded = haul::inspect(&[update.clone(), base], &Silent).unwrap();
    assert_eq!(loaded.catalog.of_kind(ArtifactKind::Image).count(), 2);
    let error = haul::inspect(&[update], &Silent).unwrap_err();
    assert!(matches!(error, HaulError::Catalog { .. }));
    let text = error.to_string();
    for word in [
        "update.tar",
        "docker.io/library/a:2",
        &Digest::sha256_of(b"layer").to_string(),
    ] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn signatures_stay_with_the_image_they_were_made_for() {
    let signed = fixtures().join("hauler-2.0.3-signed.tar.zst");
    let directory = tempfile::tempdir().unwrap();
    let mut other = Haul::default();
    other.image(
        "registry.lab.test/signed/app:1.0",
        b"another image of that name",
    );
    let other = other.write(directory.path(), "other.tar");
    let loaded = haul::inspect(&[signed, other], &Silent).unwrap();
    let attached: Vec<_> = loaded.catalog.of_kind(ArtifactKind::Attached).collect();
    assert_eq!(attached.len(), 3);
    for artifact in attached {
        assert!(
            artifact.name().contains(":sha256-0d9c49e0bd388bae"),
            "{}",
            artifact.name()
        );
    }
}

#[test]
fn all_fixtures_together_make_one_layout_that_reads_back_as_itself() {
    let hauls: Vec<_> = fixtures_named("hauler-")
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (
        directory.path().join("first"),
        directory.path().join("second"),
    );
    let loaded = haul::extract(&hauls, &first, &Silent).unwrap();
    let again = haul::extract(std::slice::from_ref(&first), &second, &Silent).unwrap();
    assert_eq!(again.catalog.artifacts, loaded.catalog.artifacts);
    assert_eq!(again.catalog.blobs, loaded.catalog.blobs);
    let without_catalog = |directory: &Path| {
        let mut files = tree(directory);
        // warnings about what was replaced are not repeated
        files.retain(|(name, _)| name != "catalog.json");
        files
    };
    assert!(without_catalog(&first) == without_catalog(&second));
}

#[test]
fn the_order_of_the_index_changes_nothing() {
    let mut one = Haul::default();
    one.image("docker.io/library/a:1", b"a");
    one.image("quay.io/b/b:1", b"b");
    let mut other = Haul::default();
    other.image("quay.io/b/b:1", b"b");
    other.image("docker.io/library/a:1", b"a");
    let directory = tempfile::tempdir().unwrap();
    let layouts = [(&one, "one"), (&other, "other")].map(|(haul, name)| {
        let path = haul.write(directory.path(), &format!("{name}.tar"));
        let layout = directory.path().join(name);
        haul::extract(&[path], &layout, &Silent).unwrap();
        tree(&layout)
    });
    assert!(layouts[0] == layouts[1]);
}

#[test]
fn the_complete_index_goes_before_the_one_reduced_for_containerd() {
    let mut haul = Haul::default();
    haul.image("docker.io/library/a:1", b"a");
    let mut files = haul.finished();
    let (name, _) = files.last_mut().unwrap();
    *name = "hauler-index.json".into();
    files.insert(
        0,
        (
            "index.json".into(),
            br#"{"schemaVersion":2,"manifests":[]}"#.to_vec(),
        ),
    );
    files.push((
        "store.json".into(),
        br#"{"store-id":"x","hauler-version":"v2.1.2"}"#.to_vec(),
    ));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("haul.tar");
    fs::write(&path, tar(&files)).unwrap();
    let loaded = haul::inspect(&[path], &Silent).unwrap();
    assert_eq!(loaded.catalog.artifacts.len(), 1);
    assert_eq!(loaded.eras, [Era::Hauler21(Some("2.1.2".into()))]);
    assert_eq!(loaded.eras[0].to_string(), "Hauler 2.1.2");
}

#[test]
fn images_from_before_hauler_kept_hosts_come_from_docker_hub() {
    let mut haul = Haul::default();
    haul.image("docker.io/library/a:1", b"a");
    let mut files = haul.finished();
    let (_, index) = files.last_mut().unwrap();
    let mut json: Value = serde_json::from_slice(index).unwrap();
    let annotations = json["manifests"][0]["annotations"].as_object_mut().unwrap();
    annotations.remove("io.containerd.image.name").unwrap();
    annotations.insert("kind".into(), "dev.cosignproject.cosign/image".into());
    *index = serde_json::to_vec(&json).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("haul.tar");
    fs::write(&path, tar(&files)).unwrap();
    let layout = directory.path().join("layout");
    let loaded = haul::load(&[path], &layout, &Silent).unwrap();
    named(&loaded, "docker.io/library/a:1");
    assert_eq!(loaded.eras, [Era::Hauler1]);
    let annotations = &index_annotations(&layout)[0];
    assert_eq!(
        annotations["io.containerd.image.name"],
        "docker.io/library/a:1"
    );
    assert_eq!(annotations["kind"], "dev.cosignproject.cosign/image");
}

fn index_annotations(layout: &Path) -> Vec<Value> {
    let index = index(layout);
    let entries = index["manifests"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| entry["annotations"].clone())
        .collect()
}

#[test]
fn archives_of_docker_and_podman_are_hauls() {
    for (annotations, name) in [
        // docker save since 25: the tag alone, and containerd's full name
        (
            json!({"io.containerd.image.name": "docker.io/library/a:1",
            "org.opencontainers.image.ref.name": "1"}),
            "docker.io/library/a:1",
        ),
        // podman save --format oci-archive
        (
            json!({"org.opencontainers.image.ref.name": "quay.io/b/a:2"}),
            "quay.io/b/a:2",
        ),
    ] {
        let mut haul = Haul::default();
        let digest = haul.image("docker.io/x/y:1", b"layer");
        let size = haul.files.last().unwrap().1.len();
        let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": MANIFEST,
            "digest": digest.to_string(), "size": size, "annotations": annotations}]});
        let mut files = haul.files;
        files.push(("index.json".into(), serde_json::to_vec(&index).unwrap()));
        files.push(("repositories".into(), b"{}".to_vec()));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.tar");
        fs::write(&path, tar(&files)).unwrap();
        let layout = directory.path().join("layout");
        let heard = Heard::default();
        let loaded = haul::load(&[path], &layout, &heard).unwrap();
        assert_eq!(named(&loaded, name).digest, digest);
        assert_eq!(loaded.eras, [Era::OciLayout]);
        assert!(heard.0.borrow().is_empty(), "{:?}", heard.0);
        let annotations = &index_annotations(&layout)[0];
        let (_, without_host) = name.split_once('/').unwrap();
        assert_eq!(
            annotations["org.opencontainers.image.ref.name"],
            without_host
        );
        assert_eq!(annotations["kind"], "dev.hauler/image");
    }
}

/// A file as Hauler stores it.
fn add_file(haul: &mut Haul, title: &str, ref_name: &str, contents: &[u8]) {
    let config = br#"{"reference":"x"}"#;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.content.hauler.file.local.config.v1+json",
            "digest": haul.blob(config).to_string(), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.content.hauler.file.layer.v1",
            "digest": haul.blob(contents).to_string(), "size": contents.len(),
            "annotations": {"org.opencontainers.image.title": title}}],
    }))
    .unwrap();
    haul.blob(&manifest);
    haul.entry(
        &manifest,
        &[
            ("kind", "dev.hauler/image"),
            ("org.opencontainers.image.ref.name", ref_name),
        ],
    );
}

#[test]
fn files_whose_names_no_registry_knows_are_not_lost() {
    let mut haul = Haul::default();
    add_file(&mut haul, ".bashrc", "hauler/.bashrc:latest", b"alias");
    add_file(
        &mut haul,
        "README.TXT",
        "hauler/readme.txt:latest",
        b"read me",
    );
    add_file(
        &mut haul,
        "../../etc/passwd",
        "hauler/passwd:latest",
        b"root",
    );
    let directory = tempfile::tempdir().unwrap();
    let path = haul.write(directory.path(), "haul.tar");
    let loaded = haul::inspect(&[path], &Silent).unwrap();
    let files: Vec<_> = loaded.catalog.of_kind(ArtifactKind::File).collect();
    assert_eq!(files.len(), 3);
    let titled = |title: &str| {
        files
            .iter()
            .find(|file| file.title.as_deref() == Some(title))
    };
    assert_eq!(
        titled("README.TXT").unwrap().name(),
        "hauler/readme.txt:latest"
    );
    let odd = titled(".bashrc").unwrap();
    assert!(odd.name().starts_with("hauler/bashrc-"), "{}", odd.name());
    let climbing = named(&loaded, "hauler/passwd:latest");
    assert_eq!(climbing.title, None);
    assert_eq!(
        loaded.catalog.warnings.len(),
        2,
        "{:?}",
        loaded.catalog.warnings
    );
}

#[test]
fn a_part_that_was_left_out_is_a_warning_as_long_as_one_is_there() {
    let mut haul = Haul::default();
    let there = haul.image("docker.io/x/there:1", b"layer");
    let size = haul.files.last().unwrap().1.len();
    let gone = Digest::sha256_of(b"never added");
    let platform = |arch: &str| json!({"os": "linux", "architecture": arch});
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [
        {"mediaType": MANIFEST, "digest": there.to_string(), "size": size, "platform": platform("amd64")},
        {"mediaType": MANIFEST, "digest": gone.to_string(), "size": 5, "platform": platform("arm64")},
    ]}))
    .unwrap();
    haul.blob(&index);
    haul.entry(
        &index,
        &[
            ("kind", "dev.hauler/imageIndex"),
            ("io.containerd.image.name", "docker.io/x/multi:1"),
            ("org.opencontainers.image.ref.name", "x/multi:1"),
        ],
    );
    let directory = tempfile::tempdir().unwrap();
    let path = haul.write(directory.path(), "haul.tar");
    let loaded = haul::inspect(&[path], &Silent).unwrap();
    let platforms = &named(&loaded, "docker.io/x/multi:1").platforms;
    assert_eq!(platforms.len(), 1);
    assert_eq!(
        loaded.catalog.warnings,
        ["docker.io/x/multi:1 comes without its part for linux/arm64"]
    );
}
