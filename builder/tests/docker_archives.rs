//! Archives of `docker save` in its old form, among them those of k3s's releases.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use builder::haul::{Era, HaulError, Loaded, load};
use builder::progress::Silent;
use common::{Haul, Heard, tar};
use image_layout::Digest;
use image_layout::catalog::Artifact;
use serde_json::{Value, json};

const PAUSE: &str = "rancher/mirrored-pause:3.6";

/// Files of an archive, in the order of Docker: `manifest.json` last.
type Files = Vec<(String, Vec<u8>)>;

/// An image's files: a configuration and layers of these contents, each in a directory.
fn image(files: &mut Files, arch: &str, names: &Value, layers: &[&[u8]]) -> Value {
    let digests: Vec<String> = layers
        .iter()
        .map(|layer| Digest::sha256_of(layer).to_string())
        .collect();
    let config = json!({"architecture": arch, "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": digests}});
    let config = serde_json::to_vec(&config).unwrap();
    let config_name = format!("{}.json", Digest::sha256_of(&config).hex());
    let mut named = Vec::new();
    for layer in layers {
        let id = Digest::sha256_of(layer).hex();
        files.push((format!("{id}/VERSION"), b"1.0".to_vec()));
        files.push((format!("{id}/json"), b"{}".to_vec()));
        files.push((format!("{id}/layer.tar"), layer.to_vec()));
        named.push(format!("{id}/layer.tar"));
    }
    files.push((config_name.clone(), config));
    json!({"Config": config_name, "RepoTags": names, "Layers": named})
}

fn with_manifest(mut files: Files, images: &[Value]) -> Files {
    files.push(("manifest.json".into(), serde_json::to_vec(images).unwrap()));
    files.push(("repositories".into(), b"{}".to_vec()));
    files
}

/// One image named as k3s's pause image.
fn pause(arch: &str) -> Files {
    let mut files = Vec::new();
    let pause = image(
        &mut files,
        arch,
        &json!([PAUSE]),
        &[b"layer one", arch.as_bytes()],
    );
    with_manifest(files, &[pause])
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn loaded(hauls: &[PathBuf]) -> (Loaded, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let loaded = load(hauls, &directory.path().join("layout"), &Silent).unwrap();
    (loaded, directory)
}

fn refused(files: &Files) -> HaulError {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), "images.tar", &tar(files));
    let layout = directory.path().join("layout");
    let error = load(&[path], &layout, &Silent).unwrap_err();
    assert!(!layout.exists(), "something stays behind");
    assert!(!error.help().is_empty());
    error
}

fn named<'a>(loaded: &'a Loaded, name: &str) -> &'a Artifact {
    let mut artifacts = loaded.catalog.artifacts.iter();
    artifacts
        .find(|artifact| artifact.name() == name)
        .unwrap_or_else(|| panic!("{name} is not there: {:?}", loaded.catalog.artifacts))
}

