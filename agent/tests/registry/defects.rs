//! What Hauler's own server was seen to do wrong, one test each, by the numbers of
//! `docs/registry.md`. Defects of writing hauls (7, and 12 as far as it is about archives) are the
//! builder's to avoid, and tested there.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use image_layout::Digest;
use serde_json::json;

use crate::client::{connect, get, raw, request};
use crate::integrity::{compared, flip_a_byte};
use crate::layout::{self, HUGE, OCI_INDEX, OCI_MANIFEST, Writer};
use crate::server::{Server, command, serve};

const FILE: (&str, &str) = (
    "application/vnd.content.hauler.file.local.config.v1+json",
    "{}",
);

#[test]
fn defect_01_the_catalog_is_not_empty_and_takes_n() {
    let served = serve();
    let all = get(served.at, "/v2/_catalog");
    assert!(all.json()["repositories"].as_array().unwrap().len() > 5);
    let page = get(served.at, "/v2/_catalog?n=2");
    assert_eq!(page.status, 200);
    assert_eq!(page.json()["repositories"].as_array().unwrap().len(), 2);
}

#[test]
fn defect_02_referrers_are_discovered_by_the_api_and_by_the_tag() {
    let served = serve();
    let subject = served.written.db_a;
    let listed = get(
        served.at,
        &format!("/v2/a.test/shop/db/referrers/{subject}"),
    );
    assert_eq!(listed.json()["manifests"].as_array().unwrap().len(), 3);
    let tag = format!("/v2/a.test/shop/db/manifests/sha256-{}", subject.hex());
    assert_eq!(get(served.at, &tag).status, 200);
}

#[test]
fn defect_03_an_image_by_an_index_digest_that_was_lost_is_said_and_its_platform_served() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path());
    let lost = Digest::sha256_of(b"the index that was left behind");
    let child = writer.named(&format!("a.test/app@{lost}"), "amd64", json!({}));
    writer.finish();
    let server = Server::over(dir.path());
    let path = |digest: &Digest| format!("/v2/a.test/app/manifests/{digest}");
    assert_eq!(get(server.address, &path(&child)).status, 200);
    let answer = get(server.address, &path(&lost));
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (404, "MANIFEST_UNKNOWN")
    );
    let notices = get(server.address, "/status").json()["notices"].to_string();
    assert!(
        notices.contains("can't be pulled by that digest"),
        "{notices}"
    );
}

/// An image for two platforms: an index.
fn index(writer: &mut Writer<'_>) -> (Digest, usize) {
    let manifests = ["amd64", "arm64"].map(|arch| {
        let (child, bytes) = writer.image(arch, json!({}));
        json!({"mediaType": OCI_MANIFEST, "digest": child, "size": bytes.len()})
    });
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    let index = serde_json::to_vec(&index).unwrap();
    (writer.blob(&index), index.len())
}

/// The digests that a server answers paths with.
#[track_caller]
fn names(server: &Server, wanted: &[(&str, Digest)]) {
    for (path, digest) in wanted {
        let answer = get(server.address, path);
        let found = answer.header("docker-content-digest").map(str::to_owned);
        assert_eq!(found, Some(digest.to_string()), "{path}");
        assert_eq!(Digest::sha256_of(&answer.body), *digest, "{path}");
    }
}

/// One is an index, one a manifest: which of them Hauler serves is chance.
#[test]
fn defect_04_equal_names_of_two_registries_are_both_served_at_every_start() {
    for (index_at, manifest_at) in [("docker.io", "quay.test"), ("quay.test", "docker.io")] {
        for turned in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = Writer::new(dir.path());
            let (both, length) = index(&mut writer);
            let name = format!("{index_at}/library/x:1");
            writer.name(&name, "imageIndex", OCI_INDEX, both, length);
            let one = writer.named(&format!("{manifest_at}/library/x:1"), "other", json!({}));
            if turned {
                writer.entries.reverse();
            }
            writer.finish();
            let (hub, quay) = match index_at {
                "docker.io" => (both, one),
                _ => (one, both),
            };
            for _ in 0..2 {
                names(
                    &Server::over(dir.path()),
                    &[
                        ("/v2/library/x/manifests/1", hub),
                        ("/v2/library/x/manifests/1?ns=docker.io", hub),
                        ("/v2/docker.io/library/x/manifests/1", hub),
                        ("/v2/library/x/manifests/1?ns=quay.test", quay),
                        ("/v2/quay.test/library/x/manifests/1", quay),
                    ],
                );
            }
        }
    }
}

