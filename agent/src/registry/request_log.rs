//! One log line a request, when its answer has ended.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::limits;
use super::patience::AnsweringGuard;

/// Characters of a path that are logged.
const LOGGED_PATH: usize = 300;

/// Lets so many lines through in a second and counts the rest: a client in a loop must not push
/// everything else out of a bounded log.
#[derive(Debug)]
pub(super) struct LineLimit {
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
    suppressed: u64,
}

impl Default for LineLimit {
    fn default() -> LineLimit {
        LineLimit {
            window: Mutex::new(Window {
                began: Instant::now(),
                lines: 0,
                suppressed: 0,
            }),
        }
    }
}

impl LineLimit {
    /// Whether a line may be written at `now`, and how many were not since the last that was.
    pub(super) fn take(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(window.began) >= Duration::from_secs(1) {
            window.began = now;
            window.lines = 0;
        }
        if window.lines >= limits::LOGGED_REQUESTS {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

/// What is known of a request before it is answered.
pub(super) struct Entry {
    method: String,
    path: String,
    ns: String,
    client: IpAddr,
    started: Instant,
    status: u16,
}

impl Entry {
    /// Begins an entry.
    pub(super) fn begin<B>(request: &Request<B>, client: IpAddr) -> Entry {
        let uri = request.uri();
        let ns = uri.query().unwrap_or_default().split('&');
        let ns = ns.filter_map(|pair| pair.strip_prefix("ns=")).next();
        Entry {
            method: escaped(request.method().as_str()),
            path: escaped(uri.path()),
            ns: escaped(ns.unwrap_or_default()),
            client,
            started: Instant::now(),
            status: 0,
        }
    }

    /// Goes on with the answer's body.
    pub(super) fn answered(
        mut self,
        status: u16,
        body: Body,
        limit: std::sync::Arc<LineLimit>,
        answering: AnsweringGuard,
    ) -> Logged {
        self.status = status;
        Logged {
            body,
            bytes: 0,
            failed: false,
            entry: self,
            limit,
            _answering: answering,
        }
    }
}

/// A client's text without control characters and bounded: no request writes lines of its own.
fn escaped(text: &str) -> String {
    text.escape_default().take(LOGGED_PATH).collect()
}

/// A body that writes its request's line when it is dropped: complete, or left by its client.
pub(super) struct Logged {
    body: Body,
    bytes: u64,
    failed: bool,
    entry: Entry,
    limit: std::sync::Arc<LineLimit>,
    _answering: AnsweringGuard,
}

impl http_body::Body for Logged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.bytes += bytes;
        }
        self.failed |= matches!(&polled, Poll::Ready(Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let Some(suppressed) = self.limit.take(Instant::now()) else {
            return;
        };
        if suppressed > 0 {
            tracing::info!(suppressed, "requests were not logged");
        }
        // clients that fetch in parallel leave answers half-read as a matter of course
        let complete = !self.failed && http_body::Body::is_end_stream(&self.body);
        let entry = &self.entry;
        tracing::info!(
            method = %entry.method,
            path = %entry.path,
            ns = %entry.ns,
            status = entry.status,
            bytes = self.bytes,
            complete,
            ms = entry.started.elapsed().as_millis() as u64,
            client = %entry.client,
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted() {
        let limit = LineLimit::default();
        let now = Instant::now();
        for _ in 0..limits::LOGGED_REQUESTS {
            assert_eq!(limit.take(now), Some(0));
        }
        assert_eq!(limit.take(now), None);
        assert_eq!(limit.take(now), None);
        assert_eq!(limit.take(now + Duration::from_secs(1)), Some(2));
        assert_eq!(limit.take(now + Duration::from_secs(1)), Some(0));
    }

    #[test]
    fn a_path_stays_on_its_line() {
        assert_eq!(escaped("/a\r\nINFO fake"), "/a\\r\\nINFO fake");
        assert_eq!(escaped(&"x".repeat(9000)).len(), LOGGED_PATH);
    }
}
