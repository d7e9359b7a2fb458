//! What clients count on beyond the letter of the protocol, one test each, by the numbers of
//! `docs/registry.md`.

use image_layout::Digest;
use serde_json::json;

use crate::client::{Answer, get, head, request};
use crate::layout::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Writer};
use crate::server::{Served, Server, serve};

const MANIFEST: &str = "/v2/library/app/manifests/1";

fn large(served: &Served) -> String {
    format!("/v2/a.test/big/image/blobs/{}", served.written.large)
}

#[test]
fn quirk_01_every_answer_with_content_has_its_length_also_by_head() {
    let served = serve();
    for path in [
        MANIFEST,
        &large(&served),
        "/v2/",
        "/v2/_catalog",
        "/v2/_catalog?n=2",
        "/v2/library/app/tags/list",
        "/v2/library/app/tags/list?n=1",
        &format!("/v2/a.test/shop/db/referrers/{}", served.written.db_a),
        "/v2/library/app/manifests/none",
        "/files/",
        "/files/SAME.txt",
        "/status",
    ] {
        let length = |answer: &Answer| answer.header("content-length").map(str::to_owned);
        let got = get(served.at, path);
        assert_eq!(length(&got), Some(got.body.len().to_string()), "{path}");
        assert!(!got.body.is_empty(), "{path}");
        if path != "/status" {
            assert_eq!(length(&head(served.at, path)), length(&got), "{path}");
        }
    }
    let part = request(served.at, "GET", &large(&served), &[("Range", "bytes=0-9")]);
    assert_eq!(
        (part.status, part.header("content-length")),
        (206, Some("10"))
    );
}

#[test]
fn quirk_02_the_digest_is_on_every_manifest_and_blob_also_on_a_part() {
    let served = serve();
    for (path, digest) in [
        (MANIFEST.to_owned(), served.written.app),
        (large(&served), served.written.large),
    ] {
        let digest = Some(digest.to_string());
        for headers in [&[][..], &[("Range", "bytes=1-5")]] {
            let answer = request(served.at, "GET", &path, headers);
            let said = answer.header("docker-content-digest").map(str::to_owned);
            assert_eq!(said, digest);
        }
        let said = head(served.at, &path);
        assert_eq!(
            said.header("docker-content-digest").map(str::to_owned),
            digest
        );
    }
}

#[test]
fn quirk_03_the_type_is_the_manifests_own_without_parameters() {
    let served = serve();
    for (path, kind) in [
        (MANIFEST, OCI_INDEX),
        ("/v2/a.test/docker/image/manifests/1", DOCKER_MANIFEST),
        ("/v2/a.test/shop/db/manifests/1", OCI_MANIFEST),
        ("/v2/a.test/hostile/types/manifests/1", OCI_MANIFEST),
    ] {
        assert_eq!(
            get(served.at, path).header("content-type"),
            Some(kind),
            "{path}"
        );
    }
}

#[test]
fn quirk_04_a_manifests_bytes_are_the_hauls() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path());
    // what no encoder would make again: its spaces, its order, its escapes, a key that nobody knows
    let config = writer.descriptor("application/vnd.oci.image.config.v1+json", b"{}");
    let image = format!(
        " {{\n\t\"zzz\" : [ 1.50, 1e2, \"\\u0041\\/\" ] ,\r\n \"layers\":[ ],\n\
         \"mediaType\": \"{OCI_MANIFEST}\",\"config\" :\t{config:#},\n\
         \"annotations\": {{\"z\":\"1\",\"a\":\"2\" }} , \"schemaVersion\"  : 2 }}\n\n"
    );
    let child = writer.descriptor(OCI_MANIFEST, image.as_bytes());
    let index = format!(
        "{{\n  \"manifests\" : [\n    {child}\n  ] ,\n  \"mediaType\":\"{OCI_INDEX}\",\n\n  \
         \"aaa\": null,\"schemaVersion\":2}}  "
    );
    for (name, kind, media_type, text) in [
        ("a.test/odd/image:1", "image", OCI_MANIFEST, &image),
        ("a.test/odd/index:1", "imageIndex", OCI_INDEX, &index),
    ] {
        let digest = writer.blob(text.as_bytes());
        writer.name(name, kind, media_type, digest, text.len());
    }
    writer.finish();
    let server = Server::over(dir.path());
    for (name, text) in [("odd/image", &image), ("odd/index", &index)] {
        let digest = Digest::sha256_of(text.as_bytes());
        for path in [
            format!("/v2/a.test/{name}/manifests/1"),
            format!("/v2/a.test/{name}/manifests/{digest}"),
            format!("/v2/a.test/{name}/blobs/{digest}"),
        ] {
            let answer = get(server.address, &path);
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(String::from_utf8(answer.body).unwrap(), *text, "{path}");
        }
    }
}

