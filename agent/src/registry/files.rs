//! `/files/`: the haul's files and charts as plain downloads, under their true names.
//!
//! Two files of one name are both there: `/files/NAME` is the last of them, `/files/DIGEST/NAME`
//! is each. Contents are handed out as attachments that no browser runs.

use std::collections::BTreeMap;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use image_layout::Digest;
use image_layout::catalog::{Artifact, ArtifactKind};
use image_layout::text::is_harmless;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::answers;
use super::content::{self, Content};
use super::query::Query;
use super::state::Registry;
use super::{address, page, status};

/// Bytes of a file's name with its folders.
const NAME_BYTES: usize = 255;

/// What may stand in `filename*` (RFC 8187) as it is.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// What may stand in a path as it is.
const PATH: &AsciiSet = &COMPONENT.remove(b'/');

/// A file to download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HaulFile {
    /// A name that is safe as a file's name anywhere.
    pub(super) name: String,
    /// `file` or `chart`.
    pub(super) kind: ArtifactKind,
    /// Its size in bytes.
    pub(super) size: u64,
    /// Its digest.
    pub(super) digest: Digest,
    /// Its path on this server; unique among all files.
    pub(super) url: String,
}

/// All files, sorted by name.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: Vec<HaulFile>,
    /// Positions of the files of one name.
    by_name: BTreeMap<String, Vec<usize>>,
}

impl Files {
    /// The files among artifacts whose contents are there.
    pub(super) fn of(artifacts: &[Artifact], size: impl Fn(&Digest) -> Option<u64>) -> Files {
        let mut by_name: BTreeMap<String, Vec<HaulFile>> = BTreeMap::new();
        for artifact in artifacts {
            let downloads = matches!(artifact.kind, ArtifactKind::File | ArtifactKind::Chart);
            let Some(content) = artifact.content.filter(|_| downloads) else {
                continue;
            };
            let Some(size) = size(&content.digest) else {
                continue;
            };
            let path = artifact.repository.as_str();
            let last = path.rsplit('/').next().unwrap_or(path);
            let name = safe_name(artifact.title.as_deref().unwrap_or(last));
            let same = by_name.entry(name.clone()).or_default();
            if same.iter().any(|file| file.digest == content.digest) {
                continue;
            }
            same.push(HaulFile {
                url: String::new(),
                kind: artifact.kind,
                digest: content.digest,
                name,
                size,
            });
        }
        let mut files = Files::default();
        for (name, same) in by_name {
            let encoded = utf8_percent_encode(&name, PATH).to_string();
            let last = same.len() - 1;
            for (nth, mut file) in same.into_iter().enumerate() {
                file.url = match nth == last {
                    true => format!("/files/{encoded}"),
                    false => format!("/files/{}/{encoded}", file.digest),
                };
                let at = files.files.len();
                files.by_name.entry(name.clone()).or_default().push(at);
                files.files.push(file);
            }
        }
        files
    }

    /// All files, sorted by name.
    pub(super) fn all(&self) -> &[HaulFile] {
        &self.files
    }

    fn find(&self, digest: Option<&Digest>, name: &str) -> Option<&HaulFile> {
        let same = self.by_name.get(name)?;
        let mut same = same.iter().rev().filter_map(|&at| self.files.get(at));
        same.find(|file| digest.is_none_or(|digest| file.digest == *digest))
    }
}

/// A name that can't leave its directory, hide, or end a header: what a haul calls a file is the
/// word of whoever made the haul. Folders stay, as Hauler serves them: `sub/dir/install.sh`.
fn safe_name(title: &str) -> String {
    let mut name = String::new();
    for component in title.split('/') {
        let component = safe_component(component);
        if !component.is_empty()
            && name.len() + usize::from(!name.is_empty()) + component.len() <= NAME_BYTES
        {
            if !name.is_empty() {
                name.push('/');
            }
            name.push_str(&component);
        }
    }
    match name.as_str() {
        "" => "unnamed".to_owned(),
        _ => name,
    }
}

fn safe_component(text: &str) -> String {
    let safe = |c: char| match c {
        '\\' => '_',
        c if !is_harmless(c) => '_',
        c => c,
    };
    let mut component = String::new();
    for c in text.trim().chars().map(safe) {
        if component.len() + c.len_utf8() > NAME_BYTES {
            break;
        }
        component.push(c);
    }
    match component.as_str() {
        "." => String::new(),
        ".." => "_".to_owned(),
        // else it could be taken for the digest that a path may begin with
        digest if digest.parse::<Digest>().is_ok() => digest.replace(':', "_"),
        _ => component,
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    kind: ArtifactKind,
    size: u64,
    sha256: Option<String>,
    digest: &'a Digest,
    url: &'a str,
}

#[derive(Serialize)]
struct Listing<'a> {
    files: Vec<Listed<'a>>,
}

/// `/files/`: a page for people, JSON for programs (`Accept: application/json` or `?format=json`).
pub(super) fn list(registry: &Registry, request: &Parts, query: &Query) -> Response {
    let files = registry.index.files.all();
    if !wants_json(&request.headers, query) {
        let status = status::current(registry);
        let endpoint = address::endpoint(registry, request, status.as_ref());
        let mut response = page::files(files, &endpoint, query);
        vary(&mut response);
        return response;
    }
    let listed = |file| {
        let HaulFile {
            name,
            kind,
            size,
            digest,
            url,
        }: &HaulFile = file;
        Listed {
            name,
            kind: *kind,
            size: *size,
            sha256: matches!(digest, Digest::Sha256(_)).then(|| digest.hex()),
            digest,
            url,
        }
    };
    let listing = Listing {
        files: files.iter().map(listed).collect(),
    };
    let mut response = answers::json(StatusCode::OK, &listing);
    vary(&mut response);
    response
}

