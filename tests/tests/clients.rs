//! Real clients against `agent serve`: podman and containerd, by tag and by digest, images for one
//! platform and for several, by every way into the registry.
#![allow(clippy::unwrap_used)] // a failed step is a failed test

use image_layout::{Arch, Digest};
use tests::clients::{get, helm, skopeo};
use tests::containerd::Containerd;
use tests::podman::Podman;
use tests::serve::Server;
use tests::served::Served;

/// Has an image for two platforms, one for a single platform, charts and files.
const HAUL: &str = "hauler-2.0.3-mixed-v1";
const SEVERAL: (&str, &str) = ("library/hello", "1");
const SINGLE: (&str, &str) = ("rancher/mirrored-pause", "3.10.2");

fn digest_of(image: (&str, &str)) -> Digest {
    let served = Served::of(&[HAUL.to_owned()]).unwrap();
    served
        .tags
        .into_iter()
        .find(|(repository, tag, _)| (repository.as_str(), tag.as_str()) == image)
        .unwrap_or_else(|| unreachable!("the haul has {image:?}"))
        .2
}

#[test]
fn podman_pulls_by_tag_and_by_digest_through_a_mirror_with_the_host_in_its_path() {
    let server = Server::over(HAUL).unwrap();
    for image in [SEVERAL, SINGLE] {
        let digest = digest_of(image);
        let podman = Podman::new(server.address).unwrap();
        let (repository, tag) = image;
        for name in [
            format!("docker.io/{repository}:{tag}"),
            format!("docker.io/{repository}@{digest}"),
        ] {
            podman.pull(&name, Arch::X86_64, &digest).unwrap();
        }
    }
}

#[test]
fn podman_pulls_an_image_for_another_architecture_from_the_bare_path() {
    let server = Server::over(HAUL).unwrap();
    let podman = Podman::new(server.address).unwrap();
    let (repository, tag) = SEVERAL;
    let name = format!("{}/{repository}:{tag}", server.address);
    podman
        .pull(&name, Arch::Arm64, &digest_of(SEVERAL))
        .unwrap();
}

#[test]
fn containerd_pulls_by_tag_and_by_digest_with_the_namespace_in_the_query() {
    let server = Server::over(HAUL).unwrap();
    let containerd = Containerd::start(server.address).unwrap();
    for image in [SEVERAL, SINGLE] {
        let digest = digest_of(image);
        let (repository, tag) = image;
        for name in [
            format!("docker.io/{repository}:{tag}"),
            format!("docker.io/{repository}@{digest}"),
        ] {
            containerd.pull(&name, &digest).unwrap();
        }
    }
}

#[test]
fn containerd_is_refused_what_the_haul_has_from_another_registry() {
    let server = Server::over(HAUL).unwrap();
    let containerd = Containerd::start(server.address).unwrap();
    let refused = containerd.pull("quay.io/library/hello:1", &digest_of(SEVERAL));
    assert!(format!("{:#}", refused.unwrap_err()).contains("not found"));
}

#[test]
fn skopeo_pulls_from_the_bare_path_and_under_the_host() {
    let server = Server::over(HAUL).unwrap();
    for image in [SEVERAL, SINGLE] {
        let digest = digest_of(image);
        let (repository, tag) = image;
        for name in [
            format!("{repository}:{tag}"),
            format!("{repository}@{digest}"),
            format!("docker.io/{repository}:{tag}"),
            format!("docker.io/{repository}@{digest}"),
        ] {
            assert_eq!(skopeo(server.address, &name).unwrap(), digest, "{name}");
        }
    }
}

#[test]
fn helm_pulls_a_chart_and_its_archive_is_the_one_under_files() {
    let server = Server::over(HAUL).unwrap();
    let pulled = helm(server.address, "hauler/hello-chart", "0.1.0").unwrap();
    let file = get(server.address, "/files/hello-chart-0.1.0.tgz").unwrap();
    assert_eq!(file.status, 200);
    assert_eq!(Digest::sha256_of(&file.body), pulled);
}
