//! What holds for every input: one function a fuzz target of `fuzz/`, all of them run by `make test`
//! with random input, too.
//!
//! - Nothing panics.
//! - No answer is a 5xx. Every blob of these hauls lies in memory: there is no medium to fail.
//! - An answer of status 200 with a digest in its header has bytes of that digest, and one of
//!   status 206 has the part of them that it says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a broken promise is found by a panic

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use image_layout::Digest;
use image_layout::catalog::BlobSource as _;
use image_layout::digest::Hasher;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::runtime::Runtime;

use super::handler;
use super::layout::Layout;
use super::query::{NotANumber, Query};
use super::range::Wanted;
use super::router::Route;
use super::state::Registry;
use super::status::StatusSource;

/// Bytes of a blob that is asked for; what is larger was not put there by these functions.
const BLOB_BYTES: u64 = 1 << 20;

/// The router, by the path of a request's target.
pub fn router(path: &str) {
    match Route::parse(path) {
        Route::File(name) | Route::FileByDigest(_, name) => {
            assert!(name.split('/').all(|part| !matches!(part, "" | "." | "..")));
            assert!(!name.chars().any(char::is_control));
        }
        Route::Blob(name, _) | Route::Manifest(name, _) | Route::Tags(name) => {
            assert!(!name.chars().any(char::is_control));
        }
        _ => {}
    }
}

/// The `Range` header, for a representation of `size` bytes.
pub fn range(value: &str, size: u64) {
    if let Wanted::Part { first, last } = Wanted::parse(value, size) {
        assert!(first <= last && last < size);
    }
}

/// The query: what was understood of it is understood again when it is said anew.
pub fn query(raw: &str) {
    let query = Query::parse(raw);
    assert_eq!(Query::parse(&encoded(&query)), query, "{raw}");
}

/// What must not stand in a value as it is. A plus may, and means itself.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'+');

/// A query string with everything that a query has.
fn encoded(query: &Query) -> String {
    let number = |n: &Result<usize, NotANumber>| n.map_or("x".to_owned(), |n| n.to_string());
    let one = |key, value: Option<String>| value.map(|value| (key, value));
    let types = query.artifact_types.iter();
    let pairs = one("ns", query.ns.clone())
        .into_iter()
        .chain(one("n", query.n.as_ref().map(number)))
        .chain(one("last", query.last.clone()))
        .chain(types.map(|wanted| ("artifactType", wanted.clone())))
        .chain(one("format", query.format.clone()))
        .chain(one("page", query.page.map(|page| page.to_string())))
        .map(|(key, value)| format!("{key}={}", utf8_percent_encode(&value, VALUE)));
    pairs.collect::<Vec<_>>().join("&")
}

/// The index of a tar archive: every blob of it lies within the file.
pub fn archive(bytes: &[u8]) {
    let Ok(layout) = Layout::in_archive(Path::new("haul.tar"), memory(bytes)) else {
        return;
    };
    let Ok(catalog) = layout.catalog() else {
        return;
    };
    for blob in &catalog.blobs {
        let size = layout
            .size(&blob.digest)
            .expect("a catalogued blob is there");
        assert!(size <= bytes.len() as u64);
        let read = layout
            .read_blob(&blob.digest, size)
            .expect("it can be read");
        assert_eq!(read.len() as u64, size);
    }
}

