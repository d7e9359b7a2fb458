//! Every haul of the fixtures, made by real Hauler binaries, is read as its JSON says.

// the helpers of tests may fail as tests do
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::fs;

use builder::haul::{self, Era};
use builder::progress::Silent;
use common::{Heard, fixtures, fixtures_named, tree};
use image_layout::catalog::{ArtifactKind, Catalog};
use image_layout::{Digest, oci::Descriptor};
use serde_json::Value;

/// All that must load.
fn good() -> Vec<(std::path::PathBuf, Value)> {
    let mut all = fixtures_named("hauler-");
    all.extend(fixtures_named("odd-"));
    all
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn digest(value: &Value) -> Digest {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn every_haul_gives_a_layout_that_holds_what_its_catalog_says_and_nothing_else() {
    for (path, _) in good() {
        let directory = tempfile::tempdir().unwrap();
        let loaded = haul::load(std::slice::from_ref(&path), directory.path(), &Silent)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut expected: BTreeSet<String> = ["catalog.json", "index.json", "oci-layout"]
            .map(str::to_owned)
            .into();
        expected.extend(
            loaded
                .catalog
                .blobs
                .iter()
                .map(|blob| blob.digest.blob_path()),
        );
        let files = tree(directory.path());
        let names: BTreeSet<String> = files.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, expected, "{}", path.display());
        for (name, contents) in &files {
            if name.starts_with("blobs/") {
                assert_eq!(Digest::sha256_of(contents).blob_path(), *name);
            }
        }
        let written = fs::read(directory.path().join("catalog.json")).unwrap();
        assert_eq!(
            serde_json::from_slice::<Catalog>(&written).unwrap(),
            loaded.catalog
        );
        assert!(loaded.newest > 1_700_000_000, "{}", path.display());
    }
}

#[test]
fn every_name_of_the_index_is_in_the_catalog_with_its_registry() {
    for (path, json) in good() {
        let Some(entries) = json["index_json"]["manifests"].as_array() else {
            continue;
        };
        let loaded = haul::inspect(std::slice::from_ref(&path), &Silent).unwrap();
        let expected: BTreeSet<(String, Digest)> = entries
            .iter()
            .filter(|entry| {
                let kind = entry["annotations"]["kind"].as_str().unwrap();
                kind.ends_with("/image") || kind.ends_with("/imageIndex")
            })
            .map(|entry| {
                let annotations = &entry["annotations"];
                let name = annotations["io.containerd.image.name"]
                    .as_str()
                    .or(annotations["org.opencontainers.image.ref.name"].as_str())
                    .unwrap();
                let name = name.strip_prefix("index.").unwrap_or(name);
                // what is known by its digest is called by the digest it has
                let (entry_digest, name) = (digest(&entry["digest"]), name.to_owned());
                match name.split_once('@') {
                    Some((name, _)) => (format!("{name}@{entry_digest}"), entry_digest),
                    None => (name, entry_digest),
                }
            })
            .collect();
        let found: BTreeSet<(String, Digest)> = loaded
            .catalog
            .artifacts
            .iter()
            .filter(|artifact| {
                !matches!(
                    artifact.kind,
                    ArtifactKind::Attached | ArtifactKind::Referrer
                )
            })
            .map(|artifact| (artifact.name(), artifact.digest))
            .collect();
        assert_eq!(found, expected, "{}", path.display());
    }
}

#[test]
fn all_that_hauler_serves_as_a_registry_is_in_the_catalog() {
    let mut tags = 0;
    for (path, json) in good() {
        let catalog = haul::inspect(std::slice::from_ref(&path), &Silent)
            .unwrap()
            .catalog;
        let has_manifest = |wanted: &Digest, media_type: &Value| {
            catalog.manifests.iter().any(|manifest| {
                manifest.digest == *wanted && *media_type == manifest.media_type.as_str()
            })
        };
        for (repository, served) in object(&json["served_registry"]["repositories"]) {
            for (tag, served) in object(&served["tags"]) {
                if served["status"] != 200 {
                    continue;
                }
                let wanted = digest(&served["digest"]);
                let found = catalog.artifacts.iter().any(|artifact| {
                    artifact.repository.as_str() == repository
                        && artifact.tag.as_ref().is_some_and(|t| t.as_str() == tag)
                        && artifact.digest == wanted
                });
                assert!(found, "{}: {repository}:{tag} {wanted}", path.display());
                assert!(
                    has_manifest(&wanted, &served["content_type"]),
                    "{repository}:{tag}"
                );
                for layer in served["layers"].as_array().into_iter().flatten() {
                    let wanted = digest(&layer["digest"]);
                    let size = layer["size"].as_u64().unwrap();
                    let found = catalog
                        .blobs
                        .iter()
                        .any(|blob| blob.digest == wanted && blob.size == size);
                    assert!(found, "{}: {repository}:{tag} {wanted}", path.display());
                }
                tags += 1;
            }
            for (revision, served) in object(&served["revisions"]) {
                if served["status"] == 200 {
                    let wanted = revision.parse().unwrap();
                    assert!(
                        has_manifest(&wanted, &served["content_type"]),
                        "{}: {repository}@{revision}",
                        path.display()
                    );
                    let entry = catalog
                        .manifests
                        .iter()
                        .find(|m| m.digest == wanted)
                        .unwrap();
                    if let Some(subject) = served["subject"].as_str() {
                        assert_eq!(entry.subject.unwrap().to_string(), subject);
                        assert_eq!(
                            entry.artifact_type.as_deref(),
                            served["artifactType"].as_str()
                        );
                    }
                }
            }
        }
    }
    assert!(tags > 100, "the fixtures have {tags} tags");
}

#[test]
fn every_file_and_chart_comes_back_under_its_own_name_with_its_digest() {
    let mut files = 0;
    for (path, json) in good() {
        let catalog = haul::inspect(std::slice::from_ref(&path), &Silent)
            .unwrap()
            .catalog;
        for (title, served) in object(&json["served_files"]["files"]) {
            let artifact = catalog
                .artifacts
                .iter()
                .find(|artifact| artifact.title.as_deref() == Some(title))
                .unwrap_or_else(|| panic!("{}: {title}", path.display()));
            let content = artifact.content.unwrap();
            assert_eq!(content.digest, digest(&served["sha256"]), "{title}");
            assert_eq!(content.size, served["size"].as_u64().unwrap(), "{title}");
            files += 1;
        }
    }
    assert!(files > 20, "the fixtures have {files} files");
}

#[test]
fn kinds_are_told_by_content() {
    let load = |case: &str| {
        let path = fixtures().join(format!("{case}.tar.zst"));
        haul::inspect(&[path], &Silent).unwrap().catalog
    };
    let names = |catalog: &Catalog, kind| {
        let names = catalog
            .of_kind(kind)
            .map(image_layout::catalog::Artifact::name);
        names.collect::<Vec<_>>()
    };
    let mixed = load("hauler-1.1.1-mixed-v1alpha1");
    assert_eq!(
        names(&mixed, ArtifactKind::Chart),
        ["hauler/hello-chart:0.1.0", "hauler/shop:1.2.3-build4"]
    );
    assert_eq!(names(&mixed, ArtifactKind::File).len(), 4);
    let rewritten = load("hauler-2.0.3-rewrite");
    assert_eq!(
        names(&rewritten, ArtifactKind::Chart),
        ["mycharts/renamed:9.9.9"]
    );
    let files = load("hauler-2.0.3-files");
    assert!(names(&files, ArtifactKind::File).contains(&"sub/dir/install.sh:latest".to_owned()));
    let ported = names(&mixed, ArtifactKind::Image);
    assert!(
        ported.contains(&"127.0.0.1:5055/ported/app:1".to_owned()),
        "{ported:?}"
    );

    let signed = load("hauler-2.0.3-signed");
    let of = "registry.lab.test/signed/app:sha256-\
        0d9c49e0bd388bae2603ce80f5b6a91c610a702e8d431acf364d7be6460e2ec8";
    assert_eq!(
        names(&signed, ArtifactKind::Attached),
        [".att", ".sbom", ".sig"].map(|suffix| format!("{of}{suffix}"))
    );
    assert_eq!(names(&signed, ArtifactKind::Referrer).len(), 2);

    let attested = load("hauler-2.0.3-attestation-index");
    let image = attested.of_kind(ArtifactKind::Image).next().unwrap();
    let platforms: Vec<_> = image.platforms.iter().map(ToString::to_string).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!(attested.manifests.len(), 5, "attestations are served too");
}

#[test]
fn a_name_by_a_digest_that_is_not_in_the_haul_is_warned_about() {
    let heard = Heard::default();
    let directory = tempfile::tempdir().unwrap();
    let path = fixtures().join("hauler-2.0.3-digest-refs.tar.zst");
    haul::load(&[path], directory.path(), &heard).unwrap();
    assert!(heard.has("library/hello@sha256:3c8fa950"), "{:?}", heard.0);
    assert_eq!(heard.0.borrow().len(), 1, "{:?}", heard.0);
}

#[test]
fn the_era_of_a_haul_is_told() {
    for (case, era) in [
        ("hauler-1.1.1-signed", Era::Hauler1),
        ("hauler-1.3.0-multiarch", Era::Hauler1),
        ("hauler-2.0.3-small", Era::Hauler2),
        ("hauler-2.1-dev-923a92d-multiarch", Era::Hauler21(None)),
    ] {
        let path = fixtures().join(format!("{case}.tar.zst"));
        assert_eq!(
            haul::inspect(&[path], &Silent).unwrap().eras,
            [era],
            "{case}"
        );
    }
}

#[test]
fn other_packings_of_the_same_content_give_the_same_layout() {
    let small = fixtures().join("hauler-2.0.3-small.tar.zst");
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("small.tar");
    let packed = directory.path().join("named-by-mistake.zip");
    let tar = zstd::decode_all(fs::File::open(&small).unwrap()).unwrap();
    fs::write(&plain, &tar).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut tar.as_slice(), &mut gzip).unwrap();
    fs::write(&packed, gzip.finish().unwrap()).unwrap();
    let expected = directory.path().join("expected");
    haul::extract(&[small], &expected, &Silent).unwrap();
    let mut hauls = vec![plain, packed, expected.clone()];
    hauls.extend(fixtures_named("odd-").into_iter().map(|(path, _)| path));
    for (number, path) in hauls.iter().enumerate() {
        let made = directory.path().join(format!("made-{number}"));
        haul::extract(std::slice::from_ref(path), &made, &Silent)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(tree(&made) == tree(&expected), "{}", path.display());
    }
}

