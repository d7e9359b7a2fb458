//! Hauls in a tar archive, served where they lie.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use image_layout::Digest;
use serde_json::json;

use crate::client::{connect, get, head, request};
use crate::layout::{LAYER, Writer, large};
use crate::server::{Server, command};

/// An archive of a small haul, and the directory it was made of.
struct Tar {
    dir: tempfile::TempDir,
    path: PathBuf,
    large: Digest,
}

fn pack() -> Tar {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    std::fs::create_dir(&layout).unwrap();
    let mut writer = Writer::new(&layout);
    let layers = [
        writer.descriptor(LAYER, &large()),
        writer.descriptor(LAYER, b""),
    ];
    writer.named("a.test/big/image:1", "", json!({"layers": layers}));
    writer.named("docker.io/library/app:1", "hub", json!({}));
    writer.named("b.test/library/app:1", "other", json!({}));
    let file = (
        "application/vnd.content.hauler.file.local.config.v1+json",
        "{}",
    );
    writer.content("hauler/notes:latest", file, "Notes.txt", "notes");
    writer.finish();
    std::fs::write(layout.join("stray"), "stray").unwrap();
    let path = dir.path().join("haul.tar");
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    tar.append_dir_all(".", &layout).unwrap();
    tar.into_inner().unwrap();
    Tar {
        path,
        large: Digest::sha256_of(&large()),
        dir,
    }
}

/// The error of a server that can't start.
fn error(path: &Path) -> String {
    let output = command(path).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_archive_is_served_as_the_directory_it_was_made_of() {
    let tar = pack();
    let here = Server::over(&tar.path);
    let there = Server::over(&tar.dir.path().join("layout"));
    let large = format!("/v2/a.test/big/image/blobs/{}", tar.large);
    let paths = [
        "/v2/_catalog",
        "/v2/library/app/manifests/1",
        "/v2/b.test/library/app/manifests/1",
        "/v2/big/image/tags/list",
        "/files/?format=json",
        "/files/Notes.txt",
        large.as_str(),
    ];
    for path in paths {
        let (one, other) = (get(here.address, path), get(there.address, path));
        assert_eq!((one.status, other.status), (200, 200), "{path}");
        assert!(one.body == other.body, "{path}");
        let (one, other) = (head(here.address, path), head(there.address, path));
        assert_eq!(
            one.header("content-length"),
            other.header("content-length"),
            "{path}"
        );
    }
    let range = [("Range", "bytes=2999999-")];
    let answer = request(here.address, "GET", &large, &range);
    assert_eq!(answer.status, 206);
    assert!(answer.body == crate::layout::large()[2_999_999..]);
}

#[test]
fn all_downloads_share_one_descriptor() {
    let tar = pack();
    let server = Server::over(&tar.path);
    let request = format!(
        "GET /v2/a.test/big/image/blobs/{} HTTP/1.1\r\nHost: x\r\n\r\n",
        tar.large
    );
    let mut streams: Vec<_> = (0..20).map(|_| connect(server.address)).collect();
    for stream in &mut streams {
        stream.write_all(request.as_bytes()).unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let open = open.filter(|entry| {
        let target = std::fs::read_link(entry.as_ref().unwrap().path());
        target.is_ok_and(|target| target == tar.path)
    });
    assert_eq!(open.count(), 1);
}

#[test]
fn a_compressed_archive_is_refused_with_the_command_that_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("haul.tar.zst");
    std::fs::write(&path, [0x28, 0xb5, 0x2f, 0xfd, 4, 0, 1, 0, 0]).unwrap();
    let said = error(&path);
    assert!(said.contains("it is compressed"), "{said}");
    let command = format!("`zstd -d {}`", path.display());
    assert!(said.contains(&command), "{said}");
}

#[test]
fn what_is_no_archive_and_what_is_cut_off_are_refused_at_start() {
    let tar = pack();
    let bytes = std::fs::read(&tar.path).unwrap();
    let path = tar.dir.path().join("cut.tar");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let said = error(&path);
    assert!(
        said.contains("truncated") || said.contains("is not in the haul"),
        "{said}"
    );
    std::fs::write(&path, "hello").unwrap();
    let said = error(&path);
    assert!(
        said.contains("neither a directory nor a tar archive"),
        "{said}"
    );
}

#[test]
fn an_archive_that_is_cut_or_changed_while_served_gives_errors_and_never_wrong_bytes() {
    let tar = pack();
    let server = Server::over(&tar.path);
    let blob = format!("/v2/a.test/big/image/blobs/{}", tar.large);
    assert_eq!(get(server.address, &blob).status, 200);
    let file = File::options().write(true).open(&tar.path).unwrap();
    // the same length, other bytes
    let mut other = std::fs::read(&tar.path).unwrap();
    other.reverse();
    std::fs::write(&tar.path, other).unwrap();
    assert_eq!(get(server.address, &blob).status, 500);
    file.set_len(1000).unwrap();
    assert_eq!(get(server.address, &blob).status, 500);
    // what is in memory stays
    assert_eq!(
        get(server.address, "/v2/library/app/manifests/1").status,
        200
    );
    let notice = get(server.address, "/status");
    assert_eq!(notice.status, 200);
}
