//! `agent serve` over every haul of the fixtures: by plain requests, and by skopeo and helm.
//!
//! Needs the packages skopeo and the program that `tests/tools.sh` gets.
#![allow(clippy::unwrap_used, clippy::panic)] // a failed step is a failed test

use std::collections::BTreeSet;

use image_layout::oci::Manifest;
use image_layout::{Digest, Reference};
use serde::Deserialize;
use tests::clients::{fetch, get, helm, skopeo};
use tests::fixtures::{self, Fixture};
use tests::serve::Server;

/// The name under which an image is asked for with its host; a port's colon can't be in a path.
fn with_host(reference: &Reference) -> String {
    let host = reference.host.as_str().replace(':', "_");
    format!("{host}/{}", reference.repository)
}

fn each(test: impl Fn(&Fixture, &Server)) {
    for name in fixtures::names().unwrap() {
        let fixture = fixtures::load(&name).unwrap();
        let server = Server::over(&name).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        test(&fixture, &server);
    }
}

/// Fetches a manifest by digest, and below it every blob that the haul has.
fn walk(server: &Server, repository: &str, digest: &Digest, seen: &mut BTreeSet<Digest>) {
    if !seen.insert(*digest) {
        return;
    }
    let path = format!("/v2/{repository}/manifests/{digest}");
    let answer = get(server.address, &path).unwrap();
    assert_eq!(answer.status, 200, "{path}");
    assert_eq!(Digest::sha256_of(&answer.body), *digest, "{path}");
    let manifest: Manifest = serde_json::from_slice(&answer.body).unwrap();
    for blob in manifest.config.iter().chain(&manifest.layers) {
        let path = format!("/v2/{repository}/blobs/{}", blob.digest);
        fetch(server.address, &path, &blob.digest).unwrap();
    }
    for child in manifest.manifests.unwrap_or_default() {
        walk(server, repository, &child.digest, seen);
    }
}

#[test]
fn every_image_is_served_by_tag_and_digest_in_each_of_the_three_ways() {
    each(|fixture, server| {
        for image in &fixture.images {
            let Reference {
                host,
                repository,
                tag,
                ..
            } = &image.reference;
            let digest = &image.digest;
            let reference = tag
                .as_ref()
                .map_or_else(|| digest.to_string(), |tag| tag.to_string());
            let prefixed = with_host(&image.reference);
            for path in [
                format!("/v2/{repository}/manifests/{reference}?ns={host}"),
                format!("/v2/{prefixed}/manifests/{reference}"),
                format!("/v2/{prefixed}/manifests/{digest}"),
            ] {
                fetch(server.address, &path, digest)
                    .unwrap_or_else(|error| panic!("{}: {error:#}", fixture.name));
            }
            walk(server, &prefixed, digest, &mut BTreeSet::new());
        }
    });
}

#[test]
fn whatever_hauler_serves_is_served_alike_where_hauler_is_right() {
    each(|fixture, server| {
        for tag in &fixture.tags {
            let name = (tag.repository.as_str(), tag.tag.as_str());
            if fixture.defects().contains(&name) {
                continue;
            }
            let path = format!("/v2/{}/manifests/{}", tag.repository, tag.tag);
            fetch(server.address, &path, &tag.digest)
                .unwrap_or_else(|error| panic!("{}: {error:#}", fixture.name));
            let answer = ureq::head(format!("http://{}{path}", server.address))
                .call()
                .unwrap();
            let header = |name: &str| answer.headers().get(name).unwrap().to_str().unwrap();
            assert_eq!(header("content-type"), tag.media_type, "{path}");
            assert_eq!(header("content-length"), tag.size.to_string(), "{path}");
            assert_eq!(header("docker-content-digest"), tag.digest.to_string());
        }
        for (repository, digest, media_type) in &fixture.revisions {
            let path = format!("/v2/{repository}/manifests/{digest}");
            fetch(server.address, &path, digest)
                .unwrap_or_else(|error| panic!("{}: {error:#}", fixture.name));
            let answer = ureq::get(format!("http://{}{path}", server.address))
                .call()
                .unwrap();
            assert_eq!(answer.headers().get("content-type").unwrap(), media_type);
        }
    });
}

