//! The queue over a medium and clients that exist as numbers: bounds of time without a clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use image_layout::Digest;
use proptest::prelude::*;

use super::source::{Cached, Source};
use super::turns::{Given, StreamId, Turns, Waiting};

const MIB: u64 = 1 << 20;
const PIECE: u64 = 256 << 10;
/// A slow stick, in bytes a second.
const STICK: f64 = 10e6;

/// Only its identity matters here.
struct Nowhere;

impl Source for Nowhere {
    fn cached(&self, _: &mut [u8], _: u64) -> Cached {
        Cached::Absent
    }
    fn read(&self, _: &mut [u8], _: u64) -> std::io::Result<usize> {
        Ok(0)
    }
    fn prepare(&self, _: u64, _: u64) {}
    fn forget(&self, _: u64, _: u64) {}
}

struct Client {
    blob: u8,
    offset: u64,
    end: u64,
    /// Bytes a second it takes.
    rate: f64,
    seat: Option<StreamId>,
    waits: bool,
    /// When it has taken what it has.
    free_at: f64,
    began: f64,
    first_byte: Option<f64>,
    last_byte: f64,
    longest_pause: f64,
    failed: bool,
}

impl Client {
    fn new(blob: u8, from: u64, to: u64) -> Client {
        Client {
            blob,
            offset: from,
            end: to,
            rate: f64::INFINITY,
            seat: None,
            waits: false,
            free_at: 0.0,
            began: 0.0,
            first_byte: None,
            last_byte: 0.0,
            longest_pause: 0.0,
            failed: false,
        }
    }

    fn done(&self) -> bool {
        self.failed || self.offset >= self.end
    }

    fn took(&mut self, bytes: u64, now: f64) {
        assert!(bytes > 0);
        self.offset += bytes;
        assert!(self.offset <= self.end);
        self.first_byte.get_or_insert(now - self.began);
        self.longest_pause = self.longest_pause.max(now - self.last_byte.max(self.began));
        self.last_byte = now;
        self.free_at = now + bytes as f64 / self.rate;
    }
}

/// One read of the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Read {
    blob: u8,
    offset: u64,
    length: u64,
}

struct Simulation {
    turns: Turns,
    clients: Vec<Client>,
    now: f64,
    /// What memory has, by blob: pieces of [`PIECE`].
    memory: BTreeMap<(u8, u64), u64>,
    /// Pieces that memory has room for.
    room: usize,
    reads: Vec<Read>,
    /// Where reading fails.
    bad: Option<(u8, u64)>,
    tells: bool,
}

fn digest(blob: u8) -> Digest {
    Digest::Sha256([blob; 32])
}

impl Simulation {
    fn new(clients: Vec<Client>) -> Simulation {
        Simulation {
            turns: Turns::default(),
            clients,
            now: 0.0,
            memory: BTreeMap::new(),
            room: usize::MAX,
            reads: Vec::new(),
            bad: None,
            tells: true,
        }
    }

    fn has(&self, blob: u8, offset: u64) -> bool {
        self.tells && self.memory.contains_key(&(blob, offset / PIECE))
    }

    fn remember(&mut self, read: Read) {
        let nth = self.reads.len() as u64;
        for piece in read.offset / PIECE..=(read.offset + read.length - 1) / PIECE {
            // what is broken is never there
            if self
                .bad
                .is_none_or(|(blob, bad)| (read.blob, piece) != (blob, bad / PIECE))
            {
                self.memory.insert((read.blob, piece), nth);
            }
        }
        while self.memory.len() > self.room {
            let oldest = self.memory.iter().min_by_key(|&(_, &nth)| nth);
            let oldest = oldest.map(|(&key, _)| key).unwrap();
            self.memory.remove(&oldest);
        }
    }