/// The loader of layouts, and everything that can be asked for of what it loads.
///
/// `input` is the files of a layout, each ended by a line `--`: blobs, and last `index.json`, or
/// `catalog.json` if it has `"format"`. In it `@N` stands for digest and size of the blob N before
/// it, as a descriptor has them, since nothing random has the digest of anything.
pub fn layout(input: &str) {
    let mut described: Vec<(String, String)> = Vec::new();
    let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
    let files: Vec<&str> = input.split("\n--\n").take(64).collect();
    for (nth, file) in files.iter().enumerate() {
        let mut text = (*file).to_owned();
        for (name, descriptor) in described.iter().rev() {
            text = text.replace(name, descriptor);
            if text.len() > 1 << 20 {
                return;
            }
        }
        if nth + 1 == files.len() {
            let name = match text.contains("\"format\"") {
                true => "catalog.json",
                false => "index.json",
            };
            entries.push((name.to_owned(), text.into_bytes()));
            break;
        }
        let digest = Digest::sha256_of(text.as_bytes());
        let descriptor = format!("\"digest\":\"{digest}\",\"size\":{}", text.len());
        described.push((format!("@{nth}"), descriptor));
        entries.push((digest.blob_path(), text.into_bytes()));
    }
    let Ok(layout) = Layout::in_archive(Path::new("haul.tar"), memory(&pack(&entries))) else {
        return;
    };
    let Ok(catalog) = layout.catalog() else {
        return;
    };
    let digests: Vec<Digest> = catalog.blobs.iter().map(|blob| blob.digest).collect();
    let names: Vec<String> = catalog
        .artifacts
        .iter()
        .map(|a| a.repository.to_string())
        .collect();
    let Ok((registry, _)) = Registry::over(layout, StatusSource::Own(Box::default())) else {
        return;
    };
    let registry = Arc::new(registry);
    for path in [
        "/",
        "/status",
        "/files/",
        "/files/?format=json",
        "/v2/_catalog",
    ] {
        ask(&registry, path, &[]);
    }
    for name in names.iter().take(8) {
        ask(&registry, &format!("/v2/{name}/tags/list"), &[]);
        for digest in digests.iter().take(8) {
            for kind in ["manifests", "blobs", "referrers"] {
                ask(&registry, &format!("/v2/{name}/{kind}/{digest}"), &[]);
            }
        }
    }
}

/// Hosts of each kind that the page has words of its own for.
const PLAIN_HOSTS: [&str; 3] = ["haul.test:5000", "localhost", "[fd00::1]:5000"];

/// The `Host` header, which the page shows: no host brings markup of its own.
pub fn host(value: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(value) else {
        return;
    };
    let marks = |host: HeaderValue| {
        let page = ask(small(), "/", &[(header::HOST, host)]);
        page.iter().filter(|byte| **byte == b'<').count()
    };
    let plain = PLAIN_HOSTS.map(|host| marks(HeaderValue::from_static(host)));
    assert!(plain.iter().any(|plain| marks(value.clone()) <= *plain));
}

/// A whole request: method, target and headers as HTTP has them, one a line.
pub fn request(text: &str) {
    respond(text);
}

/// What a request is answered with, if it is one.
fn respond(text: &str) -> Option<StatusCode> {
    let mut lines = text.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (
        first.next().unwrap_or_default(),
        first.next().unwrap_or_default(),
    );
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET))
        .uri(target);
    for line in lines.take(20) {
        if let Some((name, value)) = line.split_once(": ") {
            request = request.header(name, value);
        }
    }
    let request = request.body(Body::empty()).ok()?;
    Some(send(small(), request).0)
}

/// A file in memory.
fn memory(bytes: &[u8]) -> File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("haul", flags).expect("memory"));
    file.write_all(bytes).expect("memory");
    file.rewind().expect("memory");
    file
}

fn pack(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, data) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        tar.append_data(&mut header, name, data.as_slice())
            .expect("a short name");
    }
    tar.into_inner().expect("memory")
}

