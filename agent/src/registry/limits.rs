//! Bounds on what clients and hauls can make the registry spend.

use std::time::Duration;

/// Connections that are answered at once ...
pub(super) const CONNECTIONS: usize = 512;
/// ... further ones of this machine, whose pods must start whatever others do ...
pub(super) const NODE_CONNECTIONS: usize = 64;
/// ... and connections that wait for their turn.
pub(super) const CONNECTIONS_AHEAD: usize = 512;
/// How long one of these waits. containerd gives up after 30 s, Go's clients of old never.
pub(super) const TURN_TIME: Duration = Duration::from_secs(20);
/// Connections that are told at once that there is no room; more are closed without a word ...
pub(super) const REFUSALS: usize = 64;
/// ... how long that may take ...
pub(super) const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// ... and when they may come again.
pub(super) const REFUSED_AGAIN: Duration = Duration::from_secs(5);
/// Connections in the kernel's queue. More clients than these find nobody.
pub(super) const WAITING_CONNECTIONS: u32 = 1024;
/// Connections of one machine ([`super::machines::network`]). Loopback is not counted.
pub(super) const CONNECTIONS_PER_ADDRESS: usize = 64;
/// Bytes of a request's line and headers together.
pub(super) const HEADER_BYTES: usize = 16 << 10;
/// Bytes of a request's target. The longest that makes sense, a name of 255 with a digest of 135
/// and a namespace, is far below.
pub(super) const TARGET_BYTES: usize = 4 << 10;
/// Bytes of a body that a GET may carry; it is not read.
pub(super) const BODY_BYTES: u64 = 8 << 10;
/// From the first byte of a request to the end of its headers.
pub(super) const HEADER_TIME: Duration = Duration::from_secs(10);
/// A connection without a request. containerd keeps its own idle ones for 30 s.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(60);
/// An answer of which the client takes no byte. A whole answer has no limit: 10 GB at 100 Mbit/s
/// take a quarter of an hour.
pub(super) const STALL_TIME: Duration = Duration::from_secs(60);
/// Between the wish to end and the end of connections that are busy.
pub(super) const GRACE_TIME: Duration = Duration::from_secs(2);

/// Bytes read from a file and written to a connection at once, while less than
/// [`HELD_FOR_LARGE_CHUNKS`] waits for the network ...
pub(super) const LARGE_CHUNK_BYTES: usize = 1 << 20;
/// ... while less than [`HELD_FOR_CHUNKS`] does ...
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// ... and otherwise, so that 512 clients take 32 MiB, though the first have large ones.
pub(super) const SMALL_CHUNK_BYTES: usize = 32 << 10;
/// See [`LARGE_CHUNK_BYTES`].
pub(super) const HELD_FOR_LARGE_CHUNKS: usize = 8 << 20;
/// See [`CHUNK_BYTES`].
pub(super) const HELD_FOR_CHUNKS: usize = 16 << 20;
/// Large chunks kept for the next reader.
pub(super) const SPARE_LARGE_CHUNKS: usize = 4;
/// Chunks kept for the next reader.
pub(super) const SPARE_CHUNKS: usize = 16;
/// Bytes that the medium is asked for before the ones ahead of them have come.
pub(super) const PREPARED_BYTES: u64 = 512 << 10;
/// Threads that open files, one of which may read. A slow stick gets no faster by more of them.
pub(super) const READ_THREADS: usize = 32;
/// A read that takes longer is told: the kernel itself waits 30 s for a device (Linux:
/// `drivers/scsi/sd.h`) before it resets it, and tries some more times.
pub(super) const MEDIUM_HANGS: Duration = Duration::from_secs(20);
/// No client that needed the medium for so long before blobs are compared with their digests.
pub(super) const QUIET_TIME: Duration = Duration::from_secs(5);

/// Bytes of manifests kept in memory. What is beyond is read when it is asked for.
pub(super) const MANIFEST_MEMORY: u64 = 48 << 20;
/// Bytes of annotations, as JSON, kept for the referrers API; what is beyond is listed without them.
pub(super) const ANNOTATION_MEMORY: usize = 8 << 20;
/// Bytes of a chart's configuration, of which its version is taken.
pub(super) const CHART_CONFIG_BYTES: u64 = 1 << 20;
/// Bytes of `catalog.json`.
pub(super) const CATALOG_BYTES: u64 = 256 << 20;

/// Wrong passwords that one address, or one /64 of IPv6, may bring in [`FAILURE_WINDOW`].
pub(super) const FAILURES: u32 = 10;
/// See [`FAILURES`].
pub(super) const FAILURE_WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose wrong passwords are counted; the one that began longest ago makes room.
pub(super) const FAILURE_ADDRESSES: usize = 4096;
/// Passwords that are checked at once: each takes a processor for a good part of a second.
pub(super) const PASSWORDS_AT_ONCE: usize = 2;
/// How long a request waits for its turn to be checked. containerd gives up after 30 s.
pub(super) const PASSWORD_WAIT: Duration = Duration::from_secs(20);
/// Bytes of a file with a certificate, a key or users.
pub(super) const ACCESS_BYTES: u64 = 1 << 20;

/// Bytes of lists, pages and other answers that are made for a request, all together; small ones
/// are not counted. Beyond it a client is asked to come again.
pub(super) const MADE_BYTES: u64 = 64 << 20;
/// Such answers that are being made at once, of whatever size each gets.
pub(super) const MADE_AT_ONCE: usize = 2;
/// See [`MADE_BYTES`].
pub(super) const SMALL_MADE_BYTES: u64 = 64 << 10;

/// Log lines of requests in a second; what is beyond is counted.
pub(super) const LOGGED_REQUESTS: u32 = 50;
