//! Answers with bytes that a digest names: manifests, blobs, files.
//!
//! Always with `Content-Length`, never encoded or chunked, whole or one range, with the digest as
//! strong entity tag.

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use image_layout::Digest;

use super::answers;
use super::conditional::{self, Condition};
use super::errors::{Code, Error, refuse};
use super::medium::{FilePart, is_exhausted};
use super::range::Wanted;
use super::state::Registry;
use super::stream::FileBody;

/// `Docker-Content-Digest` (OCI distribution-spec, "Pulling manifests").
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Something to hand out.
pub(super) struct Content {
    /// Names the bytes.
    pub(super) digest: Digest,
    /// How many there are.
    pub(super) size: u64,
    /// `Content-Type`.
    pub(super) media_type: HeaderValue,
    /// The bytes, if they are in memory; else they are read from the layout's blob.
    pub(super) bytes: Option<Bytes>,
    /// Whether it was asked for by its digest, so that the answer is the same for ever.
    pub(super) by_digest: bool,
}

/// Why contents can't be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unavailable {
    /// The medium failed.
    MediumFailed,
    /// The process, or the machine, can't open one more file just now.
    Exhausted,
    /// They are known to be others than their digest says.
    Damaged,
}

impl Unavailable {
    /// The answer in the words of the protocol; `unknown` is the code for what isn't there. The log
    /// and the node's console say which and why.
    pub(super) fn error(self, unknown: Code) -> Error {
        let (status, code, why) = self.words(unknown);
        Error::new(status, code, why)
    }

    /// The answer for a person.
    pub(super) fn text(self) -> Response {
        let (status, code, why) = self.words(Code::Unknown);
        refuse(false, status, code, why)
    }

    fn words(self, unknown: Code) -> (StatusCode, Code, &'static str) {
        match self {
            Unavailable::MediumFailed => (
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::Unknown,
                "the medium that holds this can't be read",
            ),
            Unavailable::Exhausted => (
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Unavailable,
                "too many files are open here; ask again soon",
            ),
            Unavailable::Damaged => (
                StatusCode::NOT_FOUND,
                unknown,
                "the haul has this, but damaged: its bytes have another digest",
            ),
        }
    }
}

/// Answers a GET or HEAD.
pub(super) async fn answer(
    registry: &Registry,
    request: &Parts,
    content: Content,
) -> Result<Response, Unavailable> {
    if content.bytes.is_none() && registry.integrity.is_bad(&content.digest) {
        return Err(Unavailable::Damaged);
    }
    let digest = content.digest.to_string();
    let etag = format!("\"{digest}\"");
    let mut headers = HeaderMap::new();
    // digests are ASCII: these conversions can't fail
    if let (Ok(digest), Ok(etag)) = (HeaderValue::try_from(&digest), HeaderValue::try_from(&etag)) {
        headers.insert(DOCKER_CONTENT_DIGEST, digest);
        headers.insert(header::ETAG, etag);
    }
    let lifetime = match content.by_digest {
        true => HeaderValue::from_static("max-age=31536000, immutable"),
        false => HeaderValue::from_static("no-cache"),
    };

    let mut response = match conditional::weigh(&request.headers, &etag) {
        Condition::NotModified => answers::empty(StatusCode::NOT_MODIFIED),
        Condition::Failed => answers::empty(StatusCode::PRECONDITION_FAILED),
        Condition::Proceed => {
            headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            match wanted(request, &etag, content.size) {
                Wanted::Nothing => {
                    let all = format!("bytes */{}", content.size);
                    headers.extend(HeaderValue::try_from(all).map(|v| (header::CONTENT_RANGE, v)));
                    answers::empty(StatusCode::RANGE_NOT_SATISFIABLE)
                }
                Wanted::Part { first, last } => {
                    let part = format!("bytes {first}-{last}/{}", content.size);
                    headers.extend(HeaderValue::try_from(part).map(|v| (header::CONTENT_RANGE, v)));
                    headers.insert(header::CONTENT_TYPE, content.media_type.clone());
                    let length = last - first + 1;
                    headers.insert(header::CONTENT_LENGTH, length.into());
                    let mut response =
                        Response::new(body(registry, request, &content, first, length).await?);
                    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                    response
                }
                Wanted::Whole => {
                    headers.insert(header::CONTENT_TYPE, content.media_type.clone());
                    headers.insert(header::CONTENT_LENGTH, content.size.into());
                    Response::new(body(registry, request, &content, 0, content.size).await?)
                }
            }
        }
    };
    response.headers_mut().extend(headers);
    // what was wrong with a request must not be kept for a year
    if response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED {
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, lifetime);
    }
    Ok(response)
}

/// `Range` is defined for GET alone (RFC 9110, section 14.2).
fn wanted(request: &Parts, etag: &str, size: u64) -> Wanted {
    let mut ranges = request.headers.get_all(header::RANGE).iter();
    match (ranges.next(), ranges.next()) {
        (Some(range), None)
            if request.method == Method::GET
                && conditional::range_counts(&request.headers, etag) =>
        {
            range
                .to_str()
                .map_or(Wanted::Whole, |range| Wanted::parse(range, size))
        }
        _ => Wanted::Whole,
    }
}

async fn body(
    registry: &Registry,
    request: &Parts,
    content: &Content,
    first: u64,
    length: u64,
) -> Result<Body, Unavailable> {
    // a HEAD never touches the medium
    if request.method == Method::HEAD || length == 0 {
        return Ok(Body::empty());
    }
    if let Some(bytes) = &content.bytes {
        let start = usize::try_from(first).unwrap_or(usize::MAX);
        let end = usize::try_from(first.saturating_add(length)).unwrap_or(usize::MAX);
        let part = start <= end && end <= bytes.len();
        return Ok(Body::from(match part {
            true => bytes.slice(start..end),
            false => Bytes::new(),
        }));
    }
    let (layout, digest, size) = (Arc::clone(&registry.layout), content.digest, content.size);
    // opening may wait for the medium
    let medium = Arc::clone(&registry.medium);
    let opened = tokio::task::spawn_blocking(move || {
        let _wait = medium.waits();
        match layout.as_ref() {
            Some(layout) => layout.open_blob(&digest, size),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    });
    let opened = opened
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    match opened {
        Ok(blob) => {
            let source = Arc::new(FilePart::of(blob));
            let (medium, integrity) = (&registry.medium, &registry.integrity);
            let body = FileBody::new(source, digest, first, length, medium, integrity);
            Ok(Body::new(body))
        }
        Err(error) if is_exhausted(&error) => {
            registry.medium.complain(&digest, &error);
            Err(Unavailable::Exhausted)
        }
        Err(error) => {
            registry.medium.failed(&digest, &error);
            Err(Unavailable::MediumFailed)
        }
    }
}