    /// Lets clients take what they can at this moment, as [`super::super::stream`] does.
    fn serve_clients(&mut self) {
        for at in 0..self.clients.len() {
            let mut again = false;
            loop {
                let now = self.now;
                let client = &mut self.clients[at];
                if client.done()
                    && let Some(seat) = client.seat.take()
                {
                    self.turns.leave(seat);
                }
                if client.done() || client.began > now || client.free_at > now {
                    break;
                }
                if client.waits {
                    match self.turns.take(client.seat.unwrap(), Waker::noop()) {
                        None => break,
                        Some(Given::Bytes(bytes, _)) => client.took(bytes.len() as u64, now),
                        Some(Given::Failed(_)) => client.failed = true,
                        Some(Given::Again) => again = true,
                    }
                    client.waits = false;
                    if client.done() || client.free_at > now {
                        continue;
                    }
                }
                let (blob, offset, end) = (client.blob, client.offset, client.end);
                let known = match self.clients[at].seat {
                    Some(seat) => self.turns.advance(seat, offset),
                    None => end,
                };
                if known > offset && self.has(blob, offset) {
                    let piece_end = (offset / PIECE + 1) * PIECE;
                    let bytes = known.min(end).min(piece_end) - offset;
                    self.clients[at].took(bytes, now);
                    again = false;
                    continue;
                }
                let source: Arc<dyn Source> = Arc::new(Nowhere);
                let turns = &mut self.turns;
                let seat = *self.clients[at]
                    .seat
                    .get_or_insert_with(|| turns.enter(digest(blob), &source, offset, end));
                if !self.tells {
                    self.turns.tells_nothing(seat);
                }
                match self.turns.wait(seat, offset, again, Waker::noop()) {
                    Waiting::Yes => self.clients[at].waits = true,
                    Waiting::Passed => again = true,
                }
            }
        }
    }

    /// Runs until all clients are done; panics if one never is.
    fn run(&mut self) {
        loop {
            self.serve_clients();
            if self.clients.iter().all(Client::done) {
                break;
            }
            let Some(step) = self.turns.next(PIECE) else {
                // the medium rests: until the next client is there or free
                let later = |time: &f64| *time > self.now;
                let times = self.clients.iter().filter(|c| !c.done());
                let times = times.flat_map(|c| [c.free_at, c.began]).filter(later);
                let next = times.min_by(f64::total_cmp);
                self.now = next.expect("a client waits and nobody reads for it");
                continue;
            };
            let Digest::Sha256([blob, ..]) = step.blob else {
                unreachable!()
            };
            let read = Read {
                blob,
                offset: step.offset,
                length: step.length,
            };
            assert!(step.length > 0 && step.length <= PIECE);
            let hit = self.has(blob, step.offset) && self.has(blob, step.offset + step.length - 1);
            if !hit {
                self.now += step.length as f64 / STICK;
            }
            let fails = self.bad.filter(|&(bad_blob, bad)| {
                bad_blob == blob && bad >= step.offset && bad < step.offset + step.length
            });
            let (bytes, error) = match fails {
                Some((_, bad)) => (bad - step.offset, Some(std::io::Error::other("bad sector"))),
                None => (step.length, None),
            };
            if !hit && bytes > 0 {
                self.remember(read);
                self.reads.push(read);
            }
            let bytes = Bytes::from(vec![0; bytes as usize]);
            self.turns.done(&step, &bytes, error);
        }
        assert!(
            self.turns.is_empty(),
            "something is left of streams that ended"
        );
    }

    fn bytes_read(&self) -> u64 {
        self.reads.iter().map(|read| read.length).sum()
    }

    /// Lengths of what was read without going elsewhere, in order.
    fn slices(&self) -> Vec<(u8, u64)> {
        let mut slices: Vec<(u8, u64, u64)> = Vec::new();
        for read in &self.reads {
            match slices.last_mut() {
                Some((blob, next, length)) if *blob == read.blob && *next == read.offset => {
                    *next += read.length;
                    *length += read.length;
                }
                _ => slices.push((read.blob, read.offset + read.length, read.length)),
            }
        }
        slices
            .iter()
            .map(|&(blob, _, length)| (blob, length))
            .collect()
    }
}

#[test]
fn clients_of_one_blob_share_one_read_at_the_speed_of_the_medium() {
    let mut clients: Vec<_> = (0..16).map(|_| Client::new(1, 0, 100 * MIB)).collect();
    // not all come at once, and not all are fast
    for (nth, client) in clients.iter_mut().enumerate() {
        client.began = nth as f64 / 8.0;
        client.rate = [f64::INFINITY, 100e6, 40e6, 20e6][nth % 4];
    }
    let mut simulation = Simulation::new(clients);
    simulation.run();
    assert_eq!(simulation.bytes_read(), 100 * MIB);
    assert_eq!(simulation.slices(), [(1, 100 * MIB)]);
    let once = (100 * MIB) as f64 / STICK;
    let last = simulation.clients.iter().map(|c| c.last_byte);
    let last = last.max_by(f64::total_cmp).unwrap();
    assert!(last <= 1.15 * once, "{last} s instead of {once} s");
}

