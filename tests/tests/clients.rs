//! Real clients against `agent serve`: podman and containerd, by tag and by digest, images for one
//! platform and for several, by every way into the registry.
#![allow(clippy::unwrap_used)] // a failed step is a failed test

use image_layout::{Arch, Digest};
use tests::clients::{get, helm, skopeo};
use tests::containerd::Containerd;
use tests::podman::Podman;
use tests::serve::Server;
use tests::served::Served;

/// A haul with images from several registries, charts and files.
const HAUL: &str = "hauler-2.0.3-mixed-v1";
/// An image for two platforms.
const SEVERAL: Image = Image {
    host: "docker.io",
    repository: "library/hello",
    tag: "1",
};
/// An image for one.
const SINGLE: Image = Image {
    host: "registry.lab.test",
    repository: "shop/db",
    tag: "11.4",
};

struct Image {
    host: &'static str,
    repository: &'static str,
    tag: &'static str,
}

impl Image {
    /// By tag and by digest, after `prefix`.
    fn names(&self, prefix: &str) -> [String; 2] {
        let Image {
            repository, tag, ..
        } = self;
        let digest = self.digest();
        [
            format!("{prefix}{repository}:{tag}"),
            format!("{prefix}{repository}@{digest}"),
        ]
    }

    /// As the fixture's facts say.
    fn digest(&self) -> Digest {
        let served = Served::of(&[HAUL.to_owned()]).unwrap();
        let known = served
            .tags
            .into_iter()
            .find(|(repository, tag, _)| repository == self.repository && tag == self.tag);
        known.unwrap().2
    }
}

#[test]
fn podman_pulls_by_tag_and_by_digest_through_a_mirror_with_the_host_in_its_path() {
    let server = Server::over(HAUL).unwrap();
    let podman = Podman::new(server.address, &[SEVERAL.host, SINGLE.host]).unwrap();
    for image in [SEVERAL, SINGLE] {
        for name in image.names(&format!("{}/", image.host)) {
            podman.pull(&name, Arch::X86_64, &image.digest()).unwrap();
        }
    }
}

#[test]
fn podman_pulls_an_image_for_another_architecture_from_the_bare_path() {
    let server = Server::over(HAUL).unwrap();
    let podman = Podman::new(server.address, &[]).unwrap();
    for name in SEVERAL.names(&format!("{}/", server.address)) {
        podman.pull(&name, Arch::Arm64, &SEVERAL.digest()).unwrap();
    }
}

#[test]
fn containerd_pulls_by_tag_and_by_digest_with_the_namespace_in_the_query() {
    let server = Server::over(HAUL).unwrap();
    let containerd = Containerd::start(server.address).unwrap();
    for image in [SEVERAL, SINGLE] {
        for name in image.names(&format!("{}/", image.host)) {
            containerd.pull(&name, &image.digest()).unwrap();
        }
    }
}

#[test]
fn containerd_is_refused_what_the_haul_has_from_another_registry() {
    let server = Server::over(HAUL).unwrap();
    let containerd = Containerd::start(server.address).unwrap();
    let refused = containerd.pull("quay.io/library/hello:1", &SEVERAL.digest());
    let words = format!("{:#}", refused.unwrap_err());
    assert!(words.contains("not found"), "{words}");
}

#[test]
fn skopeo_pulls_from_the_bare_path_and_under_the_host() {
    let server = Server::over(HAUL).unwrap();
    for image in [SEVERAL, SINGLE] {
        let under_host = format!("{}/", image.host);
        for name in [image.names(""), image.names(&under_host)].concat() {
            let arrived = skopeo(server.address, &name).unwrap();
            assert_eq!(arrived, image.digest(), "{name}");
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
