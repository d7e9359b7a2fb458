//! Who reads from the medium next: a state machine without threads, clocks or files.
//!
//! - A stream that finds its next bytes not in memory *waits* at an offset of its blob. Streams
//!   that wait near each other share a *position*, from which the blob is read on. Each piece that
//!   was read is given to all who wait for a byte of it.
//! - Blobs take turns, in the order in which they came to need one. A turn lasts a slice: 16 MiB,
//!   less if many blobs want turns, 4 MiB at least. It ends early when nobody needs more.
//! - A position is read ahead of its streams, so that medium and network work at the same time:
//!   as far as its streams have come since they first waited, 1 MiB at least and 16 MiB at most. A
//!   stream whose client takes nothing lets it stand there.
//! - Positions within one blob, of clients that fetch parts of it, share the blob's turns.
//! - What is small, such as a manifest, does not wait for a turn: small reads come in between, as
//!   long as they take no more than a fifth of the medium.

mod places;
mod results;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use image_layout::Digest;

use super::source::Source;

/// A turn's bytes, at least ...
const SLICE_MIN: u64 = 4 << 20;
/// ... and at most.
const SLICE_MAX: u64 = 16 << 20;
/// Bytes in which everyone gets a turn, as long as turns are not of the least size: 3.4 s at
/// 10 MB/s.
const ROUND: u64 = 32 << 20;
/// Bytes read ahead of a stream that has just begun ...
const AHEAD_MIN: u64 = 1 << 20;
/// ... and of one that has taken much.
const AHEAD_MAX: u64 = 16 << 20;
/// Bytes between two offsets that are one position. Reading over them costs less than going back.
const NEAR: u64 = 1 << 20;
/// A stream of at most so many bytes is a small read.
const SMALL: u64 = 256 << 10;
/// Bytes of turns for one byte of small reads while both are wanted ...
const SMALL_SHARE: u64 = 4;
/// ... where a small read counts for so many bytes at least, since the medium goes elsewhere.
const SMALL_COST: u64 = 64 << 10;

/// A stream that has waited at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StreamId(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PositionId(u64);

/// What became of waiting.
#[derive(Clone, Debug)]
pub(super) enum Given {
    /// The bytes at the stream's offset, one at least; and whether memory can be searched for what
    /// follows.
    Bytes(Bytes, bool),
    /// The medium failed there.
    Failed(Arc<std::io::Error>),
    /// Nothing: look again in memory, and wait again.
    Again,
}

/// Whether a stream waits now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// It does.
    Yes,
    /// Its bytes have been read a moment ago; it may look again in memory.
    Passed,
}

#[derive(Debug)]
enum State {
    Reading,
    Waiting(Waker),
    Given(Given),
}

struct Stream {
    blob: Digest,
    /// None if it is small, and while it reads on after its position was given up.
    position: Option<PositionId>,
    /// Where it waited first.
    begin: u64,
    /// The next byte it needs.
    offset: u64,
    /// The byte after its last.
    end: u64,
    state: State,
}

impl Stream {
    fn waits(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    fn is_small(&self) -> bool {
        self.end - self.begin <= SMALL
    }

    fn ahead(&self) -> u64 {
        (self.offset - self.begin).clamp(AHEAD_MIN, AHEAD_MAX)
    }

    /// How far its position should be read for it, if there is `ahead` to be had.
    fn until(&self, ahead: u64) -> u64 {
        let least = u64::from(self.waits());
        self.end.min(self.offset + ahead.max(least))
    }
}

struct Position {
    id: PositionId,
    /// The next byte to be read.
    next: u64,
    streams: Vec<StreamId>,
    /// When it last had a turn, in tickets.
    served: u64,
    /// The medium failed here: not read ahead any more.
    failed: bool,
}

struct Blob {
    source: Arc<dyn Source>,
    /// Whether memory can be asked what it has; if not, what is read ahead can't be found.
    tells: bool,
    positions: Vec<Position>,
    streams: Vec<StreamId>,
    /// Its place in the queue.
    ticket: Option<u64>,
}

struct Turn {
    blob: Digest,
    position: PositionId,
    used: u64,
}

/// The next thing to read.
pub(super) struct Step {
    /// The blob.
    pub(super) blob: Digest,
    /// Where it is.
    pub(super) source: Arc<dyn Source>,
    /// The first byte.
    pub(super) offset: u64,
    /// How many; never 0.
    pub(super) length: u64,
    /// Up to where the medium is going to be read from here.
    pub(super) until: u64,
    position: Option<PositionId>,
}

/// The queue; see the module.
#[derive(Default)]
pub(super) struct Turns {
    blobs: HashMap<Digest, Blob>,
    streams: HashMap<StreamId, Stream>,
    small: VecDeque<StreamId>,
    turn: Option<Turn>,
    /// Bytes that small reads may take from turns now.
    small_credit: u64,
    last_id: u64,
    last_ticket: u64,
}

impl Turns {
    /// Whether [`next`](Turns::next) may have something.
    pub(super) fn needs_reading(&self) -> bool {
        let queued = || self.blobs.values().any(|blob| blob.ticket.is_some());
        self.turn.is_some() || !self.small.is_empty() || queued()
    }

    fn position(&self, blob: &Digest, id: PositionId) -> Option<&Position> {
        let positions = &self.blobs.get(blob)?.positions;
        positions.iter().find(|position| position.id == id)
    }