#[test]
fn eight_cold_blobs_on_a_slow_stick_have_a_first_byte_in_5_s_and_progress_every_10_s() {
    let clients = (0..24).map(|nth| {
        let mut client = Client::new(nth % 8, 0, 60 * MIB);
        client.began = f64::from(nth) / 10.0;
        client
    });
    let mut simulation = Simulation::new(clients.collect());
    simulation.run();
    for client in &simulation.clients {
        assert!(client.first_byte.unwrap() < 5.0, "{:?}", client.first_byte);
        assert!(client.longest_pause < 10.0, "{}", client.longest_pause);
    }
    assert_eq!(simulation.bytes_read(), 8 * 60 * MIB);
}

#[test]
fn blobs_take_turns_of_4_to_16_mib_one_after_the_other() {
    for blobs in [2, 3, 4, 8, 12] {
        let clients = (0..blobs).map(|blob| Client::new(blob, 0, 96 * MIB));
        let mut simulation = Simulation::new(clients.collect());
        simulation.run();
        let slices = simulation.slices();
        // until the first blob is complete all want turns
        let done = |(at, &(blob, _)): (usize, &(u8, u64))| {
            let so_far = slices[..=at].iter().filter(|slice| slice.0 == blob);
            so_far.map(|slice| slice.1).sum::<u64>() == 96 * MIB
        };
        let first_done = slices.iter().enumerate().position(done).unwrap();
        for (nth, (blob, length)) in slices[..first_done].iter().enumerate() {
            assert_eq!(usize::from(*blob), nth % usize::from(blobs));
            assert!((4 * MIB..=16 * MIB).contains(length), "{blobs}: {length}");
        }
    }
}

#[test]
fn a_fast_client_gets_the_whole_medium_while_its_network_takes_what_was_read() {
    let mut client = Client::new(1, 0, 200 * MIB);
    client.rate = 11e6;
    let mut simulation = Simulation::new(vec![client]);
    simulation.run();
    // as fast as its network, which is a little faster than the stick
    let took = simulation.clients[0].free_at;
    let medium = (200 * MIB) as f64 / STICK;
    assert!(took < 1.02 * medium, "{took} s instead of {medium} s");
}

#[test]
fn a_client_that_takes_nothing_makes_nobody_read() {
    let mut stuck = Client::new(1, 0, 1024 * MIB);
    stuck.rate = 1.0;
    let mut other = Client::new(2, 0, 10 * MIB);
    other.began = 1.0;
    let mut simulation = Simulation::new(vec![stuck, other]);
    // the stuck one gets a piece and no more
    loop {
        simulation.serve_clients();
        if simulation.clients[1].done() {
            break;
        }
        match simulation.turns.next(PIECE) {
            Some(step) => {
                simulation.now += step.length as f64 / STICK;
                let Digest::Sha256([blob, ..]) = step.blob else {
                    unreachable!()
                };
                let (offset, length) = (step.offset, step.length);
                let read = Read {
                    blob,
                    offset,
                    length,
                };
                simulation.remember(read);
                simulation.reads.push(read);
                let bytes = Bytes::from(vec![0; length as usize]);
                simulation.turns.done(&step, &bytes, None);
            }
            None => simulation.now = 1.0,
        }
    }
    let stuck: u64 = simulation
        .reads
        .iter()
        .filter(|r| r.blob == 1)
        .map(|r| r.length)
        .sum();
    assert!(stuck <= 2 * MIB, "{stuck} bytes were read for nobody");
}

#[test]
fn ranges_of_one_blob_share_its_turns() {
    let mut clients: Vec<_> = (0..10)
        .map(|part| Client::new(1, part * 32 * MIB, (part + 1) * 32 * MIB))
        .collect();
    clients.push(Client::new(2, 0, 64 * MIB));
    let mut simulation = Simulation::new(clients);
    simulation.run();
    // ten parts of one blob take not more than half of the medium from the other
    let other = simulation.clients[10].last_byte;
    let alone = (64 * MIB) as f64 / STICK;
    assert!(other <= 2.3 * alone, "{other} s instead of {alone} s alone");
    assert_eq!(simulation.bytes_read(), (320 + 64) * MIB);
}

