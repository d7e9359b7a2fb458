//! The medium that blobs lie on: a stick that reads one place well and many places badly.
//!
//! What memory has is read by whoever needs it ([`Source::cached`]). Everything else is read here,
//! by one thread at a time, in the order of [`turns`]: clients of one blob share one read, and
//! different blobs take turns of several MiB. The thread is there only while someone waits.

mod source;
mod turns;
mod watch;

#[cfg(test)]
mod simulation;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use image_layout::Digest;

use super::buffers::Buffers;
use super::limits;
use super::request_log::LineLimit;
use turns::{Given, Step, StreamId, Turns, Waiting};

pub(super) use source::{Cached, FilePart, Source, is_exhausted};
pub(super) use watch::start as start_watch;

/// What all streams share.
#[derive(Default)]
pub(super) struct Medium {
    buffers: Buffers,
    errors: AtomicU64,
    lines: LineLimit,
    bytes_read: AtomicU64,
    queue: Mutex<Queue>,
    presence: Mutex<Presence>,
    left: Condvar,
    watch: watch::Watch,
}

impl std::fmt::Debug for Medium {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Medium").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Queue {
    turns: Turns,
    /// Whether a thread reads.
    reads: bool,
}

/// Who reads.
#[derive(Debug)]
struct Presence {
    readers: usize,
    /// When the last one ended, or the medium was opened.
    since: Instant,
}

impl Default for Presence {
    fn default() -> Presence {
        Presence {
            readers: 0,
            since: Instant::now(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Medium {
    /// How often reading from the medium failed.
    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Bytes that were read because they were not in memory.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Logs and counts a failed read.
    pub(super) fn failed(&self, digest: &Digest, error: &std::io::Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.complain(digest, error);
    }

    /// Logs what kept a blob from being read without being the medium's fault.
    pub(super) fn complain(&self, digest: &Digest, error: &std::io::Error) {
        // whoever asks for a broken blob again and again must not push all else out of the log
        if let Some(suppressed) = self.lines.take(Instant::now()) {
            tracing::error!(%digest, %error, suppressed, "reading a blob failed");
        }
    }

    /// Memory between medium and network.
    pub(super) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// To be held while something waits for the medium.
    pub(super) fn waits(&self) -> watch::Wait<'_> {
        self.watch.begin()
    }

    /// Counts someone who reads for clients until what is returned is dropped.
    pub(super) fn arrive(self: &Arc<Self>) -> Visit {
        lock(&self.presence).readers += 1;
        Visit(Arc::clone(self))
    }

    /// Waits until nobody has read for clients for a time. Clients that take what memory has, or take
    /// nothing, keep nobody waiting. Blocks its thread.
    pub(super) fn wait_for_quiet(&self, quiet: Duration) {
        let mut presence = lock(&self.presence);
        loop {
            let elapsed = presence.since.elapsed();
            presence = if presence.readers > 0 {
                let waited = self.left.wait(presence);
                waited.unwrap_or_else(PoisonError::into_inner)
            } else if let Some(rest) = quiet.checked_sub(elapsed).filter(|rest| !rest.is_zero()) {
                let waited = self.left.wait_timeout(presence, rest);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                return;
            }
        }
    }

    /// Starts the thread that reads, unless there is one. Where the kernel gives none, whoever waits
    /// learns it.
    fn start(self: &Arc<Self>, queue: &mut Queue) {
        if !queue.reads {
            queue.reads = true;
            let medium = Arc::clone(self);
            let thread = std::thread::Builder::new().name("medium".to_owned());
            if let Err(error) = thread.spawn(move || medium.read_all()) {
                queue.reads = false;
                tracing::error!(%error, "no thread to read the medium with");
                for waker in queue.turns.fail(error) {
                    waker.wake();
                }
            }
        }
    }

    /// Reads until nobody needs anything.
    fn read_all(self: Arc<Self>) {
        let _visit = self.arrive();
        let _guard = EndOfReading(&self);
        loop {
            // whoever waits has the first of it soon
            let piece = self.buffers.chunk().min(limits::CHUNK_BYTES);
            let step = {
                let mut queue = lock(&self.queue);
                match queue.turns.next(piece as u64) {
                    Some(step) => step,
                    None => {
                        queue.reads = false;
                        return;
                    }
                }
            };
            let length = usize::try_from(step.length).map_or(piece, |length| length.min(piece));
            let (bytes, error) = self.read(&step, length);
            let woken = lock(&self.queue).turns.done(&step, &bytes, error);
            for waker in woken {
                waker.wake();
            }
        }
    }

    fn read(&self, step: &Step, length: usize) -> (Bytes, Option<std::io::Error>) {
        // the medium goes on with these while the ones before them are copied
        let soon = step.offset + length as u64;
        let prepared = limits::PREPARED_BYTES.min(step.until.saturating_sub(soon));
        // advice waits, too, where the device's queue is full
        let _wait = self.waits();
        step.source.prepare(step.offset, length as u64 + prepared);
        let (bytes, error) = self.buffers.read(step.source.as_ref(), step.offset, length);
        self.bytes_read
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Some(error) = &error {
            self.failed(&step.blob, error);
        }
        (bytes, error)
    }
}

/// Whoever waits must not wait for a thread that has panicked.
struct EndOfReading<'a>(&'a Medium);

impl Drop for EndOfReading<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut queue = lock(&self.0.queue);
            queue.reads = false;
            let error = std::io::Error::other("the thread that reads has failed");
            let woken = queue.turns.fail(error);
            drop(queue);
            for waker in woken {
                waker.wake();
            }
        }
    }
}