    /// Up to where a position should be read while it has its turn.
    fn target(&self, blob: &Blob, position: &Position) -> u64 {
        let streams = position.streams.iter();
        let streams = streams.filter_map(|id| self.streams.get(id));
        let reads_ahead = blob.tells && !position.failed;
        let until = |stream: &Stream| match reads_ahead {
            true => stream.until(stream.ahead()),
            false if stream.waits() => stream.until(0),
            false => 0,
        };
        streams.map(until).max().unwrap_or_default()
    }

    /// Whether a position needs a turn: someone waits, or the half of what is read ahead is used.
    fn is_hungry(&self, blob: &Blob, position: &Position) -> bool {
        let reads_ahead = blob.tells && !position.failed;
        let mut streams = position.streams.iter();
        streams.any(|id| {
            let stream = self.streams.get(id);
            stream.is_some_and(|stream| {
                stream.waits() || reads_ahead && position.next < stream.until(stream.ahead() / 2)
            })
        })
    }

    /// Gives a blob that needs a turn and is not queued a place at the end of the queue.
    fn queue(&mut self, digest: Digest) {
        if self.turn.as_ref().is_some_and(|turn| turn.blob == digest) {
            return;
        }
        let Some(blob) = self.blobs.get(&digest) else {
            return;
        };
        let hungry = || blob.positions.iter().any(|p| self.is_hungry(blob, p));
        if blob.ticket.is_none() && hungry() {
            self.last_ticket += 1;
            let ticket = self.last_ticket;
            if let Some(blob) = self.blobs.get_mut(&digest) {
                blob.ticket = Some(ticket);
            }
        }
    }

    /// What to read now, at most `piece` bytes of it; `None` if nobody needs anything.
    pub(super) fn next(&mut self, piece: u64) -> Option<Step> {
        self.end_turn_if_used();
        if self.turn.is_none() {
            self.begin_turn();
        }
        if (self.turn.is_none() || self.small_credit >= SMALL_COST)
            && let Some(step) = self.next_small(piece)
        {
            let cost = step.length.max(SMALL_COST);
            self.small_credit = self.small_credit.saturating_sub(cost);
            return Some(step);
        }
        let turn = self.turn.as_ref()?;
        let blob = self.blobs.get(&turn.blob)?;
        let position = blob.positions.iter().find(|p| p.id == turn.position)?;
        let until = self.target(blob, position);
        Some(Step {
            blob: turn.blob,
            source: Arc::clone(&blob.source),
            offset: position.next,
            length: self.piece_at(position, until, piece),
            until: until.min(position.next + SLICE_MIN),
            position: Some(position.id),
        })
    }

    /// A piece may be read beyond what is needed just now, but not beyond what will ever be.
    fn piece_at(&self, position: &Position, until: u64, piece: u64) -> u64 {
        let ends = position
            .streams
            .iter()
            .filter_map(|id| self.streams.get(id));
        let end = ends.map(|stream| stream.end).max().unwrap_or(until);
        piece.min(end.max(until).saturating_sub(position.next))
    }

    fn next_small(&mut self, piece: u64) -> Option<Step> {
        while let Some(id) = self.small.pop_front() {
            if let Some(stream) = self.streams.get(&id)
                && stream.waits()
                && let Some(blob) = self.blobs.get(&stream.blob)
            {
                return Some(Step {
                    blob: stream.blob,
                    source: Arc::clone(&blob.source),
                    offset: stream.offset,
                    length: piece.min(stream.end - stream.offset),
                    until: stream.end,
                    position: None,
                });
            }
        }
        None
    }

    fn end_turn_if_used(&mut self) {
        let Some(turn) = &self.turn else { return };
        let blob = self.blobs.get(&turn.blob);
        let position = blob.and_then(|b| b.positions.iter().find(|p| p.id == turn.position));
        let goes_on = match (blob, position) {
            (Some(blob), Some(position)) => {
                position.next < self.target(blob, position) && turn.used < self.slice(turn, blob)
            }
            _ => false,
        };
        if !goes_on {
            let digest = turn.blob;
            self.turn = None;
            self.queue(digest);
        }
    }

    /// Bytes of the present turn: all it wants if nobody else wants one.
    fn slice(&self, turn: &Turn, blob: &Blob) -> u64 {
        let queued = self.blobs.values().filter(|b| b.ticket.is_some()).count();
        let mut others = blob.positions.iter().filter(|p| p.id != turn.position);
        let wanted = queued + usize::from(others.any(|p| self.is_hungry(blob, p)));
        match wanted as u64 {
            0 => u64::MAX,
            wanted => (ROUND / (wanted + 1)).clamp(SLICE_MIN, SLICE_MAX),
        }
    }

    fn begin_turn(&mut self) {
        loop {
            let queued = self.blobs.iter().filter_map(|(digest, blob)| {
                let ticket = blob.ticket?;
                Some((ticket, *digest))
            });
            let Some((_, digest)) = queued.min_by_key(|&(ticket, _)| ticket) else {
                return;
            };
            let chosen = self.blobs.get(&digest).and_then(|blob| {
                let hungry = blob.positions.iter().filter(|p| self.is_hungry(blob, p));
                hungry.min_by_key(|position| position.served)
            });
            let chosen = chosen.map(|position| position.id);
            self.last_ticket += 1;
            let served = self.last_ticket;
            if let Some(blob) = self.blobs.get_mut(&digest) {
                blob.ticket = None;
                for p in blob.positions.iter_mut().filter(|p| Some(p.id) == chosen) {
                    p.served = served;
                }
            }
            if let Some(position) = chosen {
                self.turn = Some(Turn {
                    blob: digest,
                    position,
                    used: 0,
                });
                return;
            }
            // its streams have left since it was queued
        }
    }
}