#[test]
fn small_reads_do_not_wait_for_turns_and_do_not_stop_them() {
    let mut clients: Vec<_> = (0..8).map(|blob| Client::new(blob, 0, 40 * MIB)).collect();
    for nth in 0..200_u8 {
        let mut small = Client::new(50 + nth, 0, 20_000);
        small.began = 1.0 + f64::from(nth) / 20.0;
        clients.push(small);
    }
    let mut simulation = Simulation::new(clients);
    simulation.run();
    for client in &simulation.clients[..8] {
        assert!(client.longest_pause < 10.0, "{}", client.longest_pause);
    }
    for small in &simulation.clients[8..] {
        assert!(small.first_byte.unwrap() < 3.0, "{:?}", small.first_byte);
    }
}

#[test]
fn an_error_ends_those_who_need_the_byte_and_nobody_else() {
    let mut clients = vec![
        Client::new(1, 0, 40 * MIB),
        Client::new(1, 0, 40 * MIB),
        // does not need the bad byte
        Client::new(1, 20 * MIB, 40 * MIB),
        Client::new(1, 0, 5 * MIB),
        Client::new(2, 0, 40 * MIB),
    ];
    // a straggler meets the bad byte when the others are gone
    clients.push(Client::new(1, 0, 40 * MIB));
    clients[5].rate = 2e6;
    let mut simulation = Simulation::new(clients);
    simulation.bad = Some((1, 10 * MIB + 5));
    simulation.run();
    let failed: Vec<_> = simulation.clients.iter().map(|c| c.failed).collect();
    assert_eq!(failed, [true, true, false, false, false, true]);
    for client in simulation.clients.iter().filter(|c| c.failed) {
        assert_eq!(client.offset, 10 * MIB + 5);
    }
}

#[test]
fn with_less_memory_more_is_read_and_nobody_starves() {
    let mut read = Vec::new();
    for room in [400, 100, 20, 4] {
        let mut clients: Vec<_> = (0..4).map(|_| Client::new(1, 0, 50 * MIB)).collect();
        for (nth, client) in clients.iter_mut().enumerate() {
            client.rate = 20e6 / (1 + nth) as f64;
        }
        let mut simulation = Simulation::new(clients);
        simulation.room = room;
        simulation.run();
        read.push(simulation.bytes_read());
        assert!(simulation.clients.iter().all(|client| !client.failed));
    }
    assert_eq!(read[0], 50 * MIB);
    assert!(read.is_sorted(), "{read:?}");
    // at worst each reads for itself, with what was read ahead in vain
    assert!(read[3] <= 10 * 50 * MIB, "{read:?}");
}

#[test]
fn where_memory_can_not_be_asked_every_client_is_served_nevertheless() {
    let clients = (0..6).map(|nth| Client::new(nth % 3, 0, 8 * MIB));
    let mut simulation = Simulation::new(clients.collect());
    simulation.tells = false;
    simulation.run();
    // those that go in step share reads
    assert_eq!(simulation.bytes_read(), 3 * 8 * MIB);
}

proptest! {
    #[test]
    fn whoever_comes_and_however_slow_everyone_gets_everything(
        clients in prop::collection::vec(
            (0..3_u8, 0..40 * MIB, 1..20 * MIB, 0.0..10.0_f64, 1e5..1e9_f64), 1..12),
        room in prop::sample::select(vec![2, 10, 100, usize::MAX]),
        tells: bool,
        bad in prop::option::of((0..3_u8, 0..60 * MIB)),
    ) {
        let clients = clients.into_iter().map(|(blob, from, length, began, rate)| {
            let mut client = Client::new(blob, from, from + length);
            client.began = began;
            client.rate = rate;
            client
        });
        let mut simulation = Simulation::new(clients.collect());
        simulation.room = room;
        simulation.tells = tells;
        simulation.bad = bad;
        let wanted: u64 = simulation.clients.iter().map(|c| c.end - c.offset).sum();
        let needs: Vec<_> = simulation
            .clients
            .iter()
            .map(|c| bad.is_some_and(|(blob, at)| c.blob == blob && c.offset <= at && at < c.end))
            .collect();
        simulation.run();
        for (client, needs) in simulation.clients.iter().zip(needs) {
            prop_assert_eq!(client.failed, needs);
        }
        if room == usize::MAX && tells {
            prop_assert!(simulation.bytes_read() <= wanted + 20 * MIB);
        }
    }
}
