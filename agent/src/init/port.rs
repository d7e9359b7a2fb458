//! The status port: one JSON line an event on a virtio-serial port, for whoever runs the machine.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use image_layout::paths::node::STATUS_PORT;
use image_layout::status::StatusLine;
use rustix::event::PollFlags;

use super::clock::Uptime;
use super::text::attribute;

const PORTS: &str = "/sys/class/virtio-ports";
/// Lines kept while there is no port or nobody reads; the oldest go first.
const QUEUE_LINES: usize = 1000;
/// The kernel has no event a poll could wait on for "somebody opened the other end": the port only
/// says hang-up at once, for ever. So a port without a reader is looked at again this often.
const RETRY: Duration = Duration::from_secs(1);

/// The port, found or not yet.
#[derive(Debug, Default)]
pub(super) struct StatusPort {
    file: Option<File>,
    queue: VecDeque<Vec<u8>>,
    /// Set while nobody reads.
    retry: Option<Uptime>,
}

impl StatusPort {
    /// Looks for the port; called when a port appears. A port that is open stays.
    pub(super) fn find(&mut self) {
        if self.file.is_some() {
            return;
        }
        let Ok(ports) = std::fs::read_dir(PORTS) else {
            return;
        };
        for port in ports.flatten() {
            if attribute(port.path().join("name")).as_deref() != Some(STATUS_PORT) {
                continue;
            }
            let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
            self.file = OpenOptions::new()
                .write(true)
                .custom_flags(nonblock)
                .open(std::path::Path::new("/dev").join(port.file_name()))
                .ok();
            self.flush();
        }
    }

    /// Sends a line, now or when somebody reads.
    pub(super) fn send(&mut self, line: &StatusLine) {
        let Ok(mut json) = serde_json::to_vec(line) else {
            return;
        };
        json.push(b'\n');
        if self.queue.len() >= QUEUE_LINES {
            // the first entry may be half written: cutting it would glue two lines together
            self.queue.remove(1);
        }
        self.queue.push_back(json);
        if self.retry.is_none() {
            self.flush();
        }
    }

    /// Whether there is a port and everything went out; without one, consoles may need the time.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.file.is_some()
    }

    /// The descriptor to poll for writing, while lines wait for a reader that is there.
    pub(super) fn waiting(&self) -> Option<&File> {
        self.file
            .as_ref()
            .filter(|_| !self.queue.is_empty() && self.retry.is_none())
    }

    /// What poll said about the descriptor.
    pub(super) fn ready(&mut self, events: PollFlags) {
        if events.contains(PollFlags::OUT) {
            self.flush();
        } else {
            self.retry = Some(Uptime::now().after(RETRY));
        }
    }

    /// When to call [`Self::tick`].
    pub(super) fn deadline(&self) -> Option<Uptime> {
        self.retry
    }

    /// Tries again.
    pub(super) fn tick(&mut self, now: Uptime) {
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            self.flush();
        }
    }

    fn flush(&mut self) {
        let Some(file) = &mut self.file else {
            return;
        };
        while let Some(line) = self.queue.front_mut() {
            match file.write(line) {
                Ok(written) if written >= line.len() => drop(self.queue.pop_front()),
                Ok(written) => drop(line.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // the port was unplugged; it may come back under another name
                Err(_) => {
                    self.file = None;
                    return;
                }
            }
        }
    }
}
