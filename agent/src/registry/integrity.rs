//! Whether blobs have the digests that they are named by.
//!
//! Sizes are checked when the haul is indexed; contents in the background, once, by a thread that
//! reads only when nothing was read for clients for a while and stops at once when one comes. A haul
//! of which memory can keep much more is left there, so that later clients find it; of a larger one
//! the thread keeps nothing that it has brought in itself.
//!
//! A blob that turns out damaged is not served from then on. The answer is 404 and not 500: a
//! client goes on to its next mirror then, and does not ask again for what can't get better
//! (containerd: `core/remotes/docker/resolver.go`).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use image_layout::Digest;
use image_layout::digest::Hasher;
use image_layout::status::{IntegrityState, IntegrityStatus};

use super::layout::Layout;
use super::limits;
use super::medium::{Cached, FilePart, Medium, Source, is_exhausted};
use super::state::Registry;

/// Bytes that are hashed at once; a client that comes waits for so much at most.
const PIECE_BYTES: usize = 256 << 10;
/// Blobs that can't be read, one after the other, before the medium is given up.
const UNREADABLE_BLOBS: u64 = 8;
/// Digests of damaged blobs that the status names.
const NAMED: usize = 100;
/// The part of this machine's memory that a haul may have without crowding out anything.
const SHARE_OF_MEMORY: u64 = 4;
/// How long to wait for a descriptor.
const AGAIN: Duration = Duration::from_secs(1);
/// Lowest priority for the processor (setpriority(2)).
const NICE: i32 = 19;

/// What is known about the blobs.
#[derive(Debug, Default)]
pub(super) struct Integrity {
    any_bad: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    state: IntegrityState,
    blobs: u64,
    checked: u64,
    unreadable: u64,
    bad: BTreeSet<Digest>,
}

impl Integrity {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a blob is known not to have its digest.
    pub(super) fn is_bad(&self, digest: &Digest) -> bool {
        self.any_bad.load(Ordering::Relaxed) && self.known().bad.contains(digest)
    }

    /// For `/status`.
    pub(super) fn status(&self) -> IntegrityStatus {
        let known = self.known();
        IntegrityStatus {
            state: known.state,
            blobs: known.blobs,
            blobs_checked: known.checked,
            blobs_unreadable: known.unreadable,
            blobs_bad: known.bad.len() as u64,
            bad: known.bad.iter().take(NAMED).copied().collect(),
        }
    }

    /// One sentence for people.
    pub(super) fn summary(&self) -> String {
        let known = self.known();
        let mut summary = match known.state {
            IntegrityState::Waiting => {
                "Contents have not been compared with their digests yet".to_owned()
            }
            IntegrityState::Scanning => format!(
                "Contents of {} of {} blobs have been compared with their digests so far",
                known.checked, known.blobs
            ),
            IntegrityState::Done => {
                format!(
                    "Contents of all {} blobs have been compared with their digests",
                    known.blobs
                )
            }
            IntegrityState::Failed => format!(
                "Contents could be compared with their digests for {} of {} blobs only: the medium \
                 can't be read",
                known.checked, known.blobs
            ),
        };
        match (known.bad.len(), known.unreadable) {
            (0, 0) if known.state == IntegrityState::Done => summary.push_str("; none is damaged"),
            (0, 0) => {}
            (0, unreadable) => summary.push_str(&format!("; {unreadable} could not be read")),
            (bad, 0) => summary.push_str(&format!("; {bad} damaged and not served")),
            (bad, unreadable) => summary.push_str(&format!(
                "; {bad} damaged and not served, {unreadable} could not be read"
            )),
        }
        summary.push('.');
        summary
    }

    fn set(&self, state: IntegrityState) {
        self.known().state = state;
    }

    /// Refuses a blob from now on, and ends what is being sent of it.
    pub(super) fn found_bad(&self, digest: Digest) {
        self.known().bad.insert(digest);
        self.any_bad.store(true, Ordering::Relaxed);
    }
}

