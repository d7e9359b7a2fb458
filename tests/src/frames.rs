//! A switch for Ethernet frames that come and go as datagrams over Unix sockets.
//!
//! It learns, as switches do, and not only to save work: QEMU's user network takes every frame that
//! it sees for its own and refuses connections between other machines.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

/// The largest frame: QEMU's card may send 64 KiB at once.
const FRAME_BYTES: usize = 68 << 10;
/// How long a machine may take to make room for a frame before it is lost, as on any network.
const PATIENCE: Duration = Duration::from_millis(200);

type Mac = [u8; 6];

/// A switch that runs until it is dropped.
#[derive(Debug)]
pub struct FrameSwitch {
    // Its end tells the thread.
    _alive: UnixStream,
}

impl FrameSwitch {
    /// Starts a switch with a socket for each cable: the path of the switch's end, which is made,
    /// and that of the other.
    ///
    /// # Errors
    /// When a socket can't be made.
    pub fn start(cables: &[[PathBuf; 2]]) -> io::Result<FrameSwitch> {
        let mut ports = Vec::new();
        for [ours, theirs] in cables {
            let socket = UnixDatagram::bind(ours)?;
            socket.set_write_timeout(Some(PATIENCE))?;
            ports.push((socket, theirs.clone()));
        }
        let (alive, end) = UnixStream::pair()?;
        std::thread::Builder::new()
            .name("switch".to_owned())
            .spawn(move || run(&ports, &end))?;
        Ok(FrameSwitch { _alive: alive })
    }
}

fn run(ports: &[(UnixDatagram, PathBuf)], end: &UnixStream) {
    let mut seen = BTreeMap::new();
    let mut frame = vec![0; FRAME_BYTES];
    loop {
        let mut fds: Vec<PollFd<'_>> = ports
            .iter()
            .map(|(socket, _)| PollFd::new(socket, PollFlags::IN))
            .collect();
        fds.push(PollFd::new(end, PollFlags::IN));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready.last() == Some(&true) {
            return;
        }
        for (from, (socket, _)) in ports.iter().enumerate() {
            if ready.get(from) != Some(&true) {
                continue;
            }
            // A machine that went away is no error of the switch.
            if let Ok(bytes) = socket.recv(&mut frame) {
                forward(
                    ports,
                    &mut seen,
                    from,
                    frame.get(..bytes).unwrap_or_default(),
                );
            }
        }
    }
}

/// Sends a frame to the port where its receiver was seen, or to every other one.
fn forward(
    ports: &[(UnixDatagram, PathBuf)],
    seen: &mut BTreeMap<Mac, usize>,
    from: usize,
    frame: &[u8],
) {
    let (Some(to), Some(sender)) = (mac(frame, 0), mac(frame, 6)) else {
        return;
    };
    seen.insert(sender, from);
    // The lowest bit of the first byte: a frame for several.
    let known = match to[0] & 1 {
        0 => seen.get(&to),
        _ => None,
    };
    for (number, (socket, theirs)) in ports.iter().enumerate() {
        if number != from && known.is_none_or(|port| *port == number) {
            send(socket, theirs, frame);
        }
    }
}

fn mac(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..at + 6)?.try_into().ok()
}

fn send(socket: &UnixDatagram, to: &Path, frame: &[u8]) {
    // Nobody there, or nobody who takes it: the frame is lost.
    let _ = socket.send_to(frame, to);
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYBODY: Mac = [0xff; 6];

    fn frame(to: Mac, from: Mac, text: &str) -> Vec<u8> {
        [&to[..], &from[..], text.as_bytes()].concat()
    }

    #[test]
    fn a_frame_goes_where_its_receiver_was_seen_and_else_to_everybody() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: String| directory.path().join(name);
        let cables: Vec<[PathBuf; 2]> = (0..3)
            .map(|n| [path(format!("switch-{n}")), path(format!("machine-{n}"))])
            .collect();
        let _switch = FrameSwitch::start(&cables).unwrap();
        let machines: Vec<UnixDatagram> = cables
            .iter()
            .map(|[_, theirs]| {
                let socket = UnixDatagram::bind(theirs).unwrap();
                socket
                    .set_read_timeout(Some(Duration::from_secs(20)))
                    .unwrap();
                socket
            })
            .collect();
        let send = |n: usize, frame: &[u8]| {
            machines[n].send_to(frame, &cables[n][0]).unwrap();
        };
        let heard = |n: usize| {
            let mut buffer = [0; 100];
            let bytes = machines[n].recv(&mut buffer).unwrap();
            String::from_utf8(buffer[12..bytes].to_vec()).unwrap()
        };
        let macs = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
        send(0, &frame(EVERYBODY, macs[0], "who"));
        assert_eq!([heard(1), heard(2)], ["who", "who"]);
        send(1, &frame(macs[0], macs[1], "me"));
        assert_eq!(heard(0), "me");
        send(0, &frame(macs[1], macs[0], "you"));
        assert_eq!(heard(1), "you");
        // The third heard neither: the next that it hears is for everybody again.
        send(0, &frame(EVERYBODY, macs[0], "bye"));
        assert_eq!(heard(2), "bye");
    }
}
