//! Where streams wait: they come, wait near each other, are given something, and leave.

use std::sync::Arc;
use std::task::Waker;

use image_layout::Digest;

use super::super::source::Source;
use super::{Blob, Given, NEAR, Position, PositionId, State, Stream, StreamId, Turns, Waiting};

impl Turns {
    /// A stream that needs bytes of a blob from `offset` up to `end`. To be ended by
    /// [`leave`](Turns::leave).
    pub(in super::super) fn enter(
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
    pub(in super::super) fn leave(&mut self, id: StreamId) {
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
    pub(in super::super) fn tells_nothing(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get(&id)
            && let Some(blob) = self.blobs.get_mut(&stream.blob)
        {
            blob.tells = false;
        }
    }

    /// A stream has come to `offset`. Returns up to where its bytes have been read from the medium,
    /// as far as is known here.
    pub(in super::super) fn advance(&mut self, id: StreamId, offset: u64) -> u64 {
        let Some(stream) = self.streams.get_mut(&id) else {
            return offset;
        };
        stream.offset = offset;
        let (digest, position) = (stream.blob, stream.position);
        self.queue(digest);
        let position = position.and_then(|id| self.position(&digest, id));
        position.map_or(offset, |position| position.next.max(offset))
    }

    /// A stream did not find its next byte, at `offset`, in memory. `again` if it has looked since
    /// it was told [`Waiting::Passed`].
    pub(in super::super) fn wait(
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
    pub(in super::super) fn take(&mut self, id: StreamId, waker: &Waker) -> Option<Given> {
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
    pub(in super::super) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.blobs.is_empty() && self.small.is_empty()
    }
}
