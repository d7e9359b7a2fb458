//! Manifests and blobs: OCI distribution-spec "Pulling manifests", "Pulling blobs"; RFC 9110.

use image_layout::Digest;

use crate::client::{Answer, get, head, request};
use crate::layout::{DOCKER_MANIFEST, LARGE, OCI_INDEX, OCI_MANIFEST, large};
use crate::server::serve;

#[track_caller]
fn has(answer: &Answer, digest: &Digest, media_type: &str) {
    assert_eq!(answer.status, 200);
    let named = digest.to_string();
    assert_eq!(answer.header("docker-content-digest"), Some(named.as_str()));
    assert_eq!(answer.header("content-type"), Some(media_type));
    assert_eq!(answer.header("etag"), Some(format!("\"{named}\"").as_str()));
    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
}

#[test]
fn ping_answers_with_and_without_slash_by_get_and_head() {
    let served = serve();
    for path in ["/v2/", "/v2"] {
        for method in ["GET", "HEAD"] {
            let answer = request(served.at, method, path, &[]);
            assert_eq!(answer.status, 200, "{method} {path}");
            let version = answer.header("docker-distribution-api-version");
            assert_eq!(version, Some("registry/2.0"));
            assert_eq!(answer.header("content-length"), Some("2"));
            // else containers/image asks for signatures that are not there
            assert_eq!(answer.header("x-registry-supports-signatures"), None);
        }
    }
}

#[test]
fn a_manifest_has_its_own_type_length_and_digest_by_get_and_head() {
    let served = serve();
    let written = &served.written;
    for (name, reference, digest, media_type) in [
        ("library/app", "1", written.app, OCI_INDEX),
        ("a.test/docker/image", "1", written.docker, DOCKER_MANIFEST),
        ("hauler/up", "1.0.0-up2", written.chart, OCI_MANIFEST),
    ] {
        for (reference, lifetime) in [
            (reference.to_owned(), "no-cache"),
            (digest.to_string(), "max-age=31536000, immutable"),
            (
                digest.to_string().replace(':', "%3A"),
                "max-age=31536000, immutable",
            ),
        ] {
            let path = format!("/v2/{name}/manifests/{reference}");
            let got = get(served.at, &path);
            has(&got, &digest, media_type);
            assert_eq!(got.header("cache-control"), Some(lifetime));
            assert_eq!(Digest::sha256_of(&got.body), digest);
            let headed = head(served.at, &path);
            has(&headed, &digest, media_type);
            assert_eq!(
                headed.header("content-length"),
                got.header("content-length")
            );
        }
    }
}

#[test]
fn what_a_client_accepts_changes_nothing() {
    let served = serve();
    let path = "/v2/library/app/manifests/1";
    for headers in [
        &[(
            "Accept",
            "application/vnd.docker.distribution.manifest.v2+json",
        )][..],
        &[("Accept", "text/plain"), ("Accept-Encoding", "gzip, zstd")],
    ] {
        has(
            &request(served.at, "GET", path, headers),
            &served.written.app,
            OCI_INDEX,
        );
    }
}

#[test]
fn children_of_an_index_and_a_sha512_manifest_are_served_by_digest() {
    let served = serve();
    for child in &served.written.app_children {
        let answer = get(served.at, &format!("/v2/library/app/manifests/{child}"));
        has(&answer, child, OCI_MANIFEST);
    }
    let digest = served.written.sha512;
    let answer = get(
        served.at,
        &format!("/v2/a.test/by/digest/manifests/{digest}"),
    );
    has(&answer, &digest, OCI_MANIFEST);
}

#[test]
fn a_hostile_media_type_is_replaced_by_what_the_manifest_is() {
    let served = serve();
    let answer = get(served.at, "/v2/a.test/hostile/types/manifests/1");
    has(&answer, &served.written.hostile, OCI_MANIFEST);
    assert_eq!(answer.header("set-cookie"), None);
}

#[test]
fn a_blob_is_an_octet_stream_by_get_and_head_also_an_empty_one_and_a_manifest() {
    let served = serve();
    let blobs = [(served.written.large, LARGE), (served.written.empty, 0)];
    for (digest, size) in blobs {
        let path = format!("/v2/a.test/big/image/blobs/{digest}");
        let got = get(served.at, &path);
        has(&got, &digest, "application/octet-stream");
        assert_eq!(got.body.len(), size);
        assert_eq!(Digest::sha256_of(&got.body), digest);
        let headed = head(served.at, &path);
        has(&headed, &digest, "application/octet-stream");
        assert_eq!(
            headed.header("content-length"),
            Some(size.to_string().as_str())
        );
    }
    // containerd looks for manifests here too
    let path = format!("/v2/library/app/blobs/{}", served.written.app);
    has(
        &head(served.at, &path),
        &served.written.app,
        "application/octet-stream",
    );
}

