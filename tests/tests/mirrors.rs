//! Real programs read the files that the registry writes for them, and pull by names that say
//! nothing of it: by tag and by digest, over HTTP and HTTPS, with users and without. Needs root.
#![allow(clippy::unwrap_used)] // a failed step is a failed test

use image_layout::{Arch, Digest};
use tests::containerd::Containerd;
use tests::dockerd::Dockerd;
use tests::enclave::Enclave;
use tests::podman::Podman;
use tests::serve::{BASIC, Transport};
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
/// An image of a registry with a port, which can't stand in a path as it is.
const PORTED: Image = Image {
    host: "127.0.0.1:5055",
    repository: "ported/app",
    tag: "1",
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
            format!("{prefix}/{repository}:{tag}"),
            format!("{prefix}/{repository}@{digest}"),
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

/// Every way of speaking to the registry.
fn each(test: impl Fn(&Enclave)) {
    for transport in Transport::ALL {
        eprintln!("{transport}");
        test(&Enclave::over(HAUL, transport).unwrap());
    }
}

#[test]
fn containerd_pulls_what_its_hosts_toml_gives_it_and_nothing_of_another_registry() {
    let containerd = Containerd::start().unwrap();
    each(|enclave| {
        let tree = enclave.mirror("containerd").unwrap();
        for image in [SEVERAL, SINGLE, PORTED] {
            let digest = image.digest();
            for name in image.names(image.host) {
                containerd.pull(enclave, &tree, &name, &digest).unwrap();
            }
        }
        let other = "quay.io/library/hello:1";
        let refused = containerd.pull(enclave, &tree, other, &SEVERAL.digest());
        let words = format!("{:#}", refused.unwrap_err());
        assert!(words.contains("not found"), "{words}");
    });
}

#[test]
fn podman_pulls_by_its_registries_conf() {
    each(|enclave| {
        let tree = enclave.mirror("podman").unwrap();
        let podman = Podman::new(enclave, &tree).unwrap();
        for image in [SEVERAL, SINGLE, PORTED] {
            for name in image.names(image.host) {
                podman.pull(&name, Arch::X86_64, &image.digest()).unwrap();
            }
        }
        let [name, _] = SEVERAL.names(SEVERAL.host);
        podman.pull(&name, Arch::Arm64, &SEVERAL.digest()).unwrap();
    });
}

#[test]
fn skopeo_copies_by_the_registries_conf_of_podman() {
    each(|enclave| {
        let tree = enclave.mirror("podman").unwrap();
        for image in [SEVERAL, SINGLE, PORTED] {
            for name in image.names(image.host) {
                let arrived = enclave.skopeo(&tree, &name).unwrap();
                assert_eq!(arrived, image.digest(), "{name}");
            }
        }
    });
}

#[test]
fn dockerd_pulls_docker_hubs_images_through_its_mirror_and_others_by_the_registrys_name() {
    each(|enclave| {
        let tree = enclave.mirror("docker").unwrap();
        let dockerd = Dockerd::start(enclave, &tree).unwrap();
        let under = |host: &str| format!("{}/{host}", enclave.server.address);
        for (image, prefix) in [
            (SEVERAL, SEVERAL.host.to_owned()),
            (SINGLE, under(SINGLE.host)),
            (PORTED, under("127.0.0.1_5055")),
        ] {
            for name in image.names(&prefix) {
                let digests = dockerd.pull(&name).unwrap();
                let digest = image.digest().to_string();
                assert!(digests.contains(&digest), "{name}: {digests}");
            }
        }
    });
}

#[test]
fn helm_pulls_a_chart_and_curl_a_file_with_the_same_digest() {
    each(|enclave| {
        let pulled = enclave.helm("hauler/hello-chart", "0.1.0").unwrap();
        let file = enclave.fetch("/files/hello-chart-0.1.0.tgz").unwrap();
        assert_eq!(Digest::sha256_of(&file), pulled);
    });
}

#[test]
fn the_authoritys_certificate_is_served_and_no_file_has_a_password() {
    each(|enclave| {
        let transport = enclave.server.transport;
        let ca = enclave.server.ca();
        let ca = ca.map(|path| std::fs::read(path).unwrap());
        assert_eq!(enclave.fetch("/mirrors/ca.crt").ok(), ca);
        for runtime in [
            "containerd",
            "cri-o",
            "docker",
            "k3s",
            "podman",
            "rke2",
            "talos",
        ] {
            let text = enclave.fetch(&format!("/mirrors/{runtime}")).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert_eq!(text.contains("REPLACE-WITH-"), transport.users, "{text}");
            assert!(!text.contains(BASIC), "{text}");
            if runtime != "podman" && runtime != "cri-o" {
                assert!(text.contains(&enclave.server.url()), "{text}");
            }
            let certificate = text.contains("BEGIN CERTIFICATE");
            assert_eq!(certificate, transport.tls, "{runtime}: {text}");
        }
    });
}
