//! How often an address may be wrong.
//!
//! [`limits::FAILURES`] in a window; then it waits for the window's end, whatever it brings. Others
//! are not held up. Success gives nothing back: with one password of its own an address could guess
//! at others' for ever.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::{limits, machines};

/// Wrong passwords, by address or /64 of IPv6.
#[derive(Default)]
pub(super) struct Failures {
    records: Mutex<HashMap<IpAddr, Record>>,
}

struct Record {
    count: u32,
    /// When the first one of the window came.
    since: Instant,
}

impl Record {
    /// What is left of the window.
    fn left(&self, now: Instant) -> Option<Duration> {
        let gone = now.saturating_duration_since(self.since);
        limits::FAILURE_WINDOW
            .checked_sub(gone)
            .filter(|left| !left.is_zero())
    }
}

impl Failures {
    /// How long an address has to wait before it is listened to again.
    pub(super) fn wait(&self, client: IpAddr, now: Instant) -> Option<Duration> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let record = records.get(&machines::network(client))?;
        let left = record.left(now)?;
        (record.count >= limits::FAILURES).then_some(left)
    }

    /// Counts one. Says whether it was the last that the address had.
    pub(super) fn count(&self, client: IpAddr, now: Instant) -> bool {
        let key = machines::network(client);
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() >= limits::FAILURE_ADDRESSES && !records.contains_key(&key) {
            records.retain(|_, record| record.left(now).is_some());
            let oldest = records
                .iter()
                .min_by_key(|(_, record)| record.since)
                .map(|(address, _)| *address);
            if records.len() >= limits::FAILURE_ADDRESSES
                && let Some(oldest) = oldest
            {
                records.remove(&oldest);
            }
        }
        let new = || Record {
            count: 0,
            since: now,
        };
        let record = records.entry(key).or_insert_with(new);
        if record.left(now).is_none() {
            *record = new();
        }
        record.count = record.count.saturating_add(1);
        record.count == limits::FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_that_is_wrong_too_often_waits_and_no_other_does() {
        let (failures, now) = (Failures::default(), Instant::now());
        let (bad, other) = (address("192.0.2.1"), address("192.0.2.2"));
        for count in 1..=limits::FAILURES {
            assert_eq!(failures.wait(bad, now), None);
            assert_eq!(failures.count(bad, now), count == limits::FAILURES);
        }
        assert_eq!(failures.wait(bad, now), Some(limits::FAILURE_WINDOW));
        assert_eq!(failures.wait(other, now), None);
        let mapped = address("::ffff:192.0.2.1");
        assert!(failures.wait(mapped, now).is_some(), "the same machine");
        let later = now + limits::FAILURE_WINDOW;
        assert_eq!(failures.wait(bad, later), None);
        assert!(!failures.count(bad, later), "a new window begins");
        assert_eq!(failures.wait(bad, later), None);
    }

    #[test]
    fn one_machines_many_addresses_of_ipv6_are_one() {
        let (failures, now) = (Failures::default(), Instant::now());
        for count in 0..limits::FAILURES {
            failures.count(address(&format!("2001:db8::{count}")), now);
        }
        assert!(failures.wait(address("2001:db8::ffff"), now).is_some());
        assert!(failures.wait(address("2001:db8:0:1::1"), now).is_none());
    }

    #[test]
    fn any_number_of_addresses_takes_bounded_memory() {
        let (failures, now) = (Failures::default(), Instant::now());
        for count in 0..limits::FAILURE_ADDRESSES as u32 + 100 {
            let at = now + Duration::from_micros(u64::from(count));
            failures.count(IpAddr::from(count.to_be_bytes()), at);
        }
        let records = failures.records.lock().unwrap();
        assert_eq!(records.len(), limits::FAILURE_ADDRESSES);
        assert!(!records.contains_key(&IpAddr::from([0, 0, 0, 0])));
    }
}