#[test]
fn ranges_of_a_blob_are_single_open_suffix_and_clamped() {
    let served = serve();
    let path = format!("/v2/a.test/big/image/blobs/{}", served.written.large);
    let large = large();
    for (range, first, last) in [
        ("bytes=500-1499", 500, 1499),
        ("bytes=0-", 0, LARGE - 1),
        ("bytes=2900000-", 2_900_000, LARGE - 1),
        ("bytes=-500", LARGE - 500, LARGE - 1),
        ("bytes=-99999999", 0, LARGE - 1),
        ("bytes=2999999-9999999", 2_999_999, LARGE - 1),
    ] {
        let answer = request(served.at, "GET", &path, &[("Range", range)]);
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(
            answer.header("content-range"),
            Some(format!("bytes {first}-{last}/{LARGE}").as_str())
        );
        assert!(answer.body == large[first..=last], "{range}");
        let named = served.written.large.to_string();
        assert_eq!(answer.header("docker-content-digest"), Some(named.as_str()));
    }
}

#[test]
fn a_range_of_a_manifest_is_served_since_containerd_asks_for_one() {
    let served = serve();
    let path = "/v2/library/app/manifests/1";
    let whole = get(served.at, path).body;
    let answer = request(served.at, "GET", path, &[("Range", "bytes=0-")]);
    assert_eq!((answer.status, &answer.body), (206, &whole));
    let answer = request(served.at, "GET", path, &[("Range", "bytes=3-8")]);
    assert_eq!((answer.status, &answer.body[..]), (206, &whole[3..=8]));
}

#[test]
fn a_range_beyond_the_end_or_of_nothing_is_416_with_the_size() {
    let served = serve();
    let large = format!("/v2/a.test/big/image/blobs/{}", served.written.large);
    let empty = format!("/v2/a.test/big/image/blobs/{}", served.written.empty);
    for (path, range, size) in [
        (&large, "bytes=5000000-", LARGE),
        (&large, "bytes=5000000-6000000", LARGE),
        (&large, "bytes=500-0", LARGE),
        (&empty, "bytes=0-", 0),
    ] {
        let answer = request(served.at, "GET", path, &[("Range", range)]);
        assert_eq!(answer.status, 416, "{range}");
        let expected = format!("bytes */{size}");
        assert_eq!(answer.header("content-range"), Some(expected.as_str()));
    }
}

#[test]
fn several_ranges_and_nonsense_get_the_whole_blob() {
    let served = serve();
    let path = format!("/v2/a.test/big/image/blobs/{}", served.written.large);
    for range in ["bytes=0-9,50-99", "bytes=a-b", "lines=1-2", "bytes=9"] {
        let answer = request(served.at, "GET", &path, &[("Range", range)]);
        assert_eq!((answer.status, answer.body.len()), (200, LARGE), "{range}");
    }
    // a range is defined for GET alone
    let answer = request(served.at, "HEAD", &path, &[("Range", "bytes=0-9")]);
    assert_eq!(answer.status, 200);
}

#[test]
fn conditions_are_weighed_before_ranges() {
    let served = serve();
    let path = format!("/v2/a.test/big/image/blobs/{}", served.written.large);
    let etag = format!("\"{}\"", served.written.large);
    let status = |headers: &[(&str, &str)]| {
        let answer = request(served.at, "GET", &path, headers);
        if answer.status == 304 {
            assert_eq!(answer.header("etag"), Some(etag.as_str()));
            assert!(answer.header("docker-content-digest").is_some());
        }
        answer.status
    };
    let range = ("Range", "bytes=0-9");
    assert_eq!(status(&[("If-None-Match", &etag)]), 304);
    assert_eq!(status(&[("If-None-Match", &etag), range]), 304);
    assert_eq!(status(&[("If-None-Match", "\"other\""), range]), 206);
    assert_eq!(status(&[("If-Match", "\"other\"")]), 412);
    assert_eq!(status(&[("If-Match", &etag)]), 200);
    assert_eq!(status(&[("If-Range", &etag), range]), 206);
    assert_eq!(status(&[("If-Range", "\"other\""), range]), 200);
    let manifest = "/v2/library/app/manifests/1";
    let etag = format!("\"{}\"", served.written.app);
    let answer = request(served.at, "HEAD", manifest, &[("If-None-Match", &etag)]);
    assert_eq!(answer.status, 304);
}
