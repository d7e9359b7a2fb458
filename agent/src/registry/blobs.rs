//! `GET` and `HEAD /v2/NAME/blobs/DIGEST`.
//!
//! A digest names contents, so every repository of the haul answers for every blob of the haul.

use axum::http::HeaderValue;
use axum::http::request::Parts;
use axum::response::Response;
use image_layout::Digest;

use super::content::{self, Content};
use super::errors::{Code, Error};
use super::manifests::{scope, with_namespace};
use super::query::Query;
use super::router::NotADigest;
use super::state::Registry;

/// Answers with a blob.
pub(super) async fn answer(
    registry: &Registry,
    request: &Parts,
    name: &str,
    query: &Query,
    digest: Result<Digest, NotADigest>,
) -> Result<Response, Error> {
    let scope = scope(registry, name, query)?;
    let digest = digest.map_err(|NotADigest| Error::not_a_digest())?;
    let size = registry.index.blob(&digest).ok_or_else(|| {
        Error::not_found(Code::BlobUnknown, "the haul has no blob of this digest")
    })?;
    let manifest = registry.index.manifest(&digest);
    let content = Content {
        digest,
        size,
        media_type: HeaderValue::from_static("application/octet-stream"),
        bytes: manifest.and_then(|manifest| manifest.bytes.clone()),
        by_digest: true,
    };
    let response = content::answer(registry, request, content)
        .await
        .map_err(|why| why.error(Code::BlobUnknown))?;
    Ok(with_namespace(response, &scope))
}
