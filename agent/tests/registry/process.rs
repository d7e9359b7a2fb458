//! `agent serve` as a program: its line, its end, its errors.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use image_layout::Digest;
use image_layout::catalog::Catalog;

use crate::client::{connect, get, request};
use crate::layout;
use crate::server::{Server, command, serve};

fn signal(pid: i32, name: &str) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn it_says_one_line_and_ends_well_by_a_signal() {
    for name in ["-TERM", "-INT"] {
        let served = serve();
        let line = format!("listening on http://{} (", served.at);
        assert!(
            served.server.said.starts_with(&line),
            "{}",
            served.server.said
        );
        signal(served.server.pid(), name);
        let (status, rest) = served.server.ended();
        assert_eq!((status.code(), rest.as_str()), (Some(0), ""), "{name}");
    }
}

#[test]
fn it_ends_while_clients_keep_connections_and_downloads() {
    let served = serve();
    let idle = crate::client::connect(served.at);
    let mut busy = crate::client::connect(served.at);
    let path = format!("/v2/a.test/big/image/blobs/{}", served.written.large);
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    std::io::Write::write_all(&mut busy, request.as_bytes()).unwrap();
    signal(served.server.pid(), "-TERM");
    assert_eq!(served.server.ended().0.code(), Some(0));
    drop((idle, busy));
}

/// The error of a server that can't start.
fn error(dir: &Path) -> String {
    let output = command(dir).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let error = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(lines[0].starts_with("error: ") && lines[1].starts_with("  help: "));
    error
}

#[test]
fn a_directory_that_can_not_be_served_is_one_error_with_its_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none");
    assert!(error(&missing).contains("No such file or directory"));
    assert!(error(dir.path()).contains("has no OCI layout: it lacks index.json"));
    std::fs::write(dir.path().join("index.json"), "{").unwrap();
    assert!(error(dir.path()).contains("index.json is no OCI index"));
    std::fs::write(dir.path().join("catalog.json"), "[1]").unwrap();
    assert!(error(dir.path()).contains("catalog.json is damaged"));
    std::fs::write(
        dir.path().join("catalog.json"),
        r#"{"format":99,"artifacts":[],"manifests":[],"blobs":[]}"#,
    )
    .unwrap();
    assert!(error(dir.path()).contains("has format 99"));
}

#[test]
fn a_missing_or_damaged_blob_of_an_index_is_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let written = layout::write(dir.path());
    let large = dir.path().join(written.large.blob_path());
    std::fs::write(&large, "short").unwrap();
    let said = error(dir.path());
    assert!(said.contains(&written.large.to_string()), "{said}");
    std::fs::remove_file(&large).unwrap();
    let said = error(dir.path());
    assert!(said.contains(&written.large.to_string()), "{said}");
}

/// What the builder writes beside a layout.
fn catalog(dir: &Path) -> Catalog {
    let index = std::fs::read(dir.join("index.json")).unwrap();
    struct Blobs<'a>(&'a Path);
    impl image_layout::catalog::BlobSource for Blobs<'_> {
        fn size(&self, digest: &Digest) -> Option<u64> {
            let path = self.0.join(digest.blob_path());
            Some(std::fs::metadata(path).ok()?.len())
        }
        fn read(&self, digest: &Digest) -> std::io::Result<Vec<u8>> {
            std::fs::read(self.0.join(digest.blob_path()))
        }
    }
    Catalog::build(&index, &Blobs(dir)).unwrap()
}

fn write_catalog(dir: &Path, catalog: &Catalog) {
    let catalog = serde_json::to_vec(catalog).unwrap();
    std::fs::write(dir.join("catalog.json"), catalog).unwrap();
}

#[test]
fn a_type_that_a_catalog_invents_is_replaced_by_what_the_manifest_is() {
    let dir = tempfile::tempdir().unwrap();
    let written = layout::write(dir.path());
    let mut catalog = catalog(dir.path());
    for manifest in &mut catalog.manifests {
        manifest.media_type = "text/html".to_owned();
    }
    write_catalog(dir.path(), &catalog);
    let server = Server::over(dir.path());
    for (digest, media_type) in [
        (written.app, layout::OCI_INDEX),
        (written.db_a, layout::OCI_MANIFEST),
        (written.docker, layout::DOCKER_MANIFEST),
    ] {
        let answer = get(
            server.address,
            &format!("/v2/library/app/manifests/{digest}"),
        );
        assert_eq!(answer.header("content-type"), Some(media_type));
    }
}

/// A server that may have so many descriptors, and so many if it asks for them.
fn with_descriptors(dir: &Path, soft: u32, hard: u32) -> Server {
    let served = command(dir);
    let mut limited = Command::new("sh");
    let limits = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
    limited.arg("-c").arg(limits).arg(served.get_program());
    limited.args(served.get_args());
    limited.stdin(Stdio::null()).stdout(Stdio::piped());
    Server::of(limited)
}

