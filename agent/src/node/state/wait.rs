//! Waiting for what may take long, with an end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use super::problem::StateError;

/// The kernel's own group of device events.
const KERNEL_GROUP: u32 = 1;

/// Threads left behind at most; the stage is tried again and again, and each try may leave one.
const LEFT_BEHIND: usize = 4;
static LEFT: AtomicUsize = AtomicUsize::new(0);

/// Does something that reads or writes a device, in a thread of its own: with a dying device it
/// never returns, and no signal reaches it. Then the thread is left behind. With
/// [`LEFT_BEHIND`] of them nothing more is tried until one comes back after all.
pub(super) fn bounded<T: Send + 'static>(
    doing: String,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StateError> {
    let stuck = StateError::Stuck {
        doing,
        seconds: patience.as_secs(),
    };
    if LEFT.load(Ordering::Relaxed) >= LEFT_BEHIND {
        return Err(stuck);
    }
    let (sender, receiver) = mpsc::channel();
    // set by the first of the two: the work that ended, or the wait for it
    let decided = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let decided = Arc::clone(&decided);
        move || {
            let done = work();
            if decided.swap(true, Ordering::Relaxed) {
                LEFT.fetch_sub(1, Ordering::Relaxed);
            }
            // nobody takes it if it was given up
            let _ = sender.send(done);
        }
    });
    match receiver.recv_timeout(patience) {
        Ok(done) => return Ok(done),
        // the work panicked: nothing is left behind
        Err(RecvTimeoutError::Disconnected) => return Err(stuck),
        Err(RecvTimeoutError::Timeout) => {}
    }
    // before the thread can find out that it was left
    LEFT.fetch_add(1, Ordering::Relaxed);
    if decided.swap(true, Ordering::Relaxed) {
        // it ended in this very moment, or died
        LEFT.fetch_sub(1, Ordering::Relaxed);
        return receiver.recv().map_err(|_| stuck);
    }
    Err(stuck)
}

/// The kernel's device events. Opened before the first look at the devices, it misses none.
#[derive(Debug)]
pub(super) struct Events(OwnedFd);

impl Events {
    /// Opens the socket (Linux: lib/kobject_uevent.c).
    pub(super) fn open() -> std::io::Result<Events> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::DGRAM;
        let socket = socket_with(AddressFamily::NETLINK, kind, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Events(socket))
    }

    /// Waits until something happened to a device, at most `patience`. What happened is not
    /// looked at: whoever waits looks at the devices anew.
    pub(super) fn wait(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        // an interrupted wait is a short one; the caller has the deadline
        let _ = poll(&mut fds, Timespec::try_from(patience).ok().as_ref());
        // all of a burst counts as one event; errors say that some were lost, which is the same
        let mut packet = [0_u8; 8192];
        while Instant::now() < deadline {
            match recv(&self.0, &mut packet[..], RecvFlags::DONTWAIT) {
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_given_up_after_its_bound() {
        let (_keep, hang) = mpsc::channel::<()>();
        let stuck = bounded(
            "reading sdz".to_owned(),
            Duration::from_millis(50),
            move || hang.recv(),
        );
        assert!(matches!(stuck, Err(StateError::Stuck { doing, .. }) if doing == "reading sdz"));
        let done = bounded(String::new(), Duration::from_secs(30), || 7);
        assert_eq!(done.unwrap(), 7);
    }

    #[test]
    fn waiting_for_events_ends_without_any() {
        let events = Events::open().unwrap();
        let begin = Instant::now();
        events.wait(Duration::from_millis(50));
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
}
