//! What PID 1 tells this process.

use tokio::sync::watch;

use crate::report::{K3sState, Receiver, Word};

/// The last of each word, for whoever waits for one.
#[derive(Clone, Debug)]
pub(super) struct Words {
    /// Whether the stages *state* and *cluster* are due.
    pub(super) go: watch::Receiver<bool>,
    /// How k3s stands.
    pub(super) k3s: watch::Receiver<K3sState>,
}

/// Hands words on.
#[derive(Debug)]
pub(super) struct Listener {
    receiver: Receiver,
    go: watch::Sender<bool>,
    k3s: watch::Sender<K3sState>,
}

/// PID 1 says nothing more.
#[derive(Debug, thiserror::Error)]
#[error("PID 1 closed the channel")]
pub(super) struct Closed;

impl Listener {
    /// Listens on the channel that `receiver` reads.
    pub(super) fn new(receiver: Receiver) -> (Listener, Words) {
        let (go, has_gone) = watch::channel(false);
        let (k3s, stands) = watch::channel(K3sState::default());
        let words = Words {
            go: has_gone,
            k3s: stands,
        };
        (Listener { receiver, go, k3s }, words)
    }

    /// Hands on what PID 1 says, for as long as it does.
    pub(super) async fn run(mut self) -> Closed {
        while let Some(word) = self.receiver.next().await {
            match word {
                Word::Go => {
                    self.go.send_replace(true);
                }
                Word::K3s(state) => {
                    self.k3s.send_replace(state);
                }
            }
        }
        Closed
    }
}