/// Hauler keeps both, in random order.
#[test]
fn defect_04_an_index_and_a_manifest_of_one_name_are_both_served_in_whatever_order() {
    for turned in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(dir.path());
        let (both, length) = index(&mut writer);
        writer.name("a.test/x:1", "imageIndex", OCI_INDEX, both, length);
        let one = writer.named("a.test/x:1", "one platform", json!({}));
        if turned {
            writer.entries.reverse();
        }
        writer.finish();
        let server = Server::over(dir.path());
        names(
            &server,
            &[
                ("/v2/x/manifests/1", both),
                ("/v2/x/manifests/1?ns=a.test", both),
                (&format!("/v2/a.test/x/manifests/{both}"), both),
                (&format!("/v2/a.test/x/manifests/{one}"), one),
            ],
        );
        let tags = get(server.address, "/v2/a.test/x/tags/list").json();
        assert_eq!(tags["tags"], json!(["1"]));
        let said = format!(
            "a.test/x:1 is in the haul twice; {both} is served by that name, {one} by digest only"
        );
        let status = get(server.address, "/status").json();
        assert_eq!(status["notices"].to_string().matches(&said).count(), 1);
    }
}

#[test]
fn defect_05_a_path_that_looks_like_a_host_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path());
    let digest = writer.named("registry.lab.test/my.org/app:1", "dotted", json!({}));
    let deep = writer.named("registry.lab.test/a/b.c/d_e/f--g:1", "deep", json!({}));
    writer.finish();
    let server = Server::over(dir.path());
    names(
        &server,
        &[
            ("/v2/my.org/app/manifests/1", digest),
            ("/v2/registry.lab.test/my.org/app/manifests/1", digest),
            ("/v2/a/b.c/d_e/f--g/manifests/1", deep),
        ],
    );
    assert_eq!(get(server.address, "/v2/app/manifests/1").status, 404);
}

#[test]
fn defect_06_a_chart_is_found_by_helms_tag_as_well_as_haulers() {
    let served = serve();
    for tag in ["1.0.0_up2", "1.0.0-up2"] {
        let answer = get(served.at, &format!("/v2/hauler/up/manifests/{tag}"));
        assert_eq!(answer.status, 200, "{tag}");
    }
}

#[test]
fn defect_06_a_chart_is_found_where_its_registry_had_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path());
    let helm = "application/vnd.cncf.helm.config.v1+json";
    let config = (helm, r#"{"name":"shop","version":"1.2.3+build4"}"#);
    let title = "shop-1.2.3+build4.tgz";
    let [chart, _] = writer.content("hauler/shop:1.2.3-build4", config, title, "chart");
    let origin = "oci://charts.test:8443/team/charts|hauler/shop:1.2.3-build4";
    writer.entries[0]["annotations"]["hauler.dev/original-ref"] = json!(origin);
    let [_, _] = writer.content("hauler/app:1.2.3-build4", config, "app.tgz", "another");
    let origin = "oci://registry-1.docker.io/acme|hauler/app:1.2.3-build4";
    writer.entries[1]["annotations"]["hauler.dev/original-ref"] = json!(origin);
    let app = writer.named("quay.test/acme/app:1", "app", json!({}));
    // two that are called like an image of Docker Hub's for short
    for (at, host) in [(3, "charts.test"), (4, "docker.io")] {
        writer.content("hauler/nginx:9", config, "nginx.tgz", host);
        let origin = format!("oci://{host}|hauler/nginx:9");
        writer.entries[at]["annotations"]["hauler.dev/original-ref"] = json!(origin);
    }
    let nginx = writer.named("docker.io/library/nginx:1", "nginx", json!({}));
    // what the haul has under a name itself goes before what it calls so as well
    let own = writer.named(
        "charts.test:8443/team/charts/shop:1.2.3_build4",
        "own",
        json!({}),
    );
    writer.finish();
    let server = Server::over(dir.path());
    let of_port = "/v2/charts.test_8443/team/charts/shop/manifests/1.2.3-build4";
    let by_namespace = "/v2/team/charts/shop/manifests/1.2.3-build4?ns=charts.test:8443";
    names(
        &server,
        &[
            ("/v2/hauler/shop/manifests/1.2.3_build4", chart),
            ("/v2/team/charts/shop/manifests/1.2.3-build4", chart),
            (of_port, chart),
            (by_namespace, chart),
            ("/v2/team/charts/shop/manifests/1.2.3_build4", own),
            // nor does a chart hide what other registries had under its name
            ("/v2/nginx/manifests/1", nginx),
            ("/v2/nginx/manifests/1?ns=docker.io", nginx),
            ("/v2/acme/app/manifests/1", app),
        ],
    );
    let listed = get(server.address, "/v2/acme/app/tags/list").json();
    assert_eq!(listed["tags"], json!(["1"]));
    let path = "/v2/docker.io/acme/app/manifests/1.2.3_build4";
    assert_eq!(get(server.address, path).status, 200);
    let all = get(server.address, "/v2/_catalog").json()["repositories"].to_string();
    assert!(all.contains("charts.test_8443/team/charts/shop"), "{all}");
}

#[test]
fn defect_08_a_space_in_a_files_name_and_two_files_of_one_name_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path());
    writer.content("hauler/my notes.txt:latest", FILE, "my notes.txt", "spaced");
    let [_, one] = writer.content("hauler/a.txt:latest", FILE, "a.txt", "one");
    let [_, two] = writer.content("other/a.txt:latest", FILE, "a.txt", "two");
    writer.finish();
    let server = Server::over(dir.path());
    assert_eq!(get(server.address, "/files/my%20notes.txt").body, b"spaced");
    for (digest, text) in [(one, "one"), (two, "two")] {
        let answer = get(server.address, &format!("/files/{digest}/a.txt"));
        assert_eq!(answer.body, text.as_bytes());
    }
}

