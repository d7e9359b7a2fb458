//! Hauls that want to harm whoever serves them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use image_layout::Digest;
use serde_json::{Value, json};

use crate::client::{get, request};
use crate::layout::{LAYER, OCI_MANIFEST, Writer};
use crate::server::{Server, command};

/// A haul that is served.
fn over(write: impl FnOnce(&mut Writer<'_>)) -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path());
    write(&mut writer);
    writer.finish();
    (Server::over(dir.path()), dir)
}

/// A haul that is refused: one error, one line of help, exit code 1.
fn refused(dir: &Path) -> String {
    let output = command(dir).stderr(Stdio::piped()).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: "), "{error}");
    assert!(error.len() < 2000, "{error}");
    error
}

const HUGE: u64 = 1_000_000_000_000_000_000;

#[test]
fn sizes_that_no_disk_has_are_refused_wherever_they_are_claimed() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path());
    let mut layer = writer.descriptor(LAYER, b"layer");
    layer["size"] = json!(HUGE);
    writer.named("a.test/app:1", "", json!({"layers": [layer]}));
    writer.finish();
    assert!(refused(dir.path()).contains("1000000000000000000"));

    let mut writer = Writer::new(dir.path());
    writer.named("a.test/app:1", "x", json!({}));
    writer.entries[0]["size"] = json!(HUGE);
    writer.finish();
    refused(dir.path());

    // a catalog that lies: nothing of it is served, and nothing is allocated for it
    let digest = Digest::sha256_of(b"layer");
    let catalog = json!({"format": 1,
        "artifacts": [{"kind": "image", "host": "a.test", "repository": "app", "tag": "1",
                       "digest": digest, "size": HUGE}],
        "manifests": [{"digest": digest, "size": HUGE, "mediaType": OCI_MANIFEST}],
        "blobs": [{"digest": digest, "size": HUGE}]});
    std::fs::write(dir.path().join("catalog.json"), catalog.to_string()).unwrap();
    let server = Server::over(dir.path());
    let blob = format!("/v2/a.test/app/blobs/{digest}");
    assert_eq!(get(server.address, &blob).status, 404);
    assert_eq!(
        get(server.address, "/v2/a.test/app/manifests/1").status,
        404
    );
    assert!(server.memory() < 64 << 10);
}

/// A manifest that refers to `subject`.
fn refers(writer: &mut Writer<'_>, subject: Digest, annotations: Value) {
    let more = json!({"annotations": annotations,
        "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1}});
    let (digest, bytes) = writer.image("x", more);
    let length = bytes.len();
    writer.name("a.test/app:1", "referrers/x", OCI_MANIFEST, digest, length);
}

#[test]
fn annotations_of_many_mebibytes_are_bounded() {
    let subject = Digest::sha256_of(b"subject");
    let long = "x".repeat(3 << 20);
    let (server, _dir) = over(|writer| {
        for nth in 0..12 {
            refers(
                writer,
                subject,
                json!({"long": long, "nth": nth.to_string()}),
            );
        }
    });
    let answer = get(
        server.address,
        &format!("/v2/a.test/app/referrers/{subject}"),
    );
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["manifests"].as_array().unwrap().len(), 12);
    assert!(answer.body.len() < 9 << 20, "{}", answer.body.len());
    assert!(server.memory() < 160 << 10, "{} KiB", server.memory());
}

/// Status and headers of an answer, in lower case but for the status, and nothing of its body.
fn head_of(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let (status, headers) = head.split_once("\r\n").unwrap();
    format!("{status}\r\n{}", headers.to_ascii_lowercase())
}

#[test]
fn lists_that_nobody_takes_do_not_fill_the_memory() {
    const CLIENTS: usize = 24;
    let subject = Digest::sha256_of(b"subject");
    // each character takes six in an answer
    let long = "\u{1}".repeat(600 << 10);
    let (server, _dir) = over(|writer| {
        // more than the kernel takes of an answer by itself
        for nth in 0..2 {
            refers(
                writer,
                subject,
                json!({"long": long, "nth": nth.to_string()}),
            );
        }
    });
    let path = format!("/v2/a.test/app/referrers/{subject}");
    let length = get(server.address, &path).body.len();
    assert!(length > 7 << 20, "{length}");
    let mut idle: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = TcpStream::connect(server.address).unwrap();
            write!(client, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            client
        })
        .collect();
    let mut refused = 0;
    for client in &mut idle {
        let head = head_of(client);
        if head.starts_with("HTTP/1.1 429 ") {
            // containers/image waits for as long as this says, containerd asks again at once
            assert!(head.contains("\r\nretry-after: 1\r\n"), "{head}");
            refused += 1;
        } else {
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        }
    }
    // 64 MiB are for all of them
    let room = 1 + (64 << 20) / length;
    assert!(refused >= CLIENTS - room, "{refused}");
    assert!(refused < CLIENTS, "{refused}");
    assert!(server.memory() < 160 << 10, "{} KiB", server.memory());
    assert_eq!(get(server.address, "/v2/").status, 200);
    drop(idle);
    let deadline = Instant::now() + Duration::from_secs(20);
    while get(server.address, &path).body.len() != length {
        assert!(Instant::now() < deadline, "there is no room again");
    }
}

