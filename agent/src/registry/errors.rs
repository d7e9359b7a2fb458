//! Answers to what can't be had (OCI distribution-spec, "Error Codes").

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::answers;

/// When to come again where nothing better is known.
const AGAIN: Duration = Duration::from_secs(1);

/// Codes that clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Code {
    /// No such blob.
    BlobUnknown,
    /// Not a digest.
    DigestInvalid,
    /// No such manifest.
    ManifestUnknown,
    /// Not a repository's name.
    NameInvalid,
    /// No such repository.
    NameUnknown,
    /// `n` is no number (distribution: `PAGINATION_NUMBER_INVALID`).
    PaginationNumberInvalid,
    /// This registry does not do that.
    Unsupported,
    /// Not without a name and password.
    Unauthorized,
    /// Not in this way.
    Denied,
    /// Not so often.
    #[serde(rename = "TOOMANYREQUESTS")]
    TooManyRequests,
    /// Not now (distribution: `UNAVAILABLE`).
    Unavailable,
    /// The medium failed (distribution: `UNKNOWN`).
    Unknown,
}

/// An error as the protocol words it.
#[derive(Debug)]
pub(super) struct Error {
    status: StatusCode,
    code: Code,
    message: String,
}

#[derive(Serialize)]
struct Body<'a> {
    errors: [BodyError<'a>; 1],
}

#[derive(Serialize)]
struct BodyError<'a> {
    code: Code,
    message: &'a str,
}

impl Error {
    /// An error with a message for the person behind the client.
    pub(super) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Error {
        Error {
            status,
            code,
            message: message.into(),
        }
    }

    /// 404.
    pub(super) fn not_found(code: Code, message: impl Into<String>) -> Error {
        Error::new(StatusCode::NOT_FOUND, code, message)
    }

    /// 400 for what stands where a digest belongs.
    pub(super) fn not_a_digest() -> Error {
        let message = "a digest is sha256: with 64, or sha512: with 128 lower-case hex digits";
        Error::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, message)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let error = BodyError {
            code: self.code,
            message: &self.message,
        };
        let mut response = answers::json(self.status, &Body { errors: [error] });
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(header::ALLOW, allowed);
        }
        with_again(response, self.code)
    }
}

/// A refusal in the words of the protocol, or for a person outside of it.
pub(super) fn refuse(protocol: bool, status: StatusCode, code: Code, why: &str) -> Response {
    match protocol {
        true => Error::new(status, code, why).into_response(),
        false => with_again(answers::text(status, why), code),
    }
}

/// Says when to come back where that helps; [`retry_after`] says it better.
fn with_again(response: Response, code: Code) -> Response {
    match code {
        Code::Unavailable | Code::TooManyRequests => retry_after(response, AGAIN),
        _ => response,
    }
}

/// Says when to come back.
pub(super) fn retry_after(mut response: Response, wait: Duration) -> Response {
    // a part of a second is a second: never 0, which would mean at once
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, seconds.max(1).into());
    response
}