#[test]
fn of_two_images_of_one_name_from_two_registries_none_is_lost() {
    let server = Server::over("hauler-2.0.3-name-collision").unwrap();
    let fixture = fixtures::load("hauler-2.0.3-name-collision").unwrap();
    let of_host = |host: &str| {
        fixture
            .images
            .iter()
            .find(|i| {
                i.reference.host.as_str() == host
                    && i.reference.repository.as_str() == "library/hello"
            })
            .unwrap()
            .digest
    };
    for (path, host) in [
        ("/v2/library/hello/manifests/1", "docker.io"),
        ("/v2/docker.io/library/hello/manifests/1", "docker.io"),
        (
            "/v2/library/hello/manifests/1?ns=registry-1.docker.io",
            "docker.io",
        ),
        (
            "/v2/library/hello/manifests/1?ns=127.0.0.1:5056",
            "127.0.0.1:5056",
        ),
        (
            "/v2/127.0.0.1_5056/library/hello/manifests/1",
            "127.0.0.1:5056",
        ),
    ] {
        fetch(server.address, path, &of_host(host)).unwrap();
    }
}

#[test]
fn every_file_and_chart_comes_back_under_its_name_with_its_digest() {
    #[derive(Deserialize)]
    struct Listing {
        files: Vec<Listed>,
    }
    #[derive(Deserialize)]
    struct Listed {
        name: String,
        url: String,
        digest: Digest,
    }
    each(|fixture, server| {
        let listing = get(server.address, "/files/?format=json").unwrap();
        let listing: Listing = serde_json::from_slice(&listing.body).unwrap();
        let listed: BTreeSet<_> = listing
            .files
            .iter()
            .map(|file| (file.name.clone(), file.digest))
            .collect();
        let files = fixture.files.iter().map(|f| (f.name.clone(), f.digest));
        let charts = fixture.charts.iter().map(|c| (c.archive.clone(), c.digest));
        let expected: BTreeSet<_> = files.chain(charts).collect();
        assert_eq!(listed, expected, "{}", fixture.name);
        for file in &listing.files {
            fetch(server.address, &file.url, &file.digest).unwrap();
        }
    });
}

#[test]
fn signatures_and_referrers_are_found_where_clients_look() {
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<Listed>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Listed {
        digest: Digest,
        artifact_type: String,
    }
    let server = Server::over("hauler-2.0.3-signed").unwrap();
    let fixture = fixtures::load("hauler-2.0.3-signed").unwrap();
    let image = &fixture.images[0];
    let repository = with_host(&image.reference);
    let cosign: Vec<_> = fixture
        .tags
        .iter()
        .filter(|tag| tag.tag.starts_with("sha256-"))
        .collect();
    assert_eq!(cosign.len(), 3);
    for tag in cosign {
        let path = format!("/v2/{repository}/manifests/{}", tag.tag);
        fetch(server.address, &path, &tag.digest).unwrap();
    }
    let referrers = |query: &str| {
        let path = format!("/v2/{repository}/referrers/{}{query}", image.digest);
        let answer = get(server.address, &path).unwrap();
        assert_eq!(answer.status, 200);
        let index: Index = serde_json::from_slice(&answer.body).unwrap();
        index.manifests
    };
    let all = referrers("");
    assert_eq!(all.len(), 2);
    for referrer in all {
        walk(&server, &repository, &referrer.digest, &mut BTreeSet::new());
        let only = referrers(&format!("?artifactType={}", referrer.artifact_type));
        assert_eq!(only.len(), 1);
        assert_eq!(only[0].digest, referrer.digest);
    }
}

#[test]
fn skopeo_copies_every_image_of_every_haul_by_tag_and_by_digest() {
    each(|fixture, server| {
        for image in &fixture.images {
            let name = with_host(&image.reference);
            let digest = image.digest;
            let tag = image.reference.tag.as_ref();
            let tagged = tag.map(|tag| format!("{name}:{tag}"));
            for name in tagged.into_iter().chain([format!("{name}@{digest}")]) {
                let copied = skopeo(server.address, &name)
                    .unwrap_or_else(|error| panic!("{}: {error:#}", fixture.name));
                assert_eq!(copied, digest, "{}: {name}", fixture.name);
            }
        }
    });
}

#[test]
fn helm_pulls_every_chart_of_every_haul_by_its_own_version() {
    each(|fixture, server| {
        for chart in &fixture.charts {
            // the true version is in the archive's name: shop-1.2.3+build4.tgz
            let version = match chart.archive.split_once('+') {
                Some((_, build)) => {
                    let build = build.trim_end_matches(".tgz");
                    let stem = chart.tag.strip_suffix(&format!("-{build}")).unwrap();
                    format!("{stem}+{build}")
                }
                None => chart.tag.clone(),
            };
            let digest = helm(server.address, &chart.repository, &version)
                .unwrap_or_else(|error| panic!("{}: {error:#}", fixture.name));
            assert_eq!(digest, chart.digest, "{}: {chart:?}", fixture.name);
        }
    });
}