#[test]
fn quirk_05_nothing_is_negotiated() {
    let served = serve();
    let expected = get(served.at, MANIFEST).body;
    for accept in [
        OCI_MANIFEST,
        DOCKER_MANIFEST,
        "text/html",
        "*/*",
        "nonsense",
    ] {
        let answer = request(served.at, "GET", MANIFEST, &[("Accept", accept)]);
        assert_eq!((answer.status, &answer.body), (200, &expected), "{accept}");
        assert_eq!(answer.header("content-type"), Some(OCI_INDEX));
    }
}

#[test]
fn quirk_06_what_is_unknown_is_404_and_never_401_or_403() {
    let served = serve();
    let missing = format!("sha256:{}", "b".repeat(64));
    for path in [
        "/v2/no/such/manifests/1".to_owned(),
        "/v2/library/app/manifests/none".to_owned(),
        format!("/v2/library/app/blobs/{missing}"),
        "/v2/library/app/tags/list?ns=none.test".to_owned(),
        "/v2/token".to_owned(),
    ] {
        let answer = get(served.at, &path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.header("www-authenticate"), None);
    }
}

#[test]
fn quirk_07_the_ping_has_two_spellings() {
    let served = serve();
    for path in ["/v2", "/v2/"] {
        let answer = get(served.at, path);
        assert_eq!((answer.status, answer.json()), (200, json!({})));
    }
}

#[test]
fn quirk_08_the_digest_is_the_entity_tag_and_lives_for_ever_where_it_was_asked_for() {
    let served = serve();
    let digest = served.written.app;
    let by_digest = format!("/v2/library/app/manifests/{digest}");
    let (blob, for_ever) = (large(&served), "max-age=31536000, immutable");
    for (path, digest, lifetime) in [
        (MANIFEST, digest, "no-cache"),
        (&by_digest, digest, for_ever),
        (&blob, served.written.large, for_ever),
    ] {
        let tag = format!("\"{digest}\"");
        let part = [("Range", "bytes=1-5")];
        for answer in [
            get(served.at, path),
            head(served.at, path),
            request(served.at, "GET", path, &part),
        ] {
            assert_eq!(answer.header("etag"), Some(tag.as_str()), "{path}");
            assert_eq!(answer.header("cache-control"), Some(lifetime), "{path}");
        }
        let answer = request(served.at, "GET", path, &[("If-None-Match", &tag)]);
        assert_eq!(answer.status, 304, "{path}");
        assert_eq!(answer.header("etag"), Some(tag.as_str()));
        assert_eq!(answer.header("cache-control"), Some(lifetime));
        let answer = request(served.at, "GET", path, &[("If-None-Match", "\"other\"")]);
        assert_eq!(answer.status, 200, "{path}");
    }
}

#[test]
fn quirk_09_ranges_are_offered() {
    let served = serve();
    for path in [MANIFEST, &large(&served), "/files/Same.TXT"] {
        assert_eq!(
            head(served.at, path).header("accept-ranges"),
            Some("bytes"),
            "{path}"
        );
    }
}