#[test]
fn chunks_give_one_haul_from_any_of_them_and_from_all() {
    for case in ["hauler-2.0.3-chunked", "hauler-2.1-dev-923a92d-chunked"] {
        let mut chunks: Vec<_> = fs::read_dir(fixtures().join(case))
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        let from_all = haul::inspect(&chunks, &Silent).unwrap();
        assert_eq!(from_all.hauls[0].name, "haul.tar.zst");
        assert_eq!(from_all.hauls.len(), 1);
        for chunk in &chunks {
            let from_one = haul::inspect(std::slice::from_ref(chunk), &Silent).unwrap();
            assert_eq!(from_one, from_all, "{}", chunk.display());
        }
        // the last one is missing, which nothing but the archive's end can tell
        chunks.sort();
        let directory = tempfile::tempdir().unwrap();
        let first = directory.path().join(chunks[0].file_name().unwrap());
        fs::copy(&chunks[0], &first).unwrap();
        let error = haul::inspect(&[first], &Silent).unwrap_err();
        assert!(matches!(error, haul::HaulError::Truncated(_)), "{error}");
        assert!(error.help().contains("the last one"), "{:?}", error.help());
    }
}

#[test]
fn the_written_index_has_full_names_and_every_kind() {
    for (path, _) in good() {
        let directory = tempfile::tempdir().unwrap();
        haul::load(std::slice::from_ref(&path), directory.path(), &Silent).unwrap();
        let index: Value =
            serde_json::from_slice(&fs::read(directory.path().join("index.json")).unwrap())
                .unwrap();
        let entries: Vec<Descriptor> = serde_json::from_value(index["manifests"].clone()).unwrap();
        assert_eq!(index["schemaVersion"], 2);
        for entry in entries {
            assert!(entry.annotation("kind").is_some(), "{}", path.display());
            assert!(
                entry
                    .annotation("org.opencontainers.image.ref.name")
                    .is_some()
            );
            let name = entry
                .annotation("io.containerd.image.name")
                .unwrap_or_default();
            assert!(!name.starts_with("index.docker.io"), "{name}");
        }
    }
}