fn vary(response: &mut Response) {
    let accept = HeaderValue::from_static("Accept");
    response.headers_mut().insert(header::VARY, accept);
}

/// Whether the answer is to be JSON: `?format=json`, or `Accept: application/json` alone.
pub(super) fn wants_json(headers: &HeaderMap, query: &Query) -> bool {
    match &query.format {
        Some(format) => format == "json",
        None => accepts(headers, "application/json") && !wants_html(headers),
    }
}

/// Whether a browser asks.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    accepts(headers, "text/html")
}

fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter();
    accepted.any(|value| value.to_str().is_ok_and(|value| value.contains(media_type)))
}

/// `/files/NAME` and `/files/DIGEST/NAME`.
pub(super) async fn answer(
    registry: &Registry,
    request: &Parts,
    digest: Option<Digest>,
    name: &str,
) -> Response {
    let Some(file) = registry.index.files.find(digest.as_ref(), name) else {
        let line = "the haul has no such file; /files/ lists what it has";
        return answers::text(StatusCode::NOT_FOUND, line);
    };
    let content = Content {
        digest: file.digest,
        size: file.size,
        media_type: HeaderValue::from_static("application/octet-stream"),
        bytes: None,
        by_digest: digest.is_some(),
    };
    let mut response = match content::answer(registry, request, content).await {
        Ok(response) => response,
        Err(why) => return why.text(),
    };
    let headers = response.headers_mut();
    let last = file.name.rsplit('/').next().unwrap_or(&file.name);
    if let Ok(disposition) = HeaderValue::try_from(disposition(last)) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    let (algorithm, bytes) = match &file.digest {
        Digest::Sha256(bytes) => ("sha-256", bytes.as_slice()),
        Digest::Sha512(bytes) => ("sha-512", bytes.as_slice()),
    };
    let sum = base64(bytes);
    // RFC 9530, and its predecessor RFC 3230
    if let Ok(value) = HeaderValue::try_from(format!("{algorithm}=:{sum}:")) {
        headers.insert("repr-digest", value);
    }
    if let Ok(value) = HeaderValue::try_from(format!("{algorithm}={sum}")) {
        headers.insert("digest", value);
    }
    response
}

/// RFC 6266: a name for old clients and the true one.
fn disposition(name: &str) -> String {
    let plain = |c: char| match c {
        '"' | '\\' | '%' => '_',
        c if c.is_ascii_graphic() || c == ' ' => c,
        _ => '_',
    };
    let fallback: String = name.chars().map(plain).collect();
    let encoded = utf8_percent_encode(name, COMPONENT);
    format!("attachment; filename=\"{fallback}\"; filename*=UTF-8''{encoded}")
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = (bits >> shift & 63) as usize;
            let digit = ALPHABET.get(digit).copied().unwrap_or(b'=');
            text.push(if at > group.len() {
                '='
            } else {
                char::from(digit)
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base64_is_as_in_the_standard() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    /// Names of packages are long.
    const LONG: &str = "container-selinux-2.229.0-2.module+el8.10.0+21962+8143777b.noarch.rpm.asc";

    #[test]
    fn hostile_titles_become_harmless_names() {
        for (title, name) in [
            ("Get-Lab.SH", "Get-Lab.SH"),
            ("my file (1).txt", "my file (1).txt"),
            ("sub/dir/install.sh", "sub/dir/install.sh"),
            ("../../etc/passwd", "_/_/etc/passwd"),
            ("/etc//./passwd", "etc/passwd"),
            ("..", "_"),
            (".", "unnamed"),
            ("", "unnamed"),
            ("a\r\nSet-Cookie: x", "a__Set-Cookie: x"),
            ("a\\b", "a_b"),
            ("\u{202e}gpj.exe", "_gpj.exe"),
            (LONG, LONG),
        ] {
            assert_eq!(safe_name(title), name);
        }
        assert_eq!(safe_name(&"a".repeat(NAME_BYTES)).len(), NAME_BYTES);
        assert!(safe_name(&"ä/".repeat(300)).len() <= NAME_BYTES);
        assert!(safe_name(&"ä".repeat(300)).len() <= NAME_BYTES);
        let digest = Digest::sha256_of(b"");
        assert!(!safe_name(&format!("{digest}/x")).starts_with(&digest.to_string()));
    }

    proptest! {
        #[test]
        fn every_name_makes_a_header_and_finds_its_file(title in "\\PC{0,300}|[\\x00-\\x7f]{0,40}") {
            let name = safe_name(&title);
            prop_assert!(!name.is_empty() && name.len() <= NAME_BYTES);
            prop_assert!(name.split('/').all(|part| !matches!(part, "" | "." | "..")));
            prop_assert!(HeaderValue::try_from(disposition(&name)).is_ok());
            let url = format!("/files/{}", utf8_percent_encode(&name, PATH));
            prop_assert_eq!(
                super::super::router::Route::parse(&url),
                super::super::router::Route::File(name)
            );
        }
    }
}
