//! Time since the kernel started: what stages are timed by and deadlines are set on.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment, as time since the kernel started. Setting the clock does not move it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Uptime(Duration);

impl Uptime {
    /// This moment.
    pub(super) fn now() -> Uptime {
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
        Uptime(Duration::new(seconds, nanos.min(999_999_999)))
    }

    /// A moment from seconds, as [`Self::seconds`] gives them. Nonsense is the start of the kernel.
    pub(super) fn from_seconds(seconds: f64) -> Uptime {
        Uptime(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }

    /// In seconds, with milliseconds.
    pub(super) fn seconds(self) -> f64 {
        (self.0.as_secs_f64() * 1000.0).round() / 1000.0
    }

    /// The moment `wait` later.
    pub(super) fn after(self, wait: Duration) -> Uptime {
        Uptime(self.0.saturating_add(wait))
    }

    /// How long after `earlier` this is; nothing if it is not.
    pub(super) fn since(self, earlier: Uptime) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The earlier of two deadlines of which either may be missing.
pub(super) fn earlier(a: Option<Uptime>, b: Option<Uptime>) -> Option<Uptime> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
