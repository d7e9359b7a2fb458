//! The clock: never before the image was built.
//!
//! Boards without a battery wake up in 1970, and certificates made then are refused by every
//! other machine. No time server is asked: in an air gap there is none.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec};

/// Where the time came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The kernel set it from the RTC.
    Rtc,
    /// It was right enough already, and nobody knows why.
    System,
    /// The RTC, which the kernel had not looked at yet.
    LateRtc,
    /// The image's build time; the RTC, if there is one, said this.
    Built(Option<u64>),
}

/// What to do about the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decision {
    /// The time to have, seconds since 1970.
    time: u64,
    source: Source,
}

/// Sets the clock if it is behind. `built` is when the image was built, `sys` where sysfs is
/// mounted. Gives half a line: `clock 2026-11-22 14:10 UTC from the RTC`.
pub(super) fn set(built: u64, sys: &Path) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or(Duration::ZERO).as_secs();
    let rtcs = rtcs(sys);
    let decision = decide(now, built, &rtcs);
    let mut text = describe(decision);
    if decision.time > now
        && let Err(error) = step(decision.time)
    {
        text = format!("clock {} UTC; setting it failed: {error}", civil(now));
    }
    text
}

/// Sets the clock if it is before `seen`, a time at which this machine was up. Gives a line if it
/// was, or could not be set.
pub(super) fn not_before(seen: u64) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or(Duration::ZERO).as_secs();
    if now >= seen {
        return None;
    }
    let text = civil(seen);
    Some(match step(seen) {
        Ok(()) => format!("clock {text} UTC, when this machine was up last"),
        Err(error) => format!("the clock is behind {text} UTC; setting it failed: {error}"),
    })
}

/// Sets the clock to `time`, seconds since 1970.
pub(super) fn step(time: u64) -> std::io::Result<()> {
    let time = Timespec {
        tv_sec: i64::try_from(time).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    Ok(rustix::time::clock_settime(ClockId::Realtime, time)?)
}

/// A clock of the machine: its time, and whether the kernel set its own by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rtc {
    time: u64,
    used: bool,
}

fn rtcs(sys: &Path) -> Vec<Rtc> {
    let Ok(entries) = std::fs::read_dir(sys.join("class/rtc")) else {
        return Vec::new();
    };
    let number = |path: &Path| -> Option<u64> {
        let text = crate::node::read_bounded(path, 64).ok()?;
        std::str::from_utf8(&text).ok()?.trim().parse().ok()
    };
    let rtc = |dir: std::path::PathBuf| {
        Some(Rtc {
            time: number(&dir.join("since_epoch"))?,
            used: number(&dir.join("hctosys")) == Some(1),
        })
    };
    entries
        .flatten()
        .filter_map(|entry| rtc(entry.path()))
        .collect()
}

fn decide(now: u64, built: u64, rtcs: &[Rtc]) -> Decision {
    if now >= built {
        let source = if rtcs.iter().any(|rtc| rtc.used) {
            Source::Rtc
        } else {
            Source::System
        };
        return Decision { time: now, source };
    }
    let best = rtcs.iter().map(|rtc| rtc.time).max();
    match best {
        Some(time) if time >= built => Decision {
            time,
            source: Source::LateRtc,
        },
        said => Decision {
            time: built,
            source: Source::Built(said),
        },
    }
}

fn describe(decision: Decision) -> String {
    let time = civil(decision.time);
    match decision.source {
        Source::Rtc | Source::LateRtc => format!("clock {time} UTC from the RTC"),
        Source::System => format!("clock {time} UTC"),
        Source::Built(Some(said)) => {
            let said = civil(said);
            let day = said.split(' ').next().unwrap_or_default();
            format!("clock {time} UTC, the image's build time; RTC said {day}")
        }
        Source::Built(None) => format!("clock {time} UTC, the image's build time; no RTC"),
    }
}

/// `2026-11-22 14:10`: the civil date in the proleptic Gregorian calendar. Days are counted from
/// a first of March, so that the leap day is a year's last.
pub(super) fn civil(seconds: u64) -> String {
    const DAYS_PER_400_YEARS: u64 = 146_097;
    // from 0000-03-01 to 1970-01-01
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / DAYS_PER_400_YEARS, days % DAYS_PER_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: u64 = 1_800_000_000;

    #[test]
    fn dates_are_right_around_leap_days_and_centuries() {
        for (seconds, date) in [
            (0, "1970-01-01 00:00"),
            (951_782_400, "2000-02-29 00:00"),
            (951_868_800, "2000-03-01 00:00"),
            (1_795_356_600, "2026-11-22 14:10"),
            (4_107_542_399, "2100-02-28 23:59"),
            (4_107_542_400, "2100-03-01 00:00"),
        ] {
            assert_eq!(civil(seconds), date);
        }
    }

    #[test]
    fn a_clock_that_is_right_is_left_alone() {
        let rtc = Rtc {
            time: BUILT + 5,
            used: true,
        };
        let decision = decide(BUILT + 6, BUILT, &[rtc]);
        assert_eq!(
            decision,
            Decision {
                time: BUILT + 6,
                source: Source::Rtc
            }
        );
        assert_eq!(decide(BUILT, BUILT, &[]).source, Source::System);
        assert_eq!(
            describe(decision),
            "clock 2027-01-15 08:00 UTC from the RTC"
        );
    }

    #[test]
    fn a_clock_that_is_behind_takes_the_rtc_or_the_build_time() {
        let late = Rtc {
            time: BUILT + 9,
            used: false,
        };
        assert_eq!(
            decide(0, BUILT, &[late]),
            Decision {
                time: BUILT + 9,
                source: Source::LateRtc
            }
        );
        let dead = Rtc {
            time: 30,
            used: true,
        };
        let decision = decide(31, BUILT, &[dead]);
        assert_eq!(decision.time, BUILT);
        assert_eq!(
            describe(decision),
            "clock 2027-01-15 08:00 UTC, the image's build time; RTC said 1970-01-01"
        );
        assert!(describe(decide(31, BUILT, &[])).ends_with("no RTC"));
    }
}
