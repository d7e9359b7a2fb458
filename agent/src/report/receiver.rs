//! A child's side of what PID 1 says.

use std::io;
use std::os::fd::OwnedFd;

use tokio::net::UnixDatagram;

use super::{PACKET_BYTES, Word};

/// What PID 1 says, one [`Word`] after the other.
#[derive(Debug)]
pub(crate) struct Receiver {
    /// A packet socket with a connection, which tokio has no type for: reading one is reading a
    /// datagram, and an empty one is its end.
    channel: UnixDatagram,
    buffer: Vec<u8>,
}

impl Receiver {
    /// Over a descriptor that is duplicated. The channel does not block from here on.
    pub(super) fn over(channel: &OwnedFd) -> io::Result<Receiver> {
        let channel = std::os::unix::net::UnixDatagram::from(channel.try_clone()?);
        channel.set_nonblocking(true)?;
        Ok(Receiver {
            channel: UnixDatagram::from_std(channel)?,
            buffer: vec![0; PACKET_BYTES],
        })
    }

    /// The next word; `None` once PID 1 has closed the channel, and then always. What is no word
    /// is logged and passed over. Nothing is lost where the future is dropped before its end.
    pub(crate) async fn next(&mut self) -> Option<Word> {
        loop {
            let length = match self.channel.recv(&mut self.buffer).await {
                Ok(0) => return None,
                Ok(length) => length,
                Err(error) => {
                    tracing::error!("reading PID 1's words: {error}");
                    return None;
                }
            };
            let packet = self.buffer.get(..length).unwrap_or_default();
            match serde_json::from_slice(packet) {
                Ok(word) => return Some(word),
                Err(error) => tracing::error!("PID 1 said what is no word: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
    };

    use super::*;
    use crate::report::{K3sState, Report, Sender};

    fn pair() -> (OwnedFd, Sender) {
        let flags = SocketFlags::CLOEXEC;
        let (parent, child) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (parent, Sender::over(child))
    }

    fn say(parent: &OwnedFd, packet: &[u8]) {
        send(parent, packet, SendFlags::empty()).unwrap();
    }

    #[tokio::test]
    async fn words_arrive_in_order_and_nonsense_is_passed_over() {
        let (parent, sender) = pair();
        let mut receiver = sender.listen().unwrap();
        let k3s = Word::K3s(K3sState {
            running: true,
            tail: "last".into(),
            ..K3sState::default()
        });
        say(&parent, &serde_json::to_vec(&Word::Go).unwrap());
        say(&parent, b"no word");
        say(&parent, br#"{"k3s":{"ready":true,"later":1}}"#);
        say(&parent, &serde_json::to_vec(&k3s).unwrap());
        assert_eq!(receiver.next().await, Some(Word::Go));
        let Some(Word::K3s(state)) = receiver.next().await else {
            panic!("a word with a field of a later version is one");
        };
        assert!(state.ready);
        assert_eq!(receiver.next().await, Some(k3s));
        // both directions go through one channel
        sender.send(&Report::Notice("hello".into()));
        let (length, _) = recv(&parent, &mut [0_u8; 64][..], RecvFlags::DONTWAIT).unwrap();
        assert!(length > 0);
        drop(parent);
        assert_eq!(receiver.next().await, None);
        assert_eq!(receiver.next().await, None);
    }

    #[tokio::test]
    async fn a_word_is_awaited_and_an_abandoned_wait_loses_none() {
        let (parent, sender) = pair();
        let mut receiver = sender.listen().unwrap();
        tokio::select! {
            biased;
            word = receiver.next() => panic!("{word:?} was never said"),
            () = tokio::task::yield_now() => {}
        }
        let saying = tokio::spawn(async move {
            say(&parent, &serde_json::to_vec(&Word::Go).unwrap());
            parent
        });
        assert_eq!(receiver.next().await, Some(Word::Go));
        drop(saying.await.unwrap());
        assert_eq!(receiver.next().await, None);
    }
}