/// A haul with one image and one file, `notes.txt`.
fn small() -> &'static Arc<Registry> {
    static SMALL: OnceLock<Arc<Registry>> = OnceLock::new();
    SMALL.get_or_init(|| {
        let mut entries = Vec::new();
        let mut blob = |text: &str| {
            let digest = Digest::sha256_of(text.as_bytes());
            entries.push((digest.blob_path(), text.as_bytes().to_vec()));
            format!("\"digest\":\"{digest}\",\"size\":{}", text.len())
        };
        let config = blob("{}");
        let layer = blob("layer");
        let manifest = blob(&format!(
            "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\"a/b\",{config}}},\
             \"layers\":[{{\"mediaType\":\"c/d\",{layer}}}]}}"
        ));
        let text = blob("notes that are a little longer");
        let file = blob(&format!(
            "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\
             \"application/vnd.content.hauler.file.local.config.v1+json\",{config}}},\
             \"layers\":[{{\"mediaType\":\"c/d\",{text},\"annotations\":{{\
             \"org.opencontainers.image.title\":\"notes.txt\"}}}}]}}"
        ));
        let index = format!(
            "{{\"manifests\":[{{\"mediaType\":\"a/b\",{manifest},\"annotations\":{{\
             \"io.containerd.image.name\":\"a.test/app:1\",\
             \"org.opencontainers.image.ref.name\":\"app:1\"}}}},\
             {{\"mediaType\":\"a/b\",{file},\"annotations\":{{\
             \"org.opencontainers.image.ref.name\":\"hauler/notes.txt:latest\"}}}}]}}"
        );
        entries.push(("index.json".to_owned(), index.into_bytes()));
        let layout = Layout::in_archive(Path::new("haul.tar"), memory(&pack(&entries)));
        let (registry, _) =
            Registry::over(layout.expect("a haul"), StatusSource::Own(Box::default()))
                .expect("a haul");
        Arc::new(registry)
    })
}

fn ask(
    registry: &Arc<Registry>,
    target: &str,
    headers: &[(header::HeaderName, HeaderValue)],
) -> Vec<u8> {
    let mut request = Request::builder().uri(target);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    match request.body(Body::empty()) {
        Ok(request) => send(registry, request).1,
        Err(_) => Vec::new(),
    }
}

/// Sends a request and sees that what holds for every answer holds for its answer.
fn send(registry: &Arc<Registry>, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime")
    });
    let shown = format!("{request:?}");
    let get = request.method() == Method::GET;
    let (parts, body) = runtime.block_on(async {
        let response = handler::handle(State(Arc::clone(registry)), request).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body");
        (parts, body.to_bytes())
    });
    assert!(parts.status.as_u16() < 500, "{shown}: {}", parts.status);
    let said = |name| {
        parts
            .headers
            .get(name)
            .map(|v: &HeaderValue| v.to_str().unwrap())
    };
    if get && parts.status == StatusCode::PARTIAL_CONTENT {
        let range = said("content-range").unwrap();
        let (part, _) = range["bytes ".len()..].split_once('/').unwrap();
        let (first, last) = part.split_once('-').unwrap();
        let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
        assert_eq!(body.len() as u64, last - first + 1, "{shown}");
        if body.len() as u64 <= BLOB_BYTES {
            check_part(
                registry,
                said("docker-content-digest"),
                first,
                &body,
                &shown,
            );
        }
    }
    let digest = parts.headers.get("docker-content-digest");
    if get
        && parts.status == StatusCode::OK
        && body.len() as u64 <= BLOB_BYTES
        && let Some(digest) = digest
    {
        let digest: Digest = digest.to_str().unwrap().parse().unwrap();
        let mut hasher = Hasher::like(&digest);
        hasher.update(&body);
        assert_eq!(hasher.finish(), digest, "{shown}");
    }
    (parts.status, body.to_vec())
}

/// Compares a part of a blob with what lies in the haul.
fn check_part(registry: &Registry, digest: Option<&str>, first: u64, part: &[u8], shown: &str) {
    let digest: Digest = digest.unwrap().parse().unwrap();
    let (Some(layout), Some(size)) = (registry.layout.as_ref(), registry.index.blob(&digest))
    else {
        panic!("{shown}: {digest} is not in the haul");
    };
    let whole = layout.read_blob(&digest, size).unwrap();
    let first = usize::try_from(first).unwrap();
    assert!(whole[first..first + part.len()] == *part, "{shown}");
}

#[cfg(test)]
mod tests;
