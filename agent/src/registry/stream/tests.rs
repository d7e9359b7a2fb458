use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use proptest::prelude::*;

use super::super::layout::BlobFile;
use super::super::limits;
use super::super::medium::FilePart;
use super::*;

/// Bytes that memory keeps or forgets as one.
const PAGE: u64 = 4 << 10;
/// Contents repeat after so many bytes, which is no multiple of any size that matters here.
const PERIOD: u64 = 1_000_003;

/// A medium that counts, forgets, breaks, and stands still when it is told to.
struct Stick {
    pattern: Vec<u8>,
    size: u64,
    tells: bool,
    /// Pages that there is room for.
    room: usize,
    /// A byte whose page can't be read.
    bad: Option<u64>,
    state: Mutex<StickState>,
    moved: Condvar,
}

#[derive(Default)]
struct StickState {
    /// Pages in memory, and when they were read.
    memory: BTreeMap<u64, usize>,
    /// How often each page was read.
    reads: BTreeMap<u64, usize>,
    clock: usize,
    /// Reads that began.
    begun: usize,
    still: bool,
}

impl Stick {
    fn new(size: u64) -> Stick {
        Stick::like(7, size)
    }

    /// A stick whose contents are not those of other seeds.
    fn like(seed: u64, size: u64) -> Stick {
        let byte = |at: u64| ((at ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8;
        Stick {
            pattern: (0..PERIOD).map(byte).collect(),
            size,
            tells: true,
            room: usize::MAX,
            bad: None,
            state: Mutex::default(),
            moved: Condvar::new(),
        }
    }

    fn copy(&self, mut buffer: &mut [u8], mut at: u64) {
        while !buffer.is_empty() {
            let rest = &self.pattern[(at % PERIOD) as usize..];
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            buffer = &mut buffer[length..];
            at += length as u64;
        }
    }

    fn bytes(&self, from: u64, to: u64) -> Vec<u8> {
        let mut bytes = vec![0; (to - from) as usize];
        self.copy(&mut bytes, from);
        bytes
    }

    fn digest(&self) -> Digest {
        Digest::sha256_of(&self.pattern[..64])
    }

    fn stand_still(&self, still: bool) {
        self.state.lock().unwrap().still = still;
        self.moved.notify_all();
    }

    fn begun(&self) -> usize {
        self.state.lock().unwrap().begun
    }

    /// How often the page that was read most was read.
    fn most_reads(&self) -> usize {
        let state = self.state.lock().unwrap();
        state.reads.values().copied().max().unwrap_or_default()
    }

    fn pages_read(&self) -> usize {
        self.state.lock().unwrap().reads.values().sum()
    }
}

impl Source for Stick {
    fn cached(&self, buffer: &mut [u8], offset: u64) -> Cached {
        if !self.tells {
            return Cached::Unknown;
        }
        let state = self.state.lock().unwrap();
        let end = self.size.min(offset + buffer.len() as u64);
        let pages = offset / PAGE..end.div_ceil(PAGE);
        let missing = pages.clone().find(|page| !state.memory.contains_key(page));
        let end = end.min(missing.unwrap_or(pages.end) * PAGE);
        match end.saturating_sub(offset) as usize {
            0 => Cached::Absent,
            found => {
                self.copy(&mut buffer[..found], offset);
                Cached::Found(found)
            }
        }
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let mut state = self.state.lock().unwrap();
        state.begun += 1;
        while state.still {
            state = self.moved.wait(state).unwrap();
        }
        let end = self.size.min(offset + buffer.len() as u64);
        let end = match self.bad {
            Some(bad) if bad / PAGE == offset / PAGE => return Err(rustix::io::Errno::IO.into()),
            Some(bad) if bad > offset => end.min(bad / PAGE * PAGE),
            _ => end,
        };
        self.copy(&mut buffer[..(end - offset) as usize], offset);
        for page in offset / PAGE..end.div_ceil(PAGE) {
            state.clock += 1;
            let clock = state.clock;
            // a page that is there is not read again
            if state.memory.insert(page, clock).is_none() {
                *state.reads.entry(page).or_default() += 1;
            }
        }
        if state.memory.len() > self.room {
            let oldest = state.clock - self.room.min(state.clock);
            state.memory.retain(|_, read| *read > oldest);
        }
        Ok((end - offset) as usize)
    }

    fn prepare(&self, _: u64, _: u64) {}

    fn forget(&self, _: u64, _: u64) {}
}

fn body(medium: &Arc<Medium>, stick: &Arc<Stick>, from: u64, to: u64) -> FileBody {
    let source: Arc<dyn Source> = Arc::clone(stick) as _;
    let integrity = Arc::default();
    FileBody::new(source, stick.digest(), from, to - from, medium, &integrity)
}

async fn all(body: FileBody) -> Result<Vec<u8>, std::io::Error> {
    Ok(body.collect().await?.to_bytes().to_vec())
}

/// Waits for what another thread does; a failure is a panic and no endless test.
async fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn file(contents: &[u8]) -> Arc<dyn Source> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"before").unwrap();
    file.write_all(contents).unwrap();
    let file = Arc::new(file);
    Arc::new(FilePart::of(BlobFile { file, start: 6 }))
}

