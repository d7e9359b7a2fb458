//! A part of a file as the body of an answer.

use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use image_layout::Digest;
use tokio::task::JoinHandle;

use super::buffers::Buffers;
use super::layout::BlobFile;
use super::limits;

/// What all streams share.
#[derive(Debug, Default)]
pub(super) struct Medium {
    buffers: Buffers,
    streams: AtomicUsize,
    errors: AtomicU64,
}

impl Medium {
    /// How often reading from the medium failed.
    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Logs and counts a failed read.
    pub(super) fn failed(&self, digest: &Digest, error: &std::io::Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%digest, %error, "reading a blob failed");
    }

    /// Bytes that one stream may hold.
    fn chunk(&self) -> usize {
        match self.streams.load(Ordering::Relaxed) > limits::MANY_STREAMS {
            true => limits::SMALL_CHUNK_BYTES,
            false => limits::CHUNK_BYTES,
        }
    }
}

/// Reads a chunk when the connection has room for one, and none ahead: a client that stops reading
/// holds one chunk.
///
/// A read that fails ends the body with an error, upon which the connection is closed before the
/// `Content-Length` is reached: no client can take what it has for complete.
pub(super) struct FileBody {
    file: Arc<File>,
    digest: Digest,
    offset: u64,
    remaining: u64,
    reading: Option<JoinHandle<std::io::Result<Bytes>>>,
    medium: Arc<Medium>,
}

impl FileBody {
    /// `length` bytes of a blob from `first`; both within the blob.
    pub(super) fn new(
        blob: BlobFile,
        digest: Digest,
        first: u64,
        length: u64,
        medium: Arc<Medium>,
    ) -> FileBody {
        medium.streams.fetch_add(1, Ordering::Relaxed);
        if length > limits::CHUNK_BYTES as u64 {
            // advice only: what can't take it reads as it would have
            let advice = rustix::fs::Advice::Sequential;
            let _ = rustix::fs::fadvise(&blob.file, 0, None, advice);
        }
        FileBody {
            offset: blob.start.saturating_add(first),
            file: blob.file,
            digest,
            remaining: length,
            reading: None,
            medium,
        }
    }
}

impl Drop for FileBody {
    fn drop(&mut self) {
        self.medium.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let body = self.get_mut();
        if body.remaining == 0 {
            return Poll::Ready(None);
        }
        let read = match &mut body.reading {
            Some(reading) => {
                let read = ready!(Pin::new(reading).poll(context));
                body.reading = None;
                read.unwrap_or_else(|error| Err(std::io::Error::other(error)))
            }
            None => {
                let chunk = body.medium.chunk();
                let length = usize::try_from(body.remaining).map_or(chunk, |left| left.min(chunk));
                let (file, offset) = (Arc::clone(&body.file), body.offset);
                match body.medium.buffers.read_cached(&file, offset, length) {
                    Some(bytes) => Ok(bytes),
                    None => {
                        let buffers = body.medium.buffers.clone();
                        let read = move || buffers.read(&file, offset, length);
                        let mut reading = tokio::task::spawn_blocking(read);
                        match Pin::new(&mut reading).poll(context) {
                            Poll::Ready(read) => {
                                read.unwrap_or_else(|error| Err(std::io::Error::other(error)))
                            }
                            Poll::Pending => {
                                body.reading = Some(reading);
                                return Poll::Pending;
                            }
                        }
                    }
                }
            }
        };
        match read {
            Ok(bytes) => {
                body.offset += bytes.len() as u64;
                body.remaining = body.remaining.saturating_sub(bytes.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Err(error) => {
                body.medium.failed(&body.digest, &error);
                body.remaining = 0;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http_body_util::BodyExt as _;

    use super::*;

    fn body(contents: &[u8], offset: u64, length: u64) -> (FileBody, Arc<Medium>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(contents).unwrap();
        let medium = Arc::new(Medium::default());
        let digest = Digest::sha256_of(contents);
        let blob = BlobFile {
            file: Arc::new(file),
            start: 0,
        };
        let body = FileBody::new(blob, digest, offset, length, Arc::clone(&medium));
        (body, medium)
    }

    #[tokio::test]
    async fn a_part_of_a_file_comes_whole_and_in_order() {
        let contents: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let (body, medium) = body(&contents, 1_234_567, 1_500_001);
        assert_eq!(body.size_hint().exact(), Some(1_500_001));
        let got = body.collect().await.unwrap().to_bytes();
        assert!(got[..] == contents[1_234_567..2_734_568]);
        assert_eq!(medium.streams.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_file_that_ends_early_is_an_error_and_counted() {
        let (body, medium) = body(&[7; 1000], 0, 1001);
        let error = body.collect().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        assert_eq!(medium.errors(), 1);
    }
}
