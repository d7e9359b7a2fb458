//! Lists: tags of a repository, repositories of the haul; both in pages where the client asks
//! (OCI distribution-spec, "Listing Tags").

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::answers;
use super::errors::{Code, Error};
use super::manifests::{ambiguous, scope, with_namespace};
use super::query::Query;
use super::state::Registry;

/// What may stand in a `Link` as it is.
const LINK: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

#[derive(Serialize)]
struct Tags<'a> {
    name: &'a str,
    tags: &'a [&'a str],
}

#[derive(Serialize)]
struct Repositories<'a> {
    repositories: &'a [&'a str],
}

/// `GET /v2/NAME/tags/list`.
pub(super) fn tags(registry: &Registry, name: &str, query: &Query) -> Result<Response, Error> {
    let scope = scope(registry, name, query)?;
    let tags = scope
        .tags()
        .map_err(|full_names| ambiguous(&full_names))?
        .into_iter()
        .map(|tag| tag.as_str());
    let (tags, next) = page(tags, query)?;
    let response = answers::json(StatusCode::OK, &Tags { name, tags: &tags });
    let path = format!("/v2/{}/tags/list", utf8_percent_encode(name, LINK));
    let response = with_link(response, &path, query, next);
    Ok(with_namespace(response, &scope))
}

/// `GET /v2/_catalog` (distribution; not in OCI's specification): names that pull as they are,
/// with hosts; of one host with `ns`, without it.
pub(super) fn repositories(registry: &Registry, query: &Query) -> Result<Response, Error> {
    let host = match query.ns.as_deref().filter(|ns| !ns.is_empty()) {
        Some(ns) => match registry.index.host(ns) {
            Some((host, _)) => Some(host),
            None => {
                let message = "the haul has nothing of the registry that ns names";
                return Err(Error::not_found(Code::NameUnknown, message));
            }
        },
        None => None,
    };
    let names = registry.index.repositories(host);
    let (repositories, next) = page(names.into_iter(), query)?;
    let repositories = Repositories {
        repositories: &repositories,
    };
    let response = answers::json(StatusCode::OK, &repositories);
    Ok(with_link(response, "/v2/_catalog", query, next))
}

/// Where the next page begins: how many entries it may have, and the entry before its first.
type Next = Option<(usize, String)>;

/// The part of a sorted list that was asked for. `n=0` is an empty list without a next page.
fn page<'a>(
    entries: impl Iterator<Item = &'a str>,
    query: &Query,
) -> Result<(Vec<&'a str>, Next), Error> {
    let n = query.n.transpose().map_err(|_| {
        Error::new(
            StatusCode::BAD_REQUEST,
            Code::PaginationNumberInvalid,
            "n is a number of entries, 0 or more",
        )
    })?;
    let last = query.last.as_deref().unwrap_or_default();
    let mut entries = entries.filter(|entry| last.is_empty() || *entry > last);
    let Some(n) = n else {
        return Ok((entries.collect(), None));
    };
    let page: Vec<_> = entries.by_ref().take(n).collect();
    let next = match page.last() {
        Some(last) if entries.next().is_some() => Some((n, (*last).to_owned())),
        _ => None,
    };
    Ok((page, next))
}

/// Adds the way to the next page. Relative, since nothing tells under which address and through
/// what proxy the client sees this registry.
fn with_link(mut response: Response, path: &str, query: &Query, next: Next) -> Response {
    let Some((n, last)) = next else {
        return response;
    };
    let encode = |text| utf8_percent_encode(text, LINK).to_string();
    let mut link = format!("<{path}?n={n}&last={}", encode(&last));
    if let Some(ns) = &query.ns {
        link.push_str(&format!("&ns={}", encode(ns)));
    }
    link.push_str(">; rel=\"next\"");
    if let Ok(link) = HeaderValue::try_from(link) {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}
