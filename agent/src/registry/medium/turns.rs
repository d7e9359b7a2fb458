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
    /// A stream that needs bytes of a blob from `offset` up to `end`. To be ended by
    /// [`leave`](Turns::leave).
    pub(super) fn enter(
        &mut self,
        digest: Digest,
        source: &Arc<dyn Source>,
        offset: u64,
        end: u64,
    ) -> StreamId {
        self.last_id += 1;
        let id = StreamId(self.last_id);
        let blob = self.blobs.entry(digest).or_insert_with(|| Blob {
            source: Arc::clone(source),
            tells: true,
            positions: Vec::new(),
            streams: Vec::new(),
            ticket: None,
        });
        blob.streams.push(id);
        let stream = Stream {
            blob: digest,
            position: None,
            begin: offset,
            offset,
            end,
            state: State::Reading,
        };
        self.streams.insert(id, stream);
        id
    }

    /// Ends a stream. What only it needed is not read.
    pub(super) fn leave(&mut self, id: StreamId) {
        self.stand_up(id);
        self.small.retain(|&small| small != id);
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        if let Some(blob) = self.blobs.get_mut(&stream.blob) {
            blob.streams.retain(|&other| other != id);
            if blob.streams.is_empty() {
                self.blobs.remove(&stream.blob);
            }
        }
    }

    /// Takes a stream from its position, which goes with its last stream.
    fn stand_up(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if let Some(blob) = self.blobs.get_mut(&stream.blob)
            && let Some(position) = stream.position.take()
        {
            for p in blob.positions.iter_mut().filter(|p| p.id == position) {
                p.streams.retain(|&other| other != id);
            }
            blob.positions.retain(|p| !p.streams.is_empty());
        }
    }

    /// The blob's bytes can't be looked for in memory.
    pub(super) fn tells_nothing(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get(&id)
            && let Some(blob) = self.blobs.get_mut(&stream.blob)
        {
            blob.tells = false;
        }
    }

    /// A stream has come to `offset`. Returns up to where its bytes have been read from the medium,
    /// as far as is known here.
    pub(super) fn advance(&mut self, id: StreamId, offset: u64) -> u64 {
        let Some(stream) = self.streams.get_mut(&id) else {
            return offset;
        };
        stream.offset = offset;
        let (digest, position) = (stream.blob, stream.position);
        self.queue(digest);
        let position = position.and_then(|id| self.position(&digest, id));
        position.map_or(offset, |position| position.next.max(offset))
    }

    /// Whether [`next`](Turns::next) may have something.
    pub(super) fn needs_reading(&self) -> bool {
        let queued = || self.blobs.values().any(|blob| blob.ticket.is_some());
        self.turn.is_some() || !self.small.is_empty() || queued()
    }

    /// A stream did not find its next byte, at `offset`, in memory. `again` if it has looked since
    /// it was told [`Waiting::Passed`].
    pub(super) fn wait(
        &mut self,
        id: StreamId,
        offset: u64,
        again: bool,
        waker: &Waker,
    ) -> Waiting {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Waiting::Yes;
        };
        stream.offset = offset;
        let digest = stream.blob;
        let Some(blob) = self.blobs.get(&digest) else {
            return Waiting::Yes;
        };
        if stream.is_small() {
            stream.state = State::Waiting(waker.clone());
            self.small.push_back(id);
            return Waiting::Yes;
        }
        let passed = |p: &&Position| p.next > offset && p.next - offset <= NEAR;
        let near = |p: &&Position| {
            p.next == offset || !p.failed && p.next < offset && offset - p.next <= NEAR
        };
        let passed = blob.positions.iter().find(passed);
        let passed = passed.filter(|_| !again && blob.tells).map(|p| p.id);
        let near = blob.positions.iter().find(near).map(|p| p.id);
        let position = passed.or(near);
        if position.is_none() || position != stream.position {
            self.sit_down(id, position);
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return Waiting::Yes;
        };
        if passed.is_some() {
            stream.state = State::Reading;
            return Waiting::Passed;
        }
        stream.state = State::Waiting(waker.clone());
        self.queue(digest);
        Waiting::Yes
    }

    /// Moves a stream to a position, or to a new one at its offset.
    fn sit_down(&mut self, id: StreamId, position: Option<PositionId>) {
        self.stand_up(id);
        self.last_id += 1;
        let position = position.unwrap_or(PositionId(self.last_id));
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(blob) = self.blobs.get_mut(&stream.blob) else {
            return;
        };
        stream.position = Some(position);
        match blob.positions.iter_mut().find(|p| p.id == position) {
            Some(position) => position.streams.push(id),
            None => blob.positions.push(Position {
                id: position,
                next: stream.offset,
                streams: vec![id],
                served: self.last_ticket,
                failed: false,
            }),
        }
    }

    /// What a waiting stream was given, once.
    pub(super) fn take(&mut self, id: StreamId, waker: &Waker) -> Option<Given> {
        let stream = self.streams.get_mut(&id)?;
        match std::mem::replace(&mut stream.state, State::Reading) {
            State::Given(given) => Some(given),
            State::Waiting(_) => {
                stream.state = State::Waiting(waker.clone());
                None
            }
            State::Reading => Some(Given::Again),
        }
    }

    /// Whether nothing is left of any stream.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.blobs.is_empty() && self.small.is_empty()
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

    /// What came of a step: bytes, fewer than it said if an error follows them. Returns whom to
    /// wake.
    pub(super) fn done(
        &mut self,
        step: &Step,
        bytes: &Bytes,
        error: Option<std::io::Error>,
    ) -> Vec<Waker> {
        let read = bytes.len() as u64;
        let after = step.offset + read;
        let failed = error.map(Arc::new);
        if step.position.is_some() {
            self.small_credit = (self.small_credit + read / SMALL_SHARE).min(SMALL);
        }
        let Some(blob) = self.blobs.get_mut(&step.blob) else {
            return Vec::new();
        };
        if let Some(id) = step.position {
            if let Some(turn) = self.turn.as_mut().filter(|turn| turn.position == id) {
                turn.used += read;
            }
            if let Some(at) = blob.positions.iter().position(|p| p.id == id) {
                // positions that this one has reached are one with it from here
                let mut reached = blob.positions.swap_remove(at);
                reached.next = after;
                reached.failed |= failed.is_some();
                let met = |p: &Position| p.next >= step.offset && p.next <= after && !p.failed;
                for other in blob.positions.extract_if(.., |p| met(p)) {
                    for id in &other.streams {
                        if let Some(stream) = self.streams.get_mut(id) {
                            stream.position = Some(reached.id);
                        }
                    }
                    reached.streams.extend(other.streams);
                }
                blob.positions.push(reached);
            }
        }
        let mut woken = Vec::new();
        for id in &blob.streams {
            let Some(stream) = self.streams.get_mut(id).filter(|stream| stream.waits()) else {
                continue;
            };
            let here = stream.offset >= step.offset;
            let given = if here && stream.offset < after {
                let from = (stream.offset - step.offset) as usize;
                let to = read.min(stream.end - step.offset) as usize;
                Given::Bytes(bytes.slice(from..to), blob.tells)
            } else if let Some(error) = &failed
                && stream.offset == after
            {
                Given::Failed(Arc::clone(error))
            } else if failed.is_some()
                && step.position.is_some()
                && stream.position == step.position
            {
                // may be fine beyond what is broken: at a position of its own
                Given::Again
            } else {
                continue;
            };
            if let State::Waiting(waker) = std::mem::replace(&mut stream.state, State::Given(given))
            {
                woken.push(waker);
            }
        }
        if failed.is_some() && step.position.is_some() {
            // the others go on
            self.turn = None;
            self.queue(step.blob);
        }
        woken
    }

    /// Gives an error to all who wait.
    pub(super) fn fail(&mut self, error: std::io::Error) -> Vec<Waker> {
        let error = Arc::new(error);
        let mut woken = Vec::new();
        for stream in self.streams.values_mut().filter(|stream| stream.waits()) {
            let given = State::Given(Given::Failed(Arc::clone(&error)));
            if let State::Waiting(waker) = std::mem::replace(&mut stream.state, given) {
                woken.push(waker);
            }
        }
        woken
    }
}