/// Starts comparing all blobs of a registry. `tell` is given a line for a person about each that
/// is damaged, and about the end.
pub(super) fn start(registry: &Arc<Registry>, tell: impl Fn(String) + Send + 'static) {
    let shared = Arc::clone(registry);
    let scan = move || {
        // a favour to everything else
        let _ = rustix::process::setpriority_process(None, NICE);
        let registry = &shared;
        if let Some(layout) = registry.layout.as_ref() {
            let blobs: Vec<_> = registry.index.blobs().collect();
            let scan = Scan {
                layout,
                medium: &registry.medium,
                integrity: &registry.integrity,
                keeps: fits(blobs.iter().map(|&(_, size)| size).sum()),
                quiet: limits::QUIET_TIME,
            };
            scan.all(&blobs, &tell);
        }
    };
    let thread = std::thread::Builder::new().name("integrity".to_owned());
    if let Err(error) = thread.spawn(scan) {
        tracing::warn!(%error, "contents are not compared with their digests");
        registry.integrity.set(IntegrityState::Failed);
    }
}

/// Whether a haul of so many bytes can stay in memory.
fn fits(bytes: u64) -> bool {
    let memory = rustix::system::sysinfo();
    // the types differ among architectures
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let total = (memory.totalram as u64).saturating_mul(memory.mem_unit.into());
    bytes <= total / SHARE_OF_MEMORY
}

struct Scan<'a> {
    layout: &'a Layout,
    medium: &'a Medium,
    integrity: &'a Integrity,
    /// Whether what was read is left in memory.
    keeps: bool,
    /// No client for so long before it goes on.
    quiet: Duration,
}

