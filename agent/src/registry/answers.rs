//! Answers whose body is made for one request.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

/// Among an answer's extensions: its body was made for it and is nobody else's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made;

/// A body of a fixed type.
pub(super) fn whole(status: StatusCode, media_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.extensions_mut().insert(Made);
    let media_type = HeaderValue::from_static(media_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    response
}

/// `value` as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    json_of_type(status, "application/json", value)
}

/// `value` as JSON with a media type of its own.
pub(super) fn json_of_type(
    status: StatusCode,
    media_type: &'static str,
    value: &impl Serialize,
) -> Response {
    // our types have string keys and finite numbers: writing them can't fail
    whole(
        status,
        media_type,
        serde_json::to_vec(value).unwrap_or_default(),
    )
}

/// One line for a person.
pub(super) fn text(status: StatusCode, line: &str) -> Response {
    let body = format!("{line}\n").into_bytes();
    whole(status, "text/plain; charset=utf-8", body)
}

/// No body at all.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