#[tokio::test]
async fn a_part_of_a_file_comes_whole_and_in_order() {
    let contents: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let (medium, integrity) = (Arc::default(), Arc::default());
    let digest = Digest::sha256_of(&contents);
    let source = file(&contents);
    let body = FileBody::new(source, digest, 1_234_567, 1_500_001, &medium, &integrity);
    assert_eq!(body.size_hint().exact(), Some(1_500_001));
    let got = body.collect().await.unwrap().to_bytes();
    assert!(got[..] == contents[1_234_567..2_734_568]);
    until("the end", || medium.is_forgotten()).await;
}

#[tokio::test]
async fn a_file_that_ends_early_is_an_error_and_counted() {
    let (medium, integrity) = (Arc::default(), Arc::default());
    let digest = Digest::sha256_of(b"");
    let body = FileBody::new(file(&[7; 1000]), digest, 0, 1001, &medium, &integrity);
    let error = body.collect().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(medium.errors(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_clients_of_one_blob_read_every_byte_of_the_medium_once() {
    let medium = Arc::default();
    let stick = Arc::new(Stick::new(20 << 20));
    let clients: Vec<_> = (0..16)
        .map(|_| tokio::spawn(all(body(&medium, &stick, 0, stick.size))))
        .collect();
    let expected = stick.bytes(0, stick.size);
    for client in clients {
        assert!(client.await.unwrap().unwrap() == expected);
    }
    assert_eq!(stick.most_reads(), 1);
    until("the end", || medium.is_forgotten()).await;
}

#[tokio::test]
async fn an_error_in_the_middle_reaches_every_client_of_the_blob_and_no_other() {
    let medium: Arc<Medium> = Arc::default();
    let mut broken = Stick::new(8 << 20);
    broken.bad = Some(5_000_000);
    let broken = Arc::new(broken);
    let fine = Arc::new(Stick::like(8, 8 << 20));
    let clients: Vec<_> = (0..4)
        .map(|_| tokio::spawn(all(body(&medium, &broken, 0, broken.size))))
        .collect();
    let good = tokio::spawn(all(body(&medium, &fine, 0, fine.size)));
    // beyond what is broken
    let part = tokio::spawn(all(body(&medium, &broken, 6_000_000, broken.size)));
    for client in clients {
        client.await.unwrap().unwrap_err();
    }
    assert!(good.await.unwrap().unwrap() == fine.bytes(0, fine.size));
    assert!(part.await.unwrap().unwrap() == broken.bytes(6_000_000, broken.size));
    // once when it was read ahead, and at most once for each who came to it
    assert!((1..=5).contains(&medium.errors()), "{}", medium.errors());
    until("the end", || medium.is_forgotten()).await;
}

#[tokio::test]
async fn a_thousand_aborted_requests_leave_nothing_and_read_next_to_nothing() {
    let medium: Arc<Medium> = Arc::default();
    let stick = Arc::new(Stick::new(1 << 40));
    stick.stand_still(true);
    let clients: Vec<_> = (0..1000)
        .map(|nth| tokio::spawn(all(body(&medium, &stick, nth << 30, stick.size))))
        .collect();
    until("a read", || stick.begun() > 0).await;
    for client in &clients {
        client.abort();
    }
    for client in clients {
        assert!(client.await.unwrap_err().is_cancelled());
    }
    stick.stand_still(false);
    until("the end", || medium.is_forgotten()).await;
    // the one read that had begun when they left
    assert_eq!(stick.begun(), 1);
}

#[tokio::test]
async fn a_client_that_stops_taking_lets_the_medium_rest() {
    let medium: Arc<Medium> = Arc::default();
    let stick = Arc::new(Stick::new(1 << 40));
    let mut stuck = body(&medium, &stick, 0, stick.size);
    stuck.frame().await.unwrap().unwrap();
    until("rest", || !medium.reads()).await;
    assert!(stick.pages_read() as u64 * PAGE <= 3 << 20);
    // nor does it keep contents from being compared with their digests
    let quiet = Arc::clone(&medium);
    let waited =
        tokio::task::spawn_blocking(move || quiet.wait_for_quiet(Duration::from_millis(50)));
    let waited = tokio::time::timeout(Duration::from_secs(20), waited).await;
    waited.expect("quiet").unwrap();
    drop(stuck);
    until("the end", || medium.is_forgotten()).await;
}

#[tokio::test]
async fn ends_that_the_network_has_not_taken_are_small_when_they_are_many() {
    let medium: Arc<Medium> = Arc::default();
    let stick = Arc::new(Stick::new(3 << 20));
    let read = all(body(&medium, &stick, 0, stick.size)).await.unwrap();
    assert!(read == stick.bytes(0, stick.size));
    let mut ends = Vec::new();
    for _ in 0..limits::CONNECTIONS {
        let mut body = body(&medium, &stick, 0, stick.size);
        let mut end = None;
        while let Some(frame) = body.frame().await {
            end = frame.unwrap().into_data().ok();
        }
        ends.extend(end);
    }
    until("every stream has ended", || medium.is_forgotten()).await;
    assert_eq!(ends.len(), limits::CONNECTIONS);
    let held: usize = ends.iter().map(Bytes::len).sum();
    assert!(held < 34 << 20, "{held} bytes are held");
    drop(ends);
    let again = body(&medium, &stick, 0, stick.size).frame().await;
    let again = again.unwrap().unwrap().into_data().unwrap();
    assert_eq!(again.len(), limits::LARGE_CHUNK_BYTES, "one client has all");
}

#[tokio::test]
async fn a_blob_that_turns_out_damaged_ends_what_is_on_its_way() {
    let medium: Arc<Medium> = Arc::default();
    let integrity: Arc<Integrity> = Arc::default();
    let stick = Arc::new(Stick::new(8 << 20));
    let source: Arc<dyn Source> = Arc::clone(&stick) as _;
    let mut body = FileBody::new(source, stick.digest(), 0, 8 << 20, &medium, &integrity);
    body.frame().await.unwrap().unwrap();
    integrity.found_bad(stick.digest());
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(body.frame().await.is_none());
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_memory_forgets_the_bytes_are_exact(
        parts in prop::collection::vec((0..4_000_000_u64, 1..4_000_000_u64, 0..3_u64), 1..8),
        room in prop::sample::select(vec![0, 1, 16, 200, usize::MAX]),
        tells: bool,
        bad in prop::option::weighted(0.2, 0..8_000_000_u64),
    ) {
        let mut stick = Stick::new(8_000_000);
        stick.room = room;
        stick.tells = tells;
        stick.bad = bad;
        let stick = Arc::new(stick);
        run(async move {
            let medium: Arc<Medium> = Arc::default();
            let clients: Vec<_> = parts
                .iter()
                .map(|&(from, length, yields)| {
                    let mut body = body(&medium, &stick, from, from + length);
                    tokio::spawn(async move {
                        let mut got = Vec::new();
                        while let Some(frame) = body.frame().await {
                            match frame {
                                Ok(frame) => got.extend_from_slice(frame.data_ref().unwrap()),
                                Err(_) => return (got, true),
                            }
                            for _ in 0..yields {
                                tokio::task::yield_now().await;
                            }
                        }
                        (got, false)
                    })
                })
                .collect();
            for (client, (from, length, _)) in clients.into_iter().zip(parts) {
                let (got, failed) = client.await.unwrap();
                let bad = bad.map(|bad| bad / PAGE * PAGE);
                let bad = bad.filter(|bad| *bad < from + length && from < bad + PAGE);
                let end = bad.map(|bad| bad.max(from));
                assert_eq!(failed, end.is_some());
                assert!(got == stick.bytes(from, end.unwrap_or(from + length)));
            }
            until("the end", || medium.is_forgotten()).await;
        });
    }
}

#[test]
fn pages_of_the_test_are_counted_right() {
    let stick = Stick::new(10 * PAGE);
    let mut buffer = vec![0; 3 * PAGE as usize];
    assert_eq!(stick.read(&mut buffer, 100).unwrap(), buffer.len());
    let pages: BTreeSet<_> = stick.state.lock().unwrap().reads.keys().copied().collect();
    assert_eq!(pages, BTreeSet::from([0, 1, 2, 3]));
}