impl Scan<'_> {
    fn all(&self, blobs: &[(Digest, u64)], tell: &dyn Fn(String)) {
        self.integrity.known().blobs = blobs.len() as u64;
        let mut in_a_row = 0;
        for &(digest, size) in blobs {
            self.medium.wait_for_quiet(self.quiet);
            self.integrity.set(IntegrityState::Scanning);
            let opened = self.open(&digest, size);
            match opened.and_then(|source| self.is_whole(&source, &digest, size)) {
                Ok(true) => in_a_row = 0,
                Ok(false) => {
                    in_a_row = 0;
                    self.integrity.found_bad(digest);
                    tracing::error!(%digest, "a blob is damaged and not served any more");
                    tell(format!(
                        "blob {digest} of the haul is damaged and not served any more; \
                         write the stick anew"
                    ));
                }
                Err(error) => {
                    self.medium.failed(&digest, &error);
                    in_a_row += 1;
                    self.integrity.known().unreadable += 1;
                    if in_a_row == UNREADABLE_BLOBS {
                        self.integrity.set(IntegrityState::Failed);
                        tell(self.integrity.summary());
                        return;
                    }
                    continue;
                }
            }
            self.integrity.known().checked += 1;
        }
        self.integrity.set(IntegrityState::Done);
        tracing::info!("{}", self.integrity.summary());
    }

    /// Opens a blob, however long others have all descriptors: that is no fault of the medium's.
    fn open(&self, digest: &Digest, size: u64) -> std::io::Result<FilePart> {
        loop {
            let opened = {
                let _wait = self.medium.waits();
                self.layout.open_blob(digest, size)
            };
            match opened {
                Err(error) if is_exhausted(&error) => std::thread::sleep(AGAIN),
                opened => return opened.map(FilePart::of),
            }
        }
    }

    /// Whether a blob has its digest.
    fn is_whole(&self, source: &dyn Source, digest: &Digest, size: u64) -> std::io::Result<bool> {
        let mut hasher = Hasher::like(digest);
        let mut buffer = vec![0; PIECE_BYTES];
        let mut offset = 0;
        while offset < size {
            self.medium.wait_for_quiet(self.quiet);
            let piece = usize::try_from(size - offset).unwrap_or(usize::MAX);
            let piece = buffer.get_mut(..piece.min(PIECE_BYTES)).unwrap_or_default();
            let read = self.read(source, piece, offset)?;
            hasher.update(piece.get(..read).unwrap_or_default());
            offset += read as u64;
        }
        Ok(hasher.finish() == *digest)
    }

    fn read(&self, source: &dyn Source, piece: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let cached = source.cached(piece, offset);
        if let Cached::Found(found) = cached {
            return Ok(found);
        }
        let read = {
            let _wait = self.medium.waits();
            if self.keeps {
                source.prepare(offset, piece.len() as u64 + limits::PREPARED_BYTES);
            }
            source.read(piece, offset)?
        };
        match read {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => {
                // where memory can't be asked, clients may have wanted this too
                if !self.keeps && cached == Cached::Absent {
                    source.forget(offset, read as u64);
                }
                Ok(read)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::medium::Visit;
    use super::*;

    const PIECE: u64 = PIECE_BYTES as u64;

    /// A blob of zeros: its first piece is in memory, the rest is not.
    #[derive(Default)]
    struct Zeros {
        reads: Mutex<Vec<u64>>,
        forgotten: Mutex<Vec<u64>>,
        /// Arrives during the first read.
        client: Mutex<Option<Visit>>,
        medium: Arc<Medium>,
        client_comes: bool,
    }

    impl Source for Zeros {
        fn cached(&self, buffer: &mut [u8], offset: u64) -> Cached {
            match offset {
                0 => {
                    buffer.fill(0);
                    Cached::Found(buffer.len())
                }
                _ => Cached::Absent,
            }
        }
        fn read(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
            let mut reads = self.reads.lock().unwrap();
            if self.client_comes && reads.is_empty() {
                *self.client.lock().unwrap() = Some(self.medium.arrive());
            }
            reads.push(offset);
            buffer.fill(0);
            Ok(buffer.len())
        }
        fn prepare(&self, _: u64, _: u64) {}
        fn forget(&self, offset: u64, length: u64) {
            assert_eq!(length, PIECE);
            self.forgotten.lock().unwrap().push(offset);
        }
    }

    fn scan<T>(medium: &Medium, keeps: bool, use_it: impl FnOnce(&Scan<'_>) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("index.json"), "{}").unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        use_it(&Scan {
            layout: &layout,
            medium,
            integrity: &Integrity::default(),
            keeps,
            quiet: Duration::from_millis(20),
        })
    }

    fn digest(pieces: u64) -> Digest {
        Digest::sha256_of(&vec![0; (pieces * PIECE) as usize])
    }

    #[test]
    fn only_what_it_brought_in_is_forgotten_and_only_of_a_large_haul() {
        for (keeps, forgotten) in [(false, vec![PIECE, 2 * PIECE]), (true, vec![])] {
            let zeros = Zeros::default();
            let whole = scan(&zeros.medium, keeps, |scan| {
                scan.is_whole(&zeros, &digest(3), 3 * PIECE).unwrap()
            });
            assert!(whole);
            assert_eq!(*zeros.forgotten.lock().unwrap(), forgotten);
        }
    }

    #[test]
    fn a_client_that_comes_stops_it_at_once_and_it_goes_on_when_the_client_has_left() {
        let zeros = Zeros {
            client_comes: true,
            ..Zeros::default()
        };
        let reads = || zeros.reads.lock().unwrap().len();
        let deadline = Instant::now() + Duration::from_secs(20);
        std::thread::scope(|scope| {
            let whole = scope.spawn(|| {
                scan(&zeros.medium, true, |scan| {
                    scan.is_whole(&zeros, &digest(5), 5 * PIECE).unwrap()
                })
            });
            while reads() == 0 {
                assert!(Instant::now() < deadline, "nothing is read");
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(reads(), 1);
            drop(zeros.client.lock().unwrap().take());
            assert!(whole.join().unwrap());
        });
        assert_eq!(reads(), 4);
    }

    #[test]
    fn other_bytes_are_another_digest() {
        let zeros = Zeros::default();
        let whole = scan(&zeros.medium, true, |scan| {
            scan.is_whole(&zeros, &digest(3), 2 * PIECE).unwrap()
        });
        assert!(!whole);
    }

    #[test]
    fn a_medium_that_is_gone_is_given_up_and_condemns_no_blob() {
        let medium = Medium::default();
        let said = Mutex::new(Vec::new());
        let status = scan(&medium, true, |scan| {
            let blobs: Vec<_> = (0..20).map(|n| (Digest::sha256_of(&[n]), 1)).collect();
            scan.all(&blobs, &|line| said.lock().unwrap().push(line));
            scan.integrity.status()
        });
        assert_eq!(status.state, IntegrityState::Failed);
        assert_eq!((status.blobs_unreadable, status.blobs_bad), (8, 0));
        assert_eq!(medium.errors(), 8);
        assert_eq!(said.lock().unwrap().len(), 1);
    }
}
