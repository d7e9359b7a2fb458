//! What PID 1 tells a child.
//!
//! The last word of each kind is kept, and sent again to a process that was started anew. A socket
//! that is full is tried again when it can be written; of several words of one kind that pile up
//! meanwhile only the last counts.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::report::{PACKET_BYTES, Word};

/// Places of [`Words`], in the order of sending.
const KINDS: usize = 2;

/// What was said, and whether it reached the process that runs now.
#[derive(Debug, Default)]
pub(super) struct Words {
    kept: [Option<Kept>; KINDS],
}

#[derive(Debug)]
struct Kept {
    packet: Vec<u8>,
    is_sent: bool,
}

fn kind(word: &Word) -> usize {
    match word {
        Word::Go => 0,
        Word::K3s(_) => 1,
    }
}

impl Words {
    /// Keeps a word; [`Self::flush`] sends it.
    pub(super) fn keep(&mut self, word: &Word) {
        let Ok(packet) = serde_json::to_vec(word) else {
            return;
        };
        // its text is bounded where it is made; a longer one could never be sent
        if packet.len() > PACKET_BYTES {
            return;
        }
        if let Some(place) = self.kept.get_mut(kind(word)) {
            *place = Some(Kept {
                packet,
                is_sent: false,
            });
        }
    }

    /// Another process listens now: it is told everything.
    pub(super) fn begin_anew(&mut self) {
        for kept in self.kept.iter_mut().flatten() {
            kept.is_sent = false;
        }
    }

    /// Whether something waits to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        self.kept.iter().flatten().any(|kept| !kept.is_sent)
    }

    /// Sends what the socket takes. A dead one takes nothing, which its other direction tells.
    pub(super) fn flush(&mut self, socket: &OwnedFd) {
        for kept in self.kept.iter_mut().flatten() {
            if kept.is_sent {
                continue;
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(socket, &kept.packet, flags) {
                Ok(_) => kept.is_sent = true,
                // the loop comes by again while something waits
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};

    use super::*;
    use crate::report::{K3sState, TAIL_BYTES};

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    fn heard(socket: &OwnedFd) -> Vec<Word> {
        let mut words = Vec::new();
        let mut buffer = vec![0; PACKET_BYTES];
        while let Ok((length, _)) = recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            words.push(serde_json::from_slice(&buffer[..length]).unwrap());
        }
        words
    }

    fn ends(ends: u32) -> Word {
        Word::K3s(K3sState {
            ends,
            tail: "\"".repeat(TAIL_BYTES),
            ..K3sState::default()
        })
    }

    #[test]
    fn a_process_that_is_started_anew_hears_the_last_of_each_kind() {
        let mut words = Words::default();
        words.keep(&ends(1));
        words.keep(&Word::Go);
        let (ours, theirs) = pair();
        words.flush(&ours);
        assert_eq!(heard(&theirs), [Word::Go, ends(1)]);
        words.keep(&ends(2));
        drop(theirs);
        words.flush(&ours);
        assert!(words.is_waiting());

        let (ours, theirs) = pair();
        words.begin_anew();
        words.flush(&ours);
        assert_eq!(heard(&theirs), [Word::Go, ends(2)]);
        assert!(!words.is_waiting());
        words.flush(&ours);
        assert_eq!(heard(&theirs), []);
    }

    #[test]
    fn a_process_that_does_not_listen_hears_the_last_word_when_it_does() {
        let (ours, theirs) = pair();
        let mut words = Words::default();
        let mut said = 0;
        while !words.is_waiting() {
            said += 1;
            assert!(said < 10_000, "the socket is never full");
            words.keep(&ends(said));
            words.flush(&ours);
        }
        words.keep(&ends(77));
        assert!(heard(&theirs).len() >= 2);
        words.flush(&ours);
        assert_eq!(heard(&theirs), [ends(77)]);
    }
}
