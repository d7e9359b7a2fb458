//! What containerd 2.x sends: the transfer service's resolver, and its fetch in parallel chunks, each
//! an open-ended range of which a part is read before the connection is closed (containerd:
//! core/remotes/docker/resolver.go, fetcher.go; since 2.1 with `concurrent_layer_fetch_buffer`).
#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::fs;
use std::time::Duration;

use image_layout::Digest;
use image_layout::oci::Manifest;
use tests::raw::Raw;
use tests::serve::{Server, Transport};

const HAUL: &str = "hauler-2.0.3-mixed-v1";
const HOST: &str = "registry.lab.test";
const REPOSITORY: &str = "shop/db";
const TAG: &str = "11.4";
/// Bytes of a chunk; containerd's own are larger, as are the layers of images.
const CHUNK: usize = 16 << 10;
/// What it sends with every request.
const AGENT: (&str, &str) = ("User-Agent", "containerd/2.1.4");
/// What it would take; a server that encoded by it would be read wrongly by others.
const ENCODING: (&str, &str) = ("Accept-Encoding", "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5");
const ACCEPT: (&str, &str) = (
    "Accept",
    "application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*",
);

fn path(kind: &str, reference: &str) -> String {
    format!("/v2/{REPOSITORY}/{kind}/{reference}?ns={HOST}")
}

/// Every way of speaking to the registry.
fn each(test: impl Fn(&Server, &Raw)) {
    for transport in Transport::ALL {
        eprintln!("{transport}");
        let server = Server::with(HAUL, transport).unwrap();
        test(&server, &Raw::of(&server).unwrap());
    }
}

/// Resolves the tag: digest, type, size.
fn resolve(raw: &Raw) -> (Digest, String, usize) {
    let answer = raw
        .ask("HEAD", &path("manifests", TAG), &[AGENT, ACCEPT])
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let digest = answer.header("docker-content-digest").unwrap();
    let media_type = answer.header("content-type").unwrap().to_owned();
    (
        digest.parse().unwrap(),
        media_type,
        answer.length().unwrap(),
    )
}

/// Fetches something whole with the open-ended range that every fetch has when chunks are on.
fn fetch(raw: &Raw, kind: &str, digest: &Digest, media_type: &str) -> Vec<u8> {
    let accept = format!("{media_type}, */*");
    let headers = [AGENT, ENCODING, ("Accept", &accept), ("Range", "bytes=0-")];
    let answer = raw
        .ask("GET", &path(kind, &digest.to_string()), &headers)
        .unwrap();
    assert_eq!(answer.status, 206, "{answer:?}");
    let length = answer.length().unwrap();
    let range = format!("bytes 0-{}/{length}", length - 1);
    assert_eq!(answer.header("content-range"), Some(range.as_str()));
    assert_eq!(
        answer.header("docker-content-digest"),
        Some(digest.to_string().as_str())
    );
    assert_eq!(answer.header("content-encoding"), None);
    let body = answer.whole().unwrap();
    assert_eq!(Digest::sha256_of(&body), *digest);
    body
}

/// The image's largest layer: digest and bytes.
fn layer(raw: &Raw) -> (Digest, usize) {
    let (digest, media_type, _) = resolve(raw);
    let manifest = fetch(raw, "manifests", &digest, &media_type);
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    let largest = manifest
        .layers
        .iter()
        .max_by_key(|layer| layer.size)
        .unwrap();
    let size = usize::try_from(largest.size).unwrap();
    assert!(
        size > 4 * CHUNK,
        "a layer of {size} bytes has too few chunks"
    );
    (largest.digest, size)
}

/// Asks for a blob from an offset to its end.
fn from(raw: &Raw, digest: &Digest, offset: usize) -> tests::raw::Answer {
    let range = format!("bytes={offset}-");
    let headers = [AGENT, ENCODING, ("Accept", "*/*"), ("Range", &range)];
    let answer = raw
        .ask("GET", &path("blobs", &digest.to_string()), &headers)
        .unwrap();
    assert_eq!(answer.status, 206, "{answer:?}");
    answer
}

#[test]
fn a_tag_is_resolved_by_head_with_its_namespace_and_fetched_by_digest() {
    each(|_, raw| {
        let (digest, media_type, size) = resolve(raw);
        let answer = raw
            .ask("HEAD", &path("manifests", TAG), &[AGENT, ACCEPT])
            .unwrap();
        assert_eq!(answer.header("oci-namespace"), Some(HOST));
        let manifest = fetch(raw, "manifests", &digest, &media_type);
        assert_eq!(manifest.len(), size);
        let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
        let config = manifest.config.unwrap();
        fetch(
            raw,
            "blobs",
            &config.digest,
            "application/vnd.oci.image.config.v1+json",
        );
        let of_another = format!("/v2/{REPOSITORY}/manifests/{TAG}?ns=quay.io");
        let answer = raw.ask("HEAD", &of_another, &[AGENT, ACCEPT]).unwrap();
        assert_eq!(answer.status, 404);
    });
}

#[test]
fn chunks_that_close_their_connections_make_a_layer_and_leave_nothing_behind() {
    each(|server, raw| {
        let (digest, size) = layer(raw);
        let descriptors = || {
            let all = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
            all.count()
        };
        let before = descriptors();
        for _ in 0..4 {
            let mut whole = vec![0; size];
            std::thread::scope(|scope| {
                let chunks = whole.chunks_mut(CHUNK).zip((0..size).step_by(CHUNK));
                for (chunk, offset) in chunks {
                    let digest = &digest;
                    scope.spawn(move || {
                        let answer = from(raw, digest, offset);
                        assert_eq!(answer.length().unwrap(), size - offset);
                        chunk.copy_from_slice(&answer.read(chunk.len()).unwrap());
                    });
                }
            });
            assert_eq!(Digest::sha256_of(&whole), digest);
        }
        // the server learns of a closed connection when it writes to it: nothing tells when
        let mut after = descriptors();
        for _ in 0..100 {
            if after <= before {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            after = descriptors();
        }
        assert!(
            after <= before,
            "{before} descriptors before, {after} after"
        );
    });
}

#[test]
fn a_fetch_that_broke_off_goes_on_where_it_was() {
    each(|_, raw| {
        let (digest, size) = layer(raw);
        let half = size / 2 + 1;
        let mut whole = from(raw, &digest, 0).read(half).unwrap();
        let rest = from(raw, &digest, half);
        let range = format!("bytes {half}-{}/{size}", size - 1);
        assert_eq!(rest.header("content-range"), Some(range.as_str()));
        whole.extend(rest.whole().unwrap());
        assert_eq!(Digest::sha256_of(&whole), digest);
        let beyond = format!("bytes={size}-");
        let target = path("blobs", &digest.to_string());
        let answer = raw
            .ask("GET", &target, &[AGENT, ("Range", &beyond)])
            .unwrap();
        assert_eq!(answer.status, 416);
    });
}

#[test]
fn who_has_no_password_where_one_is_needed_is_asked_for_it_and_learns_nothing_else() {
    each(|server, raw| {
        for target in [
            "/v2/",
            &path("manifests", TAG),
            "/v2/no/such/manifests/1",
            "/",
            "/mirrors/k3s",
        ] {
            let answer = raw.stranger().ask("GET", target, &[AGENT]).unwrap();
            if !server.transport.users {
                assert_ne!(answer.status, 401, "{target}");
                continue;
            }
            assert_eq!(answer.status, 401, "{target}");
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.starts_with("Basic realm="), "{challenge}");
        }
    });
}
