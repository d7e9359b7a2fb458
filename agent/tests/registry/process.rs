//! `agent serve` as a program: its line, its end, its errors.

use std::path::Path;
use std::process::{Command, Stdio};

use image_layout::Digest;

use crate::client::{get, request};
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

#[test]
fn with_a_catalog_a_bad_blob_is_not_served_and_the_rest_is() {
    let dir = tempfile::tempdir().unwrap();
    let written = layout::write(dir.path());
    let index = std::fs::read(dir.path().join("index.json")).unwrap();
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
    let catalog = image_layout::catalog::Catalog::build(&index, &Blobs(dir.path())).unwrap();
    let catalog = serde_json::to_vec(&catalog).unwrap();
    std::fs::write(dir.path().join("catalog.json"), catalog).unwrap();
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
