//! Where k3s says that it is ready: the socket of sd_notify(3), lines of `NAME=VALUE`.
//!
//! k3s sends READY=1 once its parts run, some seconds before the node is Ready (k3s:
//! pkg/cli/server, pkg/agent). Everything else that may be said there is ignored.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, bind, recv, socket_with,
};

/// Bytes read of one message, and messages read in one turn of the loop.
const MESSAGE_BYTES: usize = 4 << 10;
const MESSAGES_A_TURN: usize = 16;

/// The socket. Only root can write to it; whose message it is does not matter.
#[derive(Debug)]
pub(super) struct Notify {
    socket: OwnedFd,
}

impl Notify {
    /// Listens at `path`; whatever is there goes.
    pub(super) fn listen(path: &Path) -> io::Result<Notify> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        // the file gets the socket's mode
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Notify { socket })
    }

    /// What to poll.
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Takes what was said; whether one of the messages was "ready".
    pub(super) fn take(&self) -> bool {
        let mut buffer = [0; MESSAGE_BYTES];
        let mut is_ready = false;
        for _ in 0..MESSAGES_A_TURN {
            match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => is_ready |= says_ready(buffer.get(..length).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        is_ready
    }
}

fn says_ready(message: &[u8]) -> bool {
    message
        .split(|&byte| byte == b'\n')
        .any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn ready_is_a_line_of_its_own() {
        assert!(says_ready(b"READY=1"));
        assert!(says_ready(b"STATUS=up\nREADY=1\n"));
        for other in ["", "READY=0", "READY=11", "XREADY=1", "STATUS=READY=1"] {
            assert!(!says_ready(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_socket_whose_file_was_removed_is_made_anew_for_root_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify.sock");
        let first = Notify::listen(&path).unwrap();
        assert!(!first.take());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "not a socket").unwrap();
        let second = Notify::listen(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let sender = UnixDatagram::unbound().unwrap();
        for message in ["STOPPING=1", "READY=1", "MAINPID=7"] {
            sender.send_to(message.as_bytes(), &path).unwrap();
        }
        assert!(second.take());
        assert!(!second.take());
    }
}
