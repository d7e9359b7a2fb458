//! A connection that does not wait for ever for its client.
//!
//! hyper bounds the time without a request; this bounds the time within one: headers that come
//! byte by byte, and an answer of which the client takes nothing. An answer that moves, however
//! slowly, goes on.

use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Whether a connection's request is being answered. Shared by the connection and its answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Answering(Arc<AtomicBool>);

impl Answering {
    /// Begins, and ends when what is returned is dropped.
    pub(super) fn begin(&self) -> AnsweringGuard {
        self.0.store(true, Ordering::Relaxed);
        AnsweringGuard(self.clone())
    }

    /// Whether a request is being answered.
    pub(super) fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// See [`Answering::begin`].
#[derive(Debug)]
pub(super) struct AnsweringGuard(Answering);

impl Drop for AnsweringGuard {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

/// A timer that runs or does not.
struct Deadline {
    after: Duration,
    sleep: Pin<Box<Sleep>>,
    runs: bool,
}

impl Deadline {
    fn new(after: Duration) -> Deadline {
        Deadline {
            after,
            sleep: Box::pin(tokio::time::sleep(after)),
            runs: false,
        }
    }

    /// Starts it unless it runs.
    fn start(&mut self) {
        if !self.runs {
            self.sleep.as_mut().reset(Instant::now() + self.after);
            self.runs = true;
        }
    }

    fn stop(&mut self) {
        self.runs = false;
    }

    /// Whether it ran out; wakes the task when it does.
    fn poll_out(&mut self, context: &mut Context<'_>) -> bool {
        self.runs && self.sleep.as_mut().poll(context).is_ready()
    }
}

/// A stream whose client is impatiently waited for.
pub(super) struct Patient<S> {
    stream: S,
    answering: Answering,
    /// From a request's first bytes to the end of its headers.
    headers: Deadline,
    /// From the first write that the client did not take to one that it takes.
    stall: Deadline,
}

impl<S> Patient<S> {
    /// Wraps a stream.
    pub(super) fn new(
        stream: S,
        answering: Answering,
        header_time: Duration,
        stall_time: Duration,
    ) -> Patient<S> {
        Patient {
            stream,
            answering,
            headers: Deadline::new(header_time),
            stall: Deadline::new(stall_time),
        }
    }

    /// What was read so far was no request.
    pub(super) fn headers_are_over(&mut self) {
        self.headers.stop();
    }

    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<std::io::Result<usize>>,
    ) -> Poll<std::io::Result<usize>> {
        if written.is_ready() {
            self.stall.stop();
            return written;
        }
        self.stall.start();
        if self.stall.poll_out(context) {
            let why = "the client takes no more of the answer";
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, why)));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if this.answering.is() {
            // the headers were complete; what comes now is a body or the next request
            this.headers.stop();
            return read;
        }
        match read {
            Poll::Ready(read) => {
                if buffer.filled().len() > before {
                    this.headers.start();
                }
                Poll::Ready(read)
            }
            Poll::Pending if this.headers.poll_out(context) => {
                let why = "the client did not finish its request";
                Poll::Ready(Err(Error::new(ErrorKind::TimedOut, why)))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        this.headers.stop();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.wrote(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        this.headers.stop();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn headers_that_do_not_end_end_the_connection() {
        let (mut client, server) = duplex(1024);
        let mut server = Patient::new(server, Answering::default(), TIME, TIME);
        client.write_all(b"GET / HT").await.unwrap();
        let mut buffer = [0; 64];
        let started = Instant::now();
        assert_eq!(server.read(&mut buffer).await.unwrap(), 8);
        // a byte now and then does not help
        tokio::time::sleep(TIME / 2).await;
        client.write_all(b"T").await.unwrap();
        assert_eq!(server.read(&mut buffer).await.unwrap(), 1);
        let error = server.read(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), TIME.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_not_measured_here() {
        let (mut client, server) = duplex(1024);
        let mut server = Patient::new(server, Answering::default(), TIME, TIME);
        let reader = tokio::spawn(async move { server.read(&mut [0; 8]).await });
        tokio::time::sleep(TIME * 3).await;
        client.write_all(b"GET").await.unwrap();
        assert_eq!(reader.await.unwrap().unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (mut client, server) = duplex(16);
        let mut server = Patient::new(server, Answering::default(), TIME, TIME);
        let writer = tokio::spawn(async move { server.write_all(&[1; 160]).await });
        for _ in 0..5 {
            tokio::time::sleep(TIME * 9 / 10).await;
            client.read_exact(&mut [0; 16]).await.unwrap();
        }
        assert!(!writer.is_finished());
        let error = writer.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