/// A little each second for longer than Hauler's limit of a minute, of a file as of a blob.
#[test]
fn defect_09_a_slow_download_is_not_cut_off_after_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path());
    let huge = writer.huge();
    let layer = json!({"mediaType": "application/octet-stream", "digest": huge, "size": HUGE});
    writer.content_of("hauler/huge.iso:latest", FILE, "huge.iso", layer);
    writer.finish();
    let server = Server::over(dir.path());
    let paths = [
        "/files/huge.iso".to_owned(),
        format!("/v2/hauler/huge.iso/blobs/{huge}"),
    ];
    let mut downloads = paths.map(|path| {
        let mut stream = connect(server.address);
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        (path, stream, 0)
    });
    let started = Instant::now();
    let mut piece = vec![0; 1 << 20];
    while started.elapsed() < Duration::from_secs(63) {
        for (path, stream, read) in &mut downloads {
            let more = stream.read(&mut piece).unwrap();
            assert!(*read > 0 || piece.starts_with(b"HTTP/1.1 200"), "{path}");
            assert!(more > 0, "{path} ended after {read}");
            *read += more;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    for (path, stream, read) in &mut downloads {
        assert!((*read as u64) < HUGE, "{path} was not slow");
        loop {
            match stream.read(&mut piece).unwrap() {
                0 => break,
                more => *read += more,
            }
        }
        assert!(*read as u64 > HUGE, "{path} ended after {read}");
    }
}

#[test]
fn defect_10_what_was_removed_from_a_haul_is_gone_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path());
    writer.named("a.test/stays:1", "stays", json!({}));
    let gone = writer.named("a.test/goes:1", "goes", json!({}));
    let entries = writer.entries.clone();
    writer.finish();
    let server = Server::over(dir.path());
    assert_eq!(get(server.address, "/v2/goes/manifests/1").status, 200);
    drop(server);
    let mut writer = Writer::new(dir.path());
    writer.entries = entries[..1].to_vec();
    writer.finish();
    let server = Server::over(dir.path());
    // its blobs still lie there
    assert_eq!(get(server.address, "/v2/goes/manifests/1").status, 404);
    let blob = format!("/v2/stays/blobs/{gone}");
    assert_eq!(get(server.address, &blob).status, 404);
    assert_eq!(get(server.address, "/v2/stays/manifests/1").status, 200);
}

#[test]
fn defect_11_a_manifest_needs_no_accept() {
    let served = serve();
    for accept in ["", "Accept: */*\r\n", "Accept: text/plain\r\n"] {
        let request = format!(
            "GET /v2/library/app/manifests/1 HTTP/1.1\r\nHost: x\r\n{accept}Connection: close\r\n\r\n"
        );
        let answer = raw(served.at, request.as_bytes(), None);
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{accept}");
    }
}

/// Hauler 1.2.5 loads it without a word and then serves nothing.
#[test]
fn defect_12_a_flipped_bit_is_refused_in_a_manifest_at_start_and_in_a_layer_once_it_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let written = layout::write(dir.path());
    let manifest = dir.path().join(written.docker.blob_path());
    flip_a_byte(&manifest, 10);
    let refused = command(dir.path()).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.is_empty());
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains(&written.docker.to_string()), "{error}");

    // as it was; a layer has another bit, and is found by the comparison in the background
    flip_a_byte(&manifest, 10);
    flip_a_byte(&dir.path().join(written.large.blob_path()), 2_000_000);
    let server = Server::over(dir.path());
    assert_eq!(compared(&server).integrity.bad, [written.large]);
    let blob = format!("/v2/a.test/big/image/blobs/{}", written.large);
    let etag = format!("\"{}\"", written.large);
    for (method, headers) in [
        ("GET", &[][..]),
        ("HEAD", &[]),
        // a part that has no flipped bit, too
        ("GET", &[("Range", "bytes=0-9")]),
        ("GET", &[("If-None-Match", etag.as_str())]),
    ] {
        let answer = request(server.address, method, &blob, headers);
        assert_eq!(answer.status, 404, "{method} {headers:?}");
        assert_eq!(answer.header("docker-content-digest"), None);
        assert_eq!(answer.header("etag"), None);
    }
    assert_eq!(get(server.address, &blob).code(), "BLOB_UNKNOWN");
    // its image says what it needs, and everything else is served
    for path in [
        "/v2/a.test/big/image/manifests/1".to_owned(),
        format!("/v2/a.test/big/image/blobs/{}", written.empty),
        "/v2/a.test/docker/image/manifests/1".to_owned(),
        "/v2/library/app/manifests/1".to_owned(),
    ] {
        assert_eq!(get(server.address, &path).status, 200, "{path}");
    }
}