#[test]
fn an_image_of_an_airgap_archive_is_served_by_its_name_for_its_platform() {
    let directory = tempfile::tempdir().unwrap();
    let plain = tar(&pause("arm64"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut seen = Vec::new();
    for (name, bytes) in [
        ("k3s-airgap-images-arm64.tar", plain.clone()),
        ("k3s-airgap-images-arm64.tar.gz", gzip.finish().unwrap()),
        (
            "k3s-airgap-images-arm64.tar.zst",
            zstd::encode_all(&plain[..], 1).unwrap(),
        ),
    ] {
        let heard = Heard::default();
        let layout = directory.path().join(format!("{name}.layout"));
        let path = write(directory.path(), name, &bytes);
        let loaded = load(&[path], &layout, &heard).unwrap();
        assert_eq!(loaded.eras, [Era::DockerArchive]);
        assert!(heard.0.borrow().is_empty(), "{:?}", heard.0);
        let pause = named(&loaded, "docker.io/rancher/mirrored-pause:3.6");
        let platforms: Vec<String> = pause.platforms.iter().map(ToString::to_string).collect();
        assert_eq!(platforms, ["linux/arm64"]);
        assert_eq!(loaded.catalog.blobs.len(), 4);
        for blob in &loaded.catalog.blobs {
            let bytes = fs::read(layout.join(blob.digest.blob_path())).unwrap();
            assert_eq!(Digest::sha256_of(&bytes), blob.digest);
        }
        let manifest = fs::read(layout.join(pause.digest.blob_path())).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let layer = "application/vnd.docker.image.rootfs.diff.tar";
        assert_eq!(manifest["layers"][1]["mediaType"], layer);
        assert_eq!(
            manifest["layers"][1]["digest"],
            Digest::sha256_of(b"arm64").to_string()
        );
        let mut left: Vec<_> = fs::read_dir(&layout)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["blobs", "catalog.json", "index.json", "oci-layout"]);
        seen.push(fs::read(layout.join("index.json")).unwrap());
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn several_names_no_name_shared_and_packed_layers_are_understood() {
    let mut files = Vec::new();
    let first = image(
        &mut files,
        "amd64",
        &json!(["a:1", "quay.io/b/c:2"]),
        &[b"shared"],
    );
    let nameless = image(&mut files, "amd64", &Value::Null, &[b"nameless"]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"unpacked").unwrap();
    let mut third = image(
        &mut files,
        "amd64",
        &json!(["d:1"]),
        &[b"unpacked", b"shared"],
    );
    files.push(("layer.tar.gz".into(), packed.finish().unwrap()));
    third["Layers"][0] = "layer.tar.gz".into();
    // as skopeo has it: a link to the layer of another image
    third["Layers"][1] = "linked/layer.tar".into();
    let files = with_manifest(files, &[first, nameless, third]);
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    let target = format!("../{}/layer.tar", Digest::sha256_of(b"shared").hex());
    builder
        .append_link(&mut header, "linked/layer.tar", &target)
        .unwrap();
    let links = builder.into_inner().unwrap();
    let archive = [&links[..512], &tar(&files)].concat();

    let directory = tempfile::tempdir().unwrap();
    let (loaded, layout) = loaded(&[write(directory.path(), "a.tar", &archive)]);
    let first = named(&loaded, "docker.io/library/a:1");
    assert_eq!(first.digest, named(&loaded, "quay.io/b/c:2").digest);
    let third = named(&loaded, "docker.io/library/d:1");
    let path = layout.path().join("layout").join(third.digest.blob_path());
    let manifest: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert!(
        manifest["layers"][0]["mediaType"]
            .as_str()
            .unwrap()
            .ends_with(".tar.gzip")
    );
    assert_eq!(
        manifest["layers"][1]["digest"],
        Digest::sha256_of(b"shared").to_string()
    );
    assert_eq!(loaded.catalog.manifests.len(), 3);
}

#[test]
fn an_airgap_archive_and_a_haul_are_served_together() {
    let directory = tempfile::tempdir().unwrap();
    let mut haul = Haul::default();
    haul.image("docker.io/library/a:1", b"layer");
    let (loaded, _layout) = loaded(&[
        haul.write(directory.path(), "haul.tar"),
        write(directory.path(), "images.tar", &tar(&pause("amd64"))),
    ]);
    named(&loaded, "docker.io/library/a:1");
    named(&loaded, "docker.io/rancher/mirrored-pause:3.6");
    let names: Vec<_> = loaded.hauls.iter().map(|haul| haul.name.as_str()).collect();
    assert_eq!(names, ["haul.tar", "images.tar"]);
}

#[test]
fn what_is_incomplete_or_contradicts_itself_is_refused_with_the_place() {
    let without = |wanted: &dyn Fn(&str) -> bool| {
        let mut files = pause("amd64");
        files.retain(|(name, _)| !wanted(name));
        files
    };
    let changed = |wanted: &dyn Fn(&str) -> bool, contents: &[u8]| {
        let mut files = pause("amd64");
        let file = files.iter_mut().find(|(name, _)| wanted(name));
        file.unwrap().1 = contents.to_vec();
        files
    };
    let config = |name: &str| name.len() == 64 + 5 && name.ends_with(".json");
    let layer = |name: &str| name.ends_with("/layer.tar");
    let manifest = |name: &str| name == "manifest.json";
    for (files, said) in [
        (
            without(&config),
            "manifest.json names it, and it is not there",
        ),
        (without(&layer), "layer.tar: manifest.json names it"),
        (changed(&config, b"{}"), "its digest is"),
        (
            changed(&layer, b"another"),
            "layer.tar is damaged: its digest is",
        ),
        (changed(&manifest, b"[]"), "names no image"),
        (changed(&manifest, b"{}"), "can't be understood"),
        (
            changed(&manifest, b"[{\"Config\": 1}]"),
            "can't be understood",
        ),
        (
            changed(&manifest, b"[{\"Config\": \"../../etc/passwd\"}]"),
            "and it is not there",
        ),
    ] {
        let error = refused(&files).to_string();
        assert!(error.contains(said), "{said}: {error}");
    }

    let mut files = Vec::new();
    let mut image = image(&mut files, "amd64", &json!(["a:1"]), &[b"one", b"two"]);
    image["Layers"].as_array_mut().unwrap().pop();
    let error = refused(&with_manifest(files.clone(), &[image.clone()]));
    assert!(
        error
            .to_string()
            .contains("it has 2 layers, manifest.json 1"),
        "{error}"
    );
    files.push(("config.json".into(), b"no json".to_vec()));
    image["Config"] = "config.json".into();
    let error = refused(&with_manifest(files, &[image]));
    assert!(
        error.to_string().contains("no image's configuration"),
        "{error}"
    );
}

#[test]
fn an_archive_that_was_cut_off_is_noticed_wherever_it_was_cut() {
    let directory = tempfile::tempdir().unwrap();
    let whole = tar(&pause("amd64"));
    for length in (1..whole.len() - 1024).step_by(500) {
        let path = write(directory.path(), "cut.tar", &whole[..length]);
        let layout = directory.path().join("layout");
        let error = load(&[path], &layout, &Silent).unwrap_err();
        assert!(!layout.exists());
        assert!(
            matches!(
                error,
                HaulError::Truncated(_) | HaulError::NotAnArchive { .. }
            ),
            "{length}: {error}"
        );
    }
}

#[test]
fn names_that_are_none_are_warned_about_and_links_that_lead_out_lead_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let hostile = image(&mut files, "amd64", &json!(["../x y\u{1b}[2J:1"]), &[b"x"]);
    let path = write(
        directory.path(),
        "a.tar",
        &tar(&with_manifest(files, &[hostile])),
    );
    let (loaded, _layout) = loaded(&[path]);
    assert!(loaded.catalog.artifacts.is_empty());
    let warning = &loaded.catalog.warnings[0];
    assert!(
        warning.contains("no name that a client can ask for"),
        "{warning}"
    );
    assert!(!warning.contains('\u{1b}'), "{warning:?}");

    for target in ["/etc/passwd", "../../etc/passwd", "layer.tar"] {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder
            .append_link(&mut header, "x/layer.tar", target)
            .unwrap();
        let link = builder.into_inner().unwrap();
        let mut files = Vec::new();
        let mut image = image(&mut files, "amd64", &json!(["a:1"]), &[b"x"]);
        image["Layers"][0] = "x/layer.tar".into();
        let archive = [&link[..512], &tar(&with_manifest(files, &[image]))].concat();
        let path = write(directory.path(), "links.tar", &archive);
        let error = load(&[path], &directory.path().join("layout"), &Silent).unwrap_err();
        assert!(matches!(error, HaulError::Docker { .. }), "{error}");
    }
}

#[test]
fn archives_for_two_platforms_are_joined_and_a_newer_one_replaces_its_own_platform_only() {
    let directory = tempfile::tempdir().unwrap();
    let archive = |name: &str, files: &Files| write(directory.path(), name, &tar(files));
    let amd64 = archive("amd64.tar", &pause("amd64"));
    let arm64 = archive("arm64.tar", &pause("arm64"));
    let platforms = |loaded: &Loaded| -> Vec<String> {
        let pause = named(loaded, "docker.io/rancher/mirrored-pause:3.6");
        pause.platforms.iter().map(ToString::to_string).collect()
    };
    let (both, layout) = loaded(&[amd64.clone(), arm64.clone()]);
    assert_eq!(platforms(&both), ["linux/amd64", "linux/arm64"]);
    assert!(
        both.catalog.warnings.is_empty(),
        "{:?}",
        both.catalog.warnings
    );
    let pause_image = named(&both, "docker.io/rancher/mirrored-pause:3.6");
    let path = layout
        .path()
        .join("layout")
        .join(pause_image.digest.blob_path());
    let index: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(index["manifests"][1]["platform"]["architecture"], "arm64");
    let (turned, _layout) = loaded(&[arm64.clone(), amd64.clone()]);
    let turned = named(&turned, "docker.io/rancher/mirrored-pause:3.6");
    assert_eq!(turned.digest, pause_image.digest);

    let mut files = Vec::new();
    let newer = image(&mut files, "amd64", &json!([PAUSE]), &[b"newer"]);
    let newer = archive("newer.tar", &with_manifest(files, &[newer]));
    let (all, _layout) = loaded(&[amd64, arm64, newer]);
    assert_eq!(platforms(&all), ["linux/amd64", "linux/arm64"]);
    let warnings = &all.catalog.warnings;
    assert!(warnings[0].contains("of amd64.tar"), "{warnings:?}");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(all.unneeded.count > 0);
}
