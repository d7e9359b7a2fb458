//! `GET /v2/NAME/referrers/DIGEST`: signatures, SBOMs and whatever else refers to a manifest
//! (OCI distribution-spec, "Listing Referrers").

use std::collections::BTreeMap;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use image_layout::Digest;
use image_layout::oci::media_type;
use serde::Serialize;

use super::answers;
use super::errors::Error;
use super::manifests::{scope, with_namespace};
use super::query::Query;
use super::router::NotADigest;
use super::state::Registry;

/// One manifest that refers to another, as the API lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Referrer {
    /// Its media type.
    pub(super) media_type: String,
    /// Its digest.
    pub(super) digest: Digest,
    /// Its size in bytes.
    pub(super) size: u64,
    /// Its type, or its configuration's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    /// Its own annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<&'a Referrer>,
}

/// Answers with an index, perhaps an empty one: a client takes 404 for a registry without this
/// API.
pub(super) fn answer(
    registry: &Registry,
    name: &str,
    query: &Query,
    digest: Result<Digest, NotADigest>,
) -> Result<Response, Error> {
    let digest = digest.map_err(|NotADigest| Error::not_a_digest())?;
    let scope = scope(registry, name, query)?;
    let wanted = &query.artifact_types;
    let matches = |referrer: &&Referrer| {
        let is = |wanted: &String| referrer.artifact_type.as_ref() == Some(wanted);
        wanted.is_empty() || wanted.iter().any(is)
    };
    let index = Index {
        schema_version: 2,
        media_type: media_type::OCI_INDEX,
        manifests: registry
            .index
            .referrers(&digest)
            .iter()
            .filter(matches)
            .collect(),
    };
    let mut response = answers::json_of_type(StatusCode::OK, media_type::OCI_INDEX, &index);
    if !wanted.is_empty() {
        response.headers_mut().insert(
            HeaderName::from_static("oci-filters-applied"),
            HeaderValue::from_static("artifactType"),
        );
    }
    Ok(with_namespace(response, &scope))
}