/// The beginnings of answers to so many downloads of a large blob, none of which is taken.
fn downloads(server: &Server, huge: &Digest, count: usize) -> Vec<(TcpStream, String)> {
    let mut streams: Vec<_> = (0..count).map(|_| connect(server.address)).collect();
    // all of them are taken before the first has a file
    for stream in &mut streams {
        let request = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"{}") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
    }
    for stream in &mut streams {
        let path = format!("/v2/a.test/huge/image/blobs/{huge}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
    }
    let begun = streams.into_iter().map(|mut stream| {
        let mut line = [0; 12];
        stream.read_exact(&mut line).unwrap();
        (stream, String::from_utf8(line.to_vec()).unwrap())
    });
    begun.collect()
}

#[test]
fn it_takes_the_descriptors_that_it_may_have() {
    let dir = tempfile::tempdir().unwrap();
    let written = layout::write(dir.path());
    let server = with_descriptors(dir.path(), 64, 256);
    for (_stream, status) in &downloads(&server, &written.huge, 80) {
        assert_eq!(status, "HTTP/1.1 200");
    }
}

#[test]
fn want_of_descriptors_is_not_held_against_the_medium() {
    let dir = tempfile::tempdir().unwrap();
    let written = layout::write(dir.path());
    let server = with_descriptors(dir.path(), 64, 64);
    let begun = downloads(&server, &written.huge, 36);
    let with = |wanted: &str| begun.iter().filter(|(_, status)| status == wanted).count();
    assert!(with("HTTP/1.1 503") > 0);
    assert_eq!(with("HTTP/1.1 200") + with("HTTP/1.1 503"), begun.len());
    // contents are compared with their digests from 5 s on
    std::thread::sleep(Duration::from_secs(8));
    drop(begun);
    let path = format!("/v2/a.test/big/image/blobs/{}", written.large);
    let deadline = Instant::now() + Duration::from_secs(30);
    while get(server.address, &path).status != 200 {
        assert!(Instant::now() < deadline, "descriptors do not come back");
    }
    let status = get(server.address, "/status").json();
    assert_eq!(status["registry"]["mediumErrors"], 0, "{status}");
    let integrity = &status["registry"]["integrity"];
    assert_ne!(integrity["state"], "failed", "{status}");
}

#[test]
fn with_a_catalog_a_bad_blob_is_not_served_and_the_rest_is() {
    let dir = tempfile::tempdir().unwrap();
    let written = layout::write(dir.path());
    write_catalog(dir.path(), &catalog(dir.path()));
    // one blob of the wrong size, one manifest with a flipped bit
    std::fs::write(dir.path().join(written.large.blob_path()), "short").unwrap();
    let manifest = dir.path().join(written.docker.blob_path());
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&manifest, bytes).unwrap();

    let server = Server::over(dir.path());
    let status = |path: String| get(server.address, &path).status;
    assert_eq!(
        status(format!("/v2/a.test/big/image/blobs/{}", written.large)),
        404
    );
    assert_eq!(
        status(format!("/v2/library/app/manifests/{}", written.docker)),
        404
    );
    assert_eq!(status("/v2/a.test/docker/image/manifests/1".into()), 404);
    assert_eq!(status("/v2/library/app/manifests/1".into()), 200);
    let notices = get(server.address, "/status").json()["notices"].to_string();
    assert!(notices.contains(&written.large.to_string()), "{notices}");
    assert!(notices.contains("damaged"), "{notices}");
}

#[test]
fn a_partition_that_has_the_layout_in_its_haul_directory_is_served_too() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("haul");
    std::fs::create_dir(&inner).unwrap();
    layout::write(&inner);
    let server = Server::over(dir.path());
    assert_eq!(
        get(server.address, "/v2/library/app/manifests/1").status,
        200
    );
}

/// Neither at start nor when it takes the place of a blob later: the sandbox knows the haul's folder
/// alone, and a link may lead anywhere within it.
#[test]
fn a_blob_that_is_a_link_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let written = layout::write(dir.path());
    let blob = dir.path().join(written.large.blob_path());
    let outside = dir.path().join("outside");
    let whole = format!("/v2/a.test/big/image/blobs/{}", written.large);
    let server = Server::over(dir.path());
    assert_eq!(get(server.address, &whole).status, 200);
    std::fs::rename(&blob, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &blob).unwrap();
    for headers in [&[][..], &[("Range", "bytes=0-9")]] {
        let answer = request(server.address, "GET", &whole, headers);
        assert_eq!(answer.status, 500, "{headers:?}");
        assert_eq!(answer.code(), "UNKNOWN");
    }
    // nor is a pipe waited for
    std::fs::remove_file(&blob).unwrap();
    let made = Command::new("mkfifo").arg(&blob).status();
    assert!(made.unwrap().success());
    assert_eq!(get(server.address, &whole).status, 500);
    // what is a file again is served again
    std::fs::remove_file(&blob).unwrap();
    std::fs::rename(&outside, &blob).unwrap();
    assert_eq!(get(server.address, &whole).body, layout::large());
    drop(server);

    std::fs::rename(&blob, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &blob).unwrap();
    let said = error(dir.path());
    assert!(said.contains(&written.large.to_string()), "{said}");
}
