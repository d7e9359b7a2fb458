//! A part of a blob as the body of an answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use image_layout::Digest;

use super::buffers::NotCached;
use super::integrity::Integrity;
use super::medium::{Cached, Medium, Seat, Source};

/// Bytes by which memory is tried before a whole chunk is asked for: asking for what is not there
/// makes the kernel read it, out of turn.
const PROBE_BYTES: usize = 4 << 10;

/// Reads a chunk when the connection has room for one, and none ahead: a client that stops reading
/// holds one chunk, and nobody waits for it.
///
/// A read that fails ends the body with an error, upon which the connection is closed before the
/// `Content-Length` is reached: no client can take what it has for complete.
pub(super) struct FileBody {
    source: Arc<dyn Source>,
    digest: Digest,
    offset: u64,
    end: u64,
    medium: Arc<Medium>,
    integrity: Arc<Integrity>,
    /// There once bytes were not in memory.
    seat: Option<Seat>,
    next: Next,
}

/// Where the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// In memory, as the last ones were.
    InMemory,
    /// In memory, perhaps.
    Unsure,
    /// In memory, where they were not, unless they have been read in the meantime.
    InMemoryByNow,
    /// On their way from the medium.
    OnTheirWay,
    /// On the medium: this memory can't be searched.
    OnMedium,
}

impl FileBody {
    /// `length` bytes from `offset`; both within the blob.
    pub(super) fn new(
        source: Arc<dyn Source>,
        digest: Digest,
        offset: u64,
        length: u64,
        medium: &Arc<Medium>,
        integrity: &Arc<Integrity>,
    ) -> FileBody {
        FileBody {
            source,
            digest,
            offset,
            end: offset.saturating_add(length),
            medium: Arc::clone(medium),
            integrity: Arc::clone(integrity),
            seat: None,
            next: Next::Unsure,
        }
    }

    fn poll_bytes(&mut self, context: &Context<'_>) -> Poll<std::io::Result<Bytes>> {
        loop {
            if self.next == Next::OnTheirWay
                && let Some(seat) = &self.seat
            {
                match ready!(seat.given(context)) {
                    Some((given, searchable)) => {
                        self.next = match searchable {
                            true => Next::Unsure,
                            false => Next::OnMedium,
                        };
                        return Poll::Ready(given);
                    }
                    None => self.next = Next::InMemoryByNow,
                }
            }
            match self.search() {
                Ok(bytes) => {
                    self.next = Next::InMemory;
                    return Poll::Ready(Ok(bytes));
                }
                Err(why) => ready!(self.wait(why, context)),
            }
        }
    }

    /// Looks for the next bytes in memory.
    fn search(&self) -> Result<Bytes, NotCached> {
        let known = match &self.seat {
            Some(seat) => seat.advance(self.offset),
            None => self.end,
        };
        let most = self.end.min(known).saturating_sub(self.offset);
        if self.next == Next::OnMedium {
            return Err(NotCached::Unknown);
        }
        if most == 0 {
            return Err(NotCached::Absent);
        }
        if self.seat.is_none() && self.next == Next::Unsure {
            match self.source.cached(&mut [0; PROBE_BYTES], self.offset) {
                Cached::Found(_) => {}
                Cached::Absent => return Err(NotCached::Absent),
                Cached::Unknown => return Err(NotCached::Unknown),
            }
        }
        let buffers = self.medium.buffers();
        let chunk = buffers.chunk();
        let most = usize::try_from(most).map_or(chunk, |most| most.min(chunk));
        buffers.cached(self.source.as_ref(), self.offset, most)
    }

    /// Waits for the medium; ready when memory should be searched again.
    fn wait(&mut self, why: NotCached, context: &Context<'_>) -> Poll<()> {
        let seat = self.seat.get_or_insert_with(|| {
            Seat::take(
                &self.medium,
                self.digest,
                &self.source,
                self.offset,
                self.end,
            )
        });
        if why == NotCached::Unknown {
            seat.tells_nothing();
        }
        let again = self.next == Next::InMemoryByNow;
        let waits = seat.wait(self.offset, again, context);
        self.next = match waits {
            Poll::Ready(()) => Next::InMemoryByNow,
            Poll::Pending => Next::OnTheirWay,
        };
        waits
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
        if body.offset >= body.end {
            return Poll::Ready(None);
        }
        let bytes = match body.integrity.is_bad(&body.digest) {
            false => ready!(body.poll_bytes(context)),
            true => Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "the blob turned out to be damaged",
            )),
        };
        match bytes {
            Ok(bytes) => {
                body.offset += bytes.len() as u64;
                if body.offset >= body.end {
                    body.seat = None;
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Err(error) => {
                body.end = body.offset;
                body.seat = None;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.offset >= self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end.saturating_sub(self.offset))
    }
}

#[cfg(test)]
mod tests;
