//! Whether the medium answers. A stick that hangs gives no error for minutes, if ever, and whoever
//! waits for it learns nothing: this tells.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::limits;
use super::Medium;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(5);

/// Everything that waits for the medium at the moment.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Waits>);

#[derive(Debug, Default)]
struct Waits {
    next: u64,
    since: BTreeMap<u64, Instant>,
    /// Whether it has been said that the medium hangs.
    told: bool,
}

/// Something that waits, until it is dropped.
#[derive(Debug)]
pub(in crate::registry) struct Wait<'a> {
    watch: &'a Watch,
    id: u64,
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Hangs,
    AnswersAgain,
}

impl Watch {
    pub(super) fn begin(&self) -> Wait<'_> {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = waits.next;
        waits.next += 1;
        waits.since.insert(id, Instant::now());
        Wait { watch: self, id }
    }

    /// What has changed since the last look.
    fn look(&self, now: Instant) -> Option<News> {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // ids go up with time: the first is the oldest
        let oldest = waits.since.values().next();
        let hangs = oldest
            .is_some_and(|since| now.saturating_duration_since(*since) >= limits::MEDIUM_HANGS);
        if hangs == waits.told {
            return None;
        }
        waits.told = hangs;
        Some(match hangs {
            true => News::Hangs,
            false => News::AnswersAgain,
        })
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut waits = self.watch.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.since.remove(&self.id);
    }
}

/// Watches a medium for as long as the process lives. `tell` is given a line for a person. Inside a
/// runtime.
pub(in crate::registry) fn start(medium: &Arc<Medium>, tell: impl Fn(String) + Send + 'static) {
    let medium = Arc::clone(medium);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            match medium.watch.look(Instant::now()) {
                None => {}
                Some(News::AnswersAgain) => tracing::info!("the medium answers again"),
                Some(News::Hangs) => {
                    let line = format!(
                        "the haul's medium has not answered for {} s, and pulls wait for it; if \
                         this stays, the stick or its port fails: restart with another",
                        limits::MEDIUM_HANGS.as_secs()
                    );
                    tracing::error!("{line}");
                    tell(line);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_medium_that_hangs_is_told_once_and_again_after_it_has_answered() {
        let watch = Watch::default();
        let now = Instant::now();
        let later = now + limits::MEDIUM_HANGS + Duration::from_secs(1);
        assert_eq!(watch.look(later), None);
        let first = watch.begin();
        assert_eq!(watch.look(now), None);
        assert_eq!(watch.look(later), Some(News::Hangs));
        let second = watch.begin();
        assert_eq!(watch.look(later), None);
        drop(first);
        assert_eq!(watch.look(now), Some(News::AnswersAgain));
        assert_eq!(watch.look(now), None);
        assert_eq!(watch.look(later), Some(News::Hangs));
        drop(second);
        assert_eq!(watch.look(later), Some(News::AnswersAgain));
    }
}
