//! How long to wait before a child is started again.

use std::time::Duration;

/// The longest.
const LONGEST: Duration = Duration::from_secs(60);
/// A child that ran this long was healthy: the next wait is the first again.
const HEALTHY: Duration = Duration::from_secs(300);

/// Waits that double from one death to the next.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    next: Duration,
}

impl From<Duration> for Backoff {
    /// With this for the first wait.
    fn from(first: Duration) -> Self {
        Backoff { first, next: first }
    }
}

impl Backoff {
    /// The wait after a child that ran for `ran`.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= HEALTHY {
            self.next = self.first;
        }
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew_after_five_healthy_minutes() {
        let mut backoff = Backoff::from(Duration::from_secs(1));
        let short = Duration::from_secs(3);
        let waits: Vec<u64> = (0..8).map(|_| backoff.after(short).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.after(Duration::from_secs(299)).as_secs(), 60);
        assert_eq!(backoff.after(Duration::from_secs(300)).as_secs(), 1);
        assert_eq!(backoff.after(short).as_secs(), 2);
    }

    #[test]
    fn a_child_may_have_a_longer_first_wait() {
        let mut backoff = Backoff::from(Duration::from_secs(5));
        let short = Duration::from_secs(3);
        let waits: Vec<u64> = (0..6).map(|_| backoff.after(short).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
        assert_eq!(backoff.after(Duration::from_secs(900)).as_secs(), 5);
    }
}
