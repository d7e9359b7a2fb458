//! A switch for Ethernet frames between sockets of datagrams, one frame a datagram.
//!
//! It learns which address is behind which port, as any switch does. A hub would not do: QEMU's user
//! network answers whatever frame reaches it, also those for others, and refuses connections
//! between two machines in the name of the one that is asked.

use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The largest frame; cards of QEMU may send segments of 64 KiB and their headers.
const FRAME_BYTES: usize = 80 << 10;
/// How long a port may be busy before a frame for it is lost.
const BUSY: Duration = Duration::from_millis(200);

type Mac = [u8; 6];

/// A switch that runs until it is dropped.
#[derive(Debug)]
pub struct Frames {
    sockets: Vec<Arc<UnixDatagram>>,
    threads: Vec<JoinHandle<()>>,
}

impl Frames {
    /// Starts a switch. Each port is the path of its own socket and of the one at the other end,
    /// which may come and go.
    ///
    /// # Errors
    /// When a socket can't be made.
    pub fn start(ports: &[[PathBuf; 2]]) -> io::Result<Frames> {
        let mut sockets = Vec::new();
        for [ours, _] in ports {
            sockets.push(Arc::new(UnixDatagram::bind(ours)?));
        }
        let others: Arc<[PathBuf]> = ports.iter().map(|[_, theirs]| theirs.clone()).collect();
        let learned = Arc::new(Mutex::new(Learned::default()));
        let mut threads = Vec::new();
        for (port, socket) in sockets.iter().enumerate() {
            let out = UnixDatagram::unbound()?;
            out.set_write_timeout(Some(BUSY))?;
            let (socket, others, learned) = (socket.clone(), others.clone(), learned.clone());
            threads.push(thread::spawn(move || {
                forward(port, &socket, &out, &others, &learned);
            }));
        }
        Ok(Frames { sockets, threads })
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        for socket in &self.sockets {
            // wakes the thread that reads from it
            let _ = socket.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn forward(
    port: usize,
    socket: &UnixDatagram,
    out: &UnixDatagram,
    others: &[PathBuf],
    learned: &Mutex<Learned>,
) {
    let mut buffer = vec![0; FRAME_BYTES];
    while let Ok(length @ 1..) = socket.recv(&mut buffer) {
        let frame = buffer.get(..length).unwrap_or_default();
        let Some((to, from)) = addresses(frame) else {
            continue;
        };
        let targets = learned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .route(port, from, to, others.len());
        for target in targets {
            if let Some(path) = others.get(target) {
                // a machine that is off or busy loses the frame, as on any cable
                let _ = out.send_to(frame, path);
            }
        }
    }
}

fn addresses(frame: &[u8]) -> Option<(Mac, Mac)> {
    let to = frame.get(..6)?.try_into().ok()?;
    let from = frame.get(6..12)?.try_into().ok()?;
    Some((to, from))
}

/// Which address is behind which port.
#[derive(Debug, Default)]
struct Learned(BTreeMap<Mac, usize>);

impl Learned {
    /// The ports that a frame goes to.
    fn route(&mut self, port: usize, from: Mac, to: Mac, ports: usize) -> Vec<usize> {
        self.0.insert(from, port);
        let group = to.first().is_some_and(|first| first & 1 == 1);
        match self.0.get(&to) {
            Some(&target) if !group => Vec::from_iter((target != port).then_some(target)),
            // an address that nobody has shown yet belongs to nobody who could answer
            None if !group => Vec::new(),
            _ => (0..ports).filter(|other| *other != port).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 1];
    const B: Mac = [2, 0, 0, 0, 0, 2];
    const ALL: Mac = [0xff; 6];

    fn frame(to: Mac, from: Mac) -> Vec<u8> {
        [&to[..], &from[..], &[8, 6]].concat()
    }

    #[test]
    fn a_frame_reaches_the_one_it_is_for_and_a_broadcast_everybody_else() {
        let mut learned = Learned::default();
        assert_eq!(learned.route(0, A, B, 3), [0_usize; 0]);
        assert_eq!(learned.route(0, A, ALL, 3), [1, 2]);
        assert_eq!(learned.route(2, B, A, 3), [0]);
        assert_eq!(learned.route(0, A, B, 3), [2]);
        // it was plugged in elsewhere
        learned.route(1, B, ALL, 3);
        assert_eq!(learned.route(0, A, B, 3), [1]);
    }

    #[test]
    fn sockets_come_and_go_and_the_switch_goes_on_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let port = |name: &str| {
            ["switch", "machine"].map(|e| directory.path().join(format!("{name}.{e}")))
        };
        let ports = [port("a"), port("b")];
        let frames = Frames::start(&ports).unwrap();
        let b = UnixDatagram::bind(&ports[1][1]).unwrap();
        b.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut buffer = [0; 64];
        for _ in 0..2 {
            let a = UnixDatagram::bind(&ports[0][1]).unwrap();
            a.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            a.send_to(&frame(ALL, A), &ports[0][0]).unwrap();
            let length = b.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..length], frame(ALL, A));
            b.send_to(&frame(A, B), &ports[1][0]).unwrap();
            let length = a.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..length], frame(A, B));
            drop(a);
            std::fs::remove_file(&ports[0][1]).unwrap();
            // nobody is there; nothing breaks
            b.send_to(&frame(A, B), &ports[1][0]).unwrap();
        }
        drop(frames);
    }
}