/// See [`Medium::arrive`].
#[derive(Debug)]
pub(super) struct Visit(Arc<Medium>);

impl Drop for Visit {
    fn drop(&mut self) {
        let mut presence = lock(&self.0.presence);
        presence.readers -= 1;
        if presence.readers == 0 {
            presence.since = Instant::now();
            self.0.left.notify_all();
        }
    }
}

/// See [`Seat::given`].
type Read = (std::io::Result<Bytes>, bool);

/// The place of a stream that reads from the medium; given up when dropped.
pub(super) struct Seat {
    medium: Arc<Medium>,
    id: StreamId,
}

impl Seat {
    /// For a stream that needs bytes of a blob from `offset` up to `end`.
    pub(super) fn take(
        medium: &Arc<Medium>,
        digest: Digest,
        source: &Arc<dyn Source>,
        offset: u64,
        end: u64,
    ) -> Seat {
        let id = lock(&medium.queue).turns.enter(digest, source, offset, end);
        let medium = Arc::clone(medium);
        Seat { medium, id }
    }

    /// The stream has come to `offset`. Returns up to where it can look in memory for what was
    /// read for it.
    pub(super) fn advance(&self, offset: u64) -> u64 {
        let mut queue = lock(&self.medium.queue);
        let until = queue.turns.advance(self.id, offset);
        if !queue.reads && queue.turns.needs_reading() {
            self.medium.start(&mut queue);
        }
        until
    }

    /// Waits for the byte at `offset`. `again` if memory was searched for it since the last
    /// `Ready`. `Ready` says that memory should be searched; else the task is woken when
    /// [`given`](Seat::given) has something.
    pub(super) fn wait(&self, offset: u64, again: bool, context: &Context<'_>) -> Poll<()> {
        let mut queue = lock(&self.medium.queue);
        match queue.turns.wait(self.id, offset, again, context.waker()) {
            Waiting::Passed => Poll::Ready(()),
            Waiting::Yes => {
                self.medium.start(&mut queue);
                Poll::Pending
            }
        }
    }

    /// What the medium had at the offset that was waited for, and whether memory can be searched for
    /// what follows. `None` if memory should be searched instead.
    pub(super) fn given(&self, context: &Context<'_>) -> Poll<Option<Read>> {
        let mut queue = lock(&self.medium.queue);
        match queue.turns.take(self.id, context.waker()) {
            None => Poll::Pending,
            Some(Given::Again) => Poll::Ready(None),
            Some(Given::Bytes(bytes, searchable)) => Poll::Ready(Some((Ok(bytes), searchable))),
            Some(Given::Failed(error)) => {
                let error = std::io::Error::new(error.kind(), error);
                Poll::Ready(Some((Err(error), true)))
            }
        }
    }

    /// Memory can't be searched for this blob: wait for every piece.
    pub(super) fn tells_nothing(&self) {
        lock(&self.medium.queue).turns.tells_nothing(self.id);
    }
}

#[cfg(test)]
impl Medium {
    /// Whether someone reads for clients.
    pub(super) fn is_busy(&self) -> bool {
        lock(&self.presence).readers > 0
    }

    /// Whether the thread that reads is there.
    pub(super) fn reads(&self) -> bool {
        lock(&self.queue).reads
    }

    /// Whether nobody waits, reads or is counted any more.
    pub(super) fn is_forgotten(&self) -> bool {
        let queue = lock(&self.queue);
        !queue.reads && queue.turns.is_empty() && !self.is_busy()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.medium.queue).turns.leave(self.id);
    }
}
