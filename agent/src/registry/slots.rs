//! Who is answered at once, and who waits for a turn.
//!
//! While somebody waits nobody keeps a turn for later: connections end with their next answer, or
//! at once if they are between two (see [`Crowd`]).

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::limits;

/// Who is answered, and who waits for it.
pub(super) struct Slots {
    /// For everybody.
    all: Arc<Semaphore>,
    /// For this machine alone.
    node: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    crowded: Arc<watch::Sender<bool>>,
}

/// A connection's turn.
pub(super) enum Slot {
    Now(OwnedSemaphorePermit),
    Later(Queued),
}

/// A place among those who wait.
pub(super) struct Queued {
    all: Arc<Semaphore>,
    /// Where it is this machine's.
    node: Option<Arc<Semaphore>>,
    waiting: Arc<Semaphore>,
    crowded: Arc<watch::Sender<bool>>,
    place: Option<OwnedSemaphorePermit>,
}

/// Whether somebody waits for a turn.
#[derive(Clone)]
pub(super) struct Crowd(watch::Receiver<bool>);

impl Default for Slots {
    fn default() -> Slots {
        let of = |count| Arc::new(Semaphore::new(count));
        Slots {
            all: of(limits::CONNECTIONS),
            node: of(limits::NODE_CONNECTIONS),
            waiting: of(limits::CONNECTIONS_AHEAD),
            crowded: Arc::new(watch::Sender::new(false)),
        }
    }
}

impl Slots {
    /// A turn, now or later; none if too many wait.
    pub(super) fn enter(&self, client: SocketAddr) -> Option<Slot> {
        let now = |slots: &Arc<Semaphore>| Arc::clone(slots).try_acquire_owned().ok();
        if let Some(slot) = now(&self.all) {
            return Some(Slot::Now(slot));
        }
        let own = client.ip().to_canonical().is_loopback();
        if own && let Some(slot) = now(&self.node) {
            return Some(Slot::Now(slot));
        }
        let place = now(&self.waiting)?;
        self.crowded.send_replace(true);
        Some(Slot::Later(Queued {
            all: Arc::clone(&self.all),
            node: own.then(|| Arc::clone(&self.node)),
            waiting: Arc::clone(&self.waiting),
            crowded: Arc::clone(&self.crowded),
            place: Some(place),
        }))
    }

    /// For those who are answered.
    pub(super) fn crowd(&self) -> Crowd {
        Crowd(self.crowded.subscribe())
    }

    /// Waits until nobody is answered.
    pub(super) async fn all(&self) {
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let _all = self.all.acquire_many(count(limits::CONNECTIONS)).await;
        let _node = self
            .node
            .acquire_many(count(limits::NODE_CONNECTIONS))
            .await;
    }
}

impl Queued {
    /// The turn, when it has come; none if that takes longer than [`limits::TURN_TIME`].
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let of_all = Arc::clone(&self.all).acquire_owned();
        let of_node = async {
            match &self.node {
                Some(node) => Arc::clone(node).acquire_owned().await,
                None => std::future::pending().await,
            }
        };
        let turn = async {
            tokio::select! {
                turn = of_all => turn,
                turn = of_node => turn,
            }
        };
        let turn = tokio::time::timeout(limits::TURN_TIME, turn).await;
        // they are never closed
        turn.ok()?.ok()
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let (waiting, place) = (&self.waiting, &mut self.place);
        // under the lock of the channel, so that the last word is the right one
        self.crowded.send_if_modified(|crowded| {
            drop(place.take());
            *crowded = waiting.available_permits() < limits::CONNECTIONS_AHEAD;
            !*crowded
        });
    }
}

impl Crowd {
    /// Whether somebody waits.
    pub(super) fn is_there(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until somebody waits.
    pub(super) async fn comes(&mut self) {
        if self.0.wait_for(|crowded| *crowded).await.is_err() {
            // there are no slots any more, and nobody who could wait for one
            std::future::pending().await
        }
    }

    /// Waits until that changes.
    pub(super) async fn changes(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: &str = "192.0.2.1:1";

    fn fill(slots: &Slots) -> Vec<Slot> {
        let other = OTHER.parse().unwrap();
        (0..limits::CONNECTIONS)
            .map(|_| slots.enter(other).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn this_machine_is_answered_when_others_have_every_place() {
        let slots = Slots::default();
        let other: SocketAddr = OTHER.parse().unwrap();
        let own: SocketAddr = "[::ffff:127.0.0.1]:1".parse().unwrap();
        let now = |slot: Option<Slot>| matches!(slot, Some(Slot::Now(_)));
        let mut taken = fill(&slots);
        assert!(taken.iter().all(|slot| matches!(slot, Slot::Now(_))));
        assert!(!now(slots.enter(other)));
        for _ in 0..limits::NODE_CONNECTIONS {
            taken.extend(slots.enter(own));
            assert!(matches!(taken.last(), Some(Slot::Now(_))));
        }
        for _ in 0..limits::CONNECTIONS_AHEAD {
            taken.extend(slots.enter(own));
            assert!(matches!(taken.last(), Some(Slot::Later(_))));
        }
        assert!(slots.enter(other).is_none());
        drop(taken);
        assert!(now(slots.enter(other)));
        slots.all().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_comes_when_one_ends_and_is_not_waited_for_without_end() {
        let slots = Slots::default();
        let mut crowd = slots.crowd();
        let mut taken = fill(&slots);
        assert!(!crowd.is_there());
        let Some(Slot::Later(first)) = slots.enter(OTHER.parse().unwrap()) else {
            panic!("a place that is not there");
        };
        let Some(Slot::Later(second)) = slots.enter(OTHER.parse().unwrap()) else {
            panic!("a place that is not there");
        };
        crowd.comes().await;
        let first = tokio::spawn(async move { first.turn().await });
        tokio::task::yield_now().await;
        taken.pop();
        assert!(first.await.unwrap().is_some());
        let last_turn = taken.len();
        assert!(crowd.is_there());
        let began = tokio::time::Instant::now();
        taken.extend(slots.enter(OTHER.parse().unwrap()));
        assert_eq!(taken.len(), last_turn + 1);
        assert!(second.turn().await.is_none());
        assert_eq!(began.elapsed(), limits::TURN_TIME);
        drop((taken, second));
        assert!(!crowd.is_there());
    }

    #[tokio::test]
    async fn this_machine_takes_whatever_turn_comes_first() {
        let slots = Slots::default();
        let own: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let mut of_all = fill(&slots);
        let of_node: Vec<_> = (0..limits::NODE_CONNECTIONS)
            .map(|_| slots.enter(own).unwrap())
            .collect();
        let Some(Slot::Later(waits)) = slots.enter(own) else {
            panic!("a place that is not there");
        };
        of_all.pop();
        assert!(waits.turn().await.is_some());
        drop(of_node);
    }
}
