//! Real clients against `agent serve`, told its address: by tag and by digest, images for one platform
//! and for several. `mirrors.rs` has those that know it as a mirror.
#![allow(clippy::unwrap_used)] // a failed step is a failed test

use image_layout::{Arch, Digest};
use tests::clients::{get, helm, skopeo};
use tests::enclave::Enclave;
use tests::podman::Podman;
use tests::serve::{Server, Transport};
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
fn podman_pulls_an_image_for_another_architecture_from_the_bare_path() {
    let enclave = Enclave::over(HAUL, Transport::HTTP).unwrap();
    let tree = enclave.mirror("podman").unwrap();
    let podman = Podman::new(&enclave, &tree).unwrap();
    for name in SEVERAL.names(&format!("{}/", enclave.server.address)) {
        let options = ["--tls-verify=false"];
        let digest = SEVERAL.digest();
        podman
            .pull_with(&options, &name, Arch::Arm64, &digest)
            .unwrap();
    }
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

#[test]
fn helm_pulls_a_chart_under_the_name_its_registry_gave_it() {
    let server = Server::over("hauler-2.1-dev-923a92d-mixed-v1").unwrap();
    let file = get(server.address, "/files/shop-1.2.3+build4.tgz").unwrap();
    assert_eq!(file.status, 200);
    for name in [
        "hauler/shop",
        "charts/shop",
        "registry.lab.test/charts/shop",
    ] {
        let pulled = helm(server.address, name, "1.2.3+build4").unwrap();
        assert_eq!(Digest::sha256_of(&file.body), pulled, "{name}");
    }
}
