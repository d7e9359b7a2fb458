//! One request: limits, method, endpoint, and the headers that every answer has.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body::Body as _;

use super::errors::{Code, Error, refuse};
use super::query::Query;
use super::room::NoRoom;
use super::router::Route;
use super::state::Registry;
use super::{
    answers, blobs, files, limits, lists, logs, manifests, mirrors, page, referrers, status,
};

/// Answers any request; the router's only handler, since no pattern of a router tells the slashes
/// of a repository's name from those of the protocol.
pub(super) async fn handle(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    // stands for a fault of ours where a test looks what one costs
    #[cfg(test)]
    assert_ne!(request.uri().path(), "/panic");
    // dropped unread: HTTP's layer closes a connection whose client goes on sending
    let (request, _body) = request.into_parts();
    let path = request.uri.path();
    let protocol = path == "/v2" || path.starts_with("/v2/");
    // first of all: who may not read learns nothing but that
    let mut turn = None;
    let mut response = match registry.access.refusal(&request, protocol).await {
        Some(refusal) => refusal,
        None => match refusal(&request, protocol) {
            Some(refusal) => refusal,
            None => {
                let route = Route::parse(path);
                if route.is_list() {
                    turn = Some(registry.room.turn().await);
                }
                answer(&registry, &request, route).await
            }
        },
    };
    if let Some(length) = response.body().size_hint().exact()
        && response.status() != StatusCode::NOT_MODIFIED
    {
        let headers = response.headers_mut();
        headers
            .entry(header::CONTENT_LENGTH)
            .or_insert(length.into());
    }
    if request.method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    let admitted = registry.room.admit(response).await;
    drop(turn);
    let mut response = match admitted {
        Ok(response) => response,
        Err(NoRoom) => {
            let (status, code) = (StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests);
            let why = "too many long lists are on their way to clients; ask again soon";
            refuse(protocol, status, code, why)
        }
    };
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if protocol {
        // Docker's clients of old look for it
        headers.insert(
            HeaderName::from_static("docker-distribution-api-version"),
            HeaderValue::from_static("registry/2.0"),
        );
    }
    response
}

/// What is refused before its path is read.
fn refusal(request: &Parts, protocol: bool) -> Option<Response> {
    let refuse = |status, message| refuse(protocol, status, Code::Unsupported, message);
    let target = request.uri.path_and_query().map_or(0, |t| t.as_str().len());
    if target > limits::TARGET_BYTES {
        return Some(refuse(StatusCode::URI_TOO_LONG, "the address is too long"));
    }
    if request.method != Method::GET && request.method != Method::HEAD {
        let message = "this registry is read-only";
        let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, message);
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(header::ALLOW, allowed);
        return Some(close(response));
    }
    if body_bytes(&request.headers) > limits::BODY_BYTES {
        let message = "a request here has no body";
        return Some(close(refuse(StatusCode::PAYLOAD_TOO_LARGE, message)));
    }
    None
}

/// Bytes of the body that a request announces; a chunked one may have any number.
fn body_bytes(headers: &HeaderMap) -> u64 {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return u64::MAX;
    }
    match headers.get(header::CONTENT_LENGTH).map(HeaderValue::to_str) {
        Some(length) => length
            .ok()
            .and_then(|length| length.parse().ok())
            .unwrap_or(u64::MAX),
        None => 0,
    }
}

fn close(mut response: Response) -> Response {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

async fn answer(registry: &Registry, request: &Parts, route: Route) -> Response {
    let query = Query::parse(request.uri.query().unwrap_or_default());
    let answered = match route {
        Route::Page => Ok(page::answer(registry, request)),
        Route::Status => Ok(status::answer(registry)),
        Route::Log(name) => {
            let client = request.extensions.get::<IpAddr>().copied();
            Ok(logs::answer(registry, client, &name))
        }
        Route::Ping => Ok(answers::json(
            StatusCode::OK,
            &serde_json::Map::<String, serde_json::Value>::new(),
        )),
        Route::Catalog => lists::repositories(registry, &query),
        Route::Tags(name) => lists::tags(registry, &name, &query),
        Route::Manifest(name, wanted) => {
            manifests::answer(registry, request, &name, &query, wanted).await
        }
        Route::Blob(name, digest) => blobs::answer(registry, request, &name, &query, digest).await,
        Route::Referrers(name, digest) => referrers::answer(registry, &name, &query, digest),
        Route::Files => Ok(files::list(registry, request, &query)),
        Route::Images => Ok(page::images(&registry.index, &query)),
        Route::Mirrors(rest) => Ok(mirrors::answer(registry, request, &query, &rest)),
        Route::File(name) => Ok(files::answer(registry, request, None, &name).await),
        Route::FileByDigest(digest, name) => {
            Ok(files::answer(registry, request, Some(digest), &name).await)
        }
        Route::Upload => Err(Error::new(
            StatusCode::METHOD_NOT_ALLOWED,
            Code::Unsupported,
            "this registry is read-only",
        )),
        Route::UnknownEndpoint => Err(Error::not_found(
            Code::NameUnknown,
            "no endpoint of a registry has this path",
        )),
        Route::Unknown => Ok(answers::text(
            StatusCode::NOT_FOUND,
            "nothing is here; / says what there is",
        )),
    };
    answered.unwrap_or_else(Error::into_response)
}
