//! `GET` and `HEAD /v2/NAME/manifests/REFERENCE`.
//!
//! Served as the bytes the haul has, whatever `Accept` says: a registry that answers 404 to a
//! client that forgot a type helps nobody.

use axum::http::request::Parts;
use axum::response::Response;
use image_layout::Digest;

use super::content::{self, Content};
use super::errors::{Code, Error};
use super::index::{NameError, Scope, TagError};
use super::query::Query;
use super::router::ManifestName;
use super::state::Registry;

/// Looks up the repositories that a request's name means.
pub(super) fn scope<'a>(
    registry: &'a Registry,
    name: &str,
    query: &Query,
) -> Result<Scope<'a>, Error> {
    let ns = query.ns.as_deref();
    registry.index.scope(name, ns).map_err(|error| match error {
        NameError::Invalid => Error::new(
            axum::http::StatusCode::BAD_REQUEST,
            Code::NameInvalid,
            "a repository has lower-case letters and digits, separated by . _ - or /",
        ),
        NameError::UnknownNamespace => Error::not_found(
            Code::NameUnknown,
            "the haul has nothing of the registry that ns names; / lists what it has",
        ),
        NameError::Unknown => Error::not_found(
            Code::NameUnknown,
            "the haul has no such repository; / lists what it has",
        ),
    })
}

/// What to say where several hosts have a repository and none is meant.
pub(super) fn ambiguous(full_names: &[String]) -> Error {
    let message = format!(
        "several registries have this; say which: {}",
        full_names.join(", ")
    );
    Error::not_found(Code::NameUnknown, message)
}

/// Adds the `OCI-Namespace` header where `ns` chose the repository.
pub(super) fn with_namespace(mut response: Response, scope: &Scope<'_>) -> Response {
    if let Some(namespace) = scope.namespace {
        response.headers_mut().insert(
            axum::http::HeaderName::from_static("oci-namespace"),
            namespace.clone(),
        );
    }
    response
}

/// Answers with a manifest.
pub(super) async fn answer(
    registry: &Registry,
    request: &Parts,
    name: &str,
    query: &Query,
    wanted: ManifestName,
) -> Result<Response, Error> {
    let scope = scope(registry, name, query)?;
    let unknown = |message: &str| Error::not_found(Code::ManifestUnknown, message);
    let (digest, by_digest): (Digest, bool) = match wanted {
        ManifestName::Digest(digest) => (digest, true),
        ManifestName::Tag(tag) => match scope.tag(&tag) {
            Ok(digest) => (digest, false),
            Err(TagError::Unknown) => {
                return Err(unknown("the haul has no such tag in this repository"));
            }
            Err(TagError::Ambiguous(full_names)) => return Err(ambiguous(&full_names)),
        },
        ManifestName::NotADigest => return Err(Error::not_a_digest()),
        // OCI's conformance suite asks for a tag that can't be and wants 404
        ManifestName::NotATag => return Err(unknown("no tag can be called so")),
    };
    let manifest = registry
        .index
        .manifest(&digest)
        .ok_or_else(|| unknown("the haul has no manifest of this digest"))?;
    let content = Content {
        digest,
        size: manifest.size,
        media_type: manifest.media_type.clone(),
        bytes: manifest.bytes.clone(),
        by_digest,
    };
    let response = content::answer(registry, request, content)
        .await
        .map_err(|why| why.error(Code::ManifestUnknown))?;
    Ok(with_namespace(response, &scope))
}