#[test]
fn quirk_10_pushing_and_deleting_are_405_with_allow() {
    let served = serve();
    let (uploads, digest) = ("/v2/library/app/blobs/uploads/", served.written.app);
    for (method, path) in [
        // end-4a, end-4b, end-11
        ("POST", uploads.to_owned()),
        ("POST", format!("{uploads}?digest={digest}")),
        ("POST", format!("{uploads}?mount={digest}&from=shop/db")),
        // end-5, end-6, end-14
        ("PATCH", format!("{uploads}some")),
        ("PUT", format!("{uploads}some?digest={digest}")),
        ("DELETE", format!("{uploads}some")),
        // end-13
        ("GET", format!("{uploads}some")),
        // end-7
        ("PUT", MANIFEST.to_owned()),
        // end-9, end-10
        ("DELETE", MANIFEST.to_owned()),
        ("DELETE", format!("/v2/library/app/manifests/{digest}")),
        ("DELETE", large(&served)),
    ] {
        let answer = request(served.at, method, &path, &[]);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (405, "UNSUPPORTED"),
            "{method} {path}"
        );
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
}

#[test]
fn quirk_11_a_link_has_no_host_in_it() {
    let served = serve();
    let answer = request(
        served.at,
        "GET",
        "/v2/library/app/tags/list?n=1",
        &[("X-Forwarded-Host", "evil.test")],
    );
    let link = answer.header("link").unwrap();
    assert!(link.starts_with("</v2/library/app/tags/list?"), "{link}");
    assert!(link.ends_with(">; rel=\"next\""), "{link}");
}

#[test]
fn quirk_12_no_tags_are_an_empty_list() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path());
    let (digest, bytes) = writer.image("x", json!({}));
    let name = format!("a.test/untagged@{digest}");
    writer.name(&name, "image", OCI_MANIFEST, digest, bytes.len());
    writer.finish();
    let server = Server::over(dir.path());
    let answer = get(server.address, "/v2/a.test/untagged/tags/list");
    assert_eq!(
        answer.json(),
        json!({"name": "a.test/untagged", "tags": []})
    );
}

#[test]
fn quirk_13_the_colon_of_a_digest_may_be_encoded() {
    let served = serve();
    let manifest = format!("/v2/library/app/manifests/{}", served.written.app);
    let referrers = format!("/v2/a.test/shop/db/referrers/{}", served.written.db_a);
    for path in [large(&served), manifest, referrers] {
        let plain = get(served.at, &path);
        assert_eq!(plain.status, 200, "{path}");
        for colon in ["%3A", "%3a"] {
            let encoded = get(served.at, &path.replace(':', colon));
            assert_eq!(encoded.status, 200, "{path}");
            assert_eq!(encoded.body, plain.body, "{path}");
        }
    }
}

#[test]
fn quirk_14_a_docker_manifest_keeps_its_type_and_digest() {
    let served = serve();
    let digest = served.written.docker;
    for reference in ["1".to_owned(), digest.to_string()] {
        let answer = get(
            served.at,
            &format!("/v2/a.test/docker/image/manifests/{reference}"),
        );
        assert_eq!(answer.header("content-type"), Some(DOCKER_MANIFEST));
        assert_eq!(Digest::sha256_of(&answer.body), digest);
    }
}

#[test]
fn quirk_15_an_empty_blob_is_200_and_has_no_part() {
    let served = serve();
    let path = format!("/v2/a.test/big/image/blobs/{}", served.written.empty);
    let answer = get(served.at, &path);
    assert_eq!(
        (answer.status, answer.header("content-length")),
        (200, Some("0"))
    );
    let answer = request(served.at, "GET", &path, &[("Range", "bytes=0-")]);
    assert_eq!(
        (answer.status, answer.header("content-range")),
        (416, Some("bytes */0"))
    );
}

#[test]
fn quirk_16_a_blob_is_an_octet_stream() {
    let served = serve();
    let config = get(served.at, MANIFEST).json();
    assert!(config["manifests"].is_array());
    for path in [
        large(&served),
        format!("/v2/library/app/blobs/{}", served.written.app),
    ] {
        let answer = get(served.at, &path);
        assert_eq!(
            answer.header("content-type"),
            Some("application/octet-stream")
        );
    }
}

#[test]
fn no_answer_lets_another_site_read_it_or_names_the_server() {
    let served = serve();
    for path in [MANIFEST, "/v2/", "/files/", "/status", "/"] {
        let answer = request(served.at, "GET", path, &[("Origin", "http://evil.test")]);
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert_eq!(answer.header("server"), None);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}