#[test]
fn a_manifest_is_never_a_page() {
    let script =
        json!({"mediaType": "text/html", "annotations": {"x": "<script>alert(1)</script>"}});
    let mut digest = None;
    let (server, _dir) = over(|writer| {
        writer.named("a.test/app:1", "app", script.clone());
        digest = Some(writer.image("app", script.clone()).0);
        for entry in &mut writer.entries {
            entry["mediaType"] = json!("text/html");
        }
    });
    for reference in ["1".to_owned(), digest.unwrap().to_string()] {
        let path = format!("/v2/a.test/app/manifests/{reference}");
        let answer = get(server.address, &path);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some(OCI_MANIFEST));
    }
}

#[test]
fn a_tag_of_another_host_is_not_taken_for_docker_hubs() {
    let (server, _dir) = over(|writer| {
        writer.named("docker.io/x/y:1", "hub", json!({}));
        writer.named("quay.test/x/y:2", "quay", json!({}));
    });
    let status = |path: &str| get(server.address, path).status;
    // dockerd's mirror means Docker Hub, and has no other way to say so
    assert_eq!(status("/v2/x/y/manifests/2"), 404);
    assert_eq!(status("/v2/x/y/manifests/1"), 200);
    assert_eq!(status("/v2/quay.test/x/y/manifests/2"), 200);
    assert_eq!(status("/v2/x/y/manifests/2?ns=quay.test"), 200);
}

#[test]
fn json_that_nests_without_end_is_refused_and_no_stack_runs_over() {
    let dir = tempfile::tempdir().unwrap();
    let deep = format!("{{\"manifests\":{}", "[".repeat(1 << 20));
    std::fs::write(dir.path().join("index.json"), &deep).unwrap();
    refused(dir.path());
    let unknown = format!("{{\"x\":{}", "{\"y\":".repeat(1 << 20));
    std::fs::write(dir.path().join("index.json"), unknown).unwrap();
    refused(dir.path());
    std::fs::write(dir.path().join("catalog.json"), &deep).unwrap();
    refused(dir.path());
    std::fs::remove_file(dir.path().join("catalog.json")).unwrap();
    let mut writer = Writer::new(dir.path());
    let manifest = format!("{{\"layers\":{}", "[".repeat(1 << 20));
    let digest = writer.blob(manifest.as_bytes());
    writer.name(
        "a.test/app:1",
        "image",
        OCI_MANIFEST,
        digest,
        manifest.len(),
    );
    writer.finish();
    refused(dir.path());
}

#[test]
fn names_types_and_annotations_become_neither_headers_nor_markup() {
    let evil = "\"'><script>alert(1)</script>\r\nX-Evil: 1\r\n\r\n<h1>";
    let file = (
        "application/vnd.content.hauler.file.local.config.v1+json",
        "{}",
    );
    let (server, _dir) = over(|writer| {
        writer.named(
            "a.test/app:1",
            "app",
            json!({
            "mediaType": format!("text/html;{evil}"), "artifactType": evil,
            "annotations": {evil: evil}, "subject": {
                "mediaType": evil, "digest": Digest::sha256_of(b"s"), "size": 1}}),
        );
        writer.named(&format!("a.test/{evil}:1"), "one", json!({}));
        writer.named(&format!("{evil}/app:1"), "two", json!({}));
        writer.named(&format!("a.test/app:{evil}"), "three", json!({}));
        writer.content("hauler/file:latest", file, evil, "four");
        for entry in &mut writer.entries {
            entry["mediaType"] = json!(format!("{}{evil}", entry["mediaType"].as_str().unwrap()));
            entry["annotations"]["hauler.dev/original-ref"] = json!(evil);
        }
    });
    let subject = Digest::sha256_of(b"s");
    for path in [
        "/".to_owned(),
        "/files/".to_owned(),
        "/files/?format=json".to_owned(),
        "/status".to_owned(),
        "/v2/_catalog".to_owned(),
        "/v2/a.test/app/tags/list".to_owned(),
        "/v2/a.test/app/manifests/1".to_owned(),
        format!("/v2/a.test/app/referrers/{subject}"),
    ] {
        let answer = request(server.address, "GET", &path, &[("Accept", "text/html")]);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("x-evil"), None, "{path}");
        let kind = answer.header("content-type").unwrap();
        if kind.starts_with("text/html") {
            let text = String::from_utf8(answer.body).unwrap();
            assert!(!text.contains("<script"), "{path}: {text}");
            assert!(!text.contains("<h1>\""), "{path}: {text}");
        } else {
            assert!(kind.starts_with("application/"), "{path}: {kind}");
        }
    }
}
