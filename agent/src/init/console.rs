//! Every console at once: each `console=` of the command line, VGA and serial alike.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use super::text::attribute;

/// What the kernel really writes to.
const ACTIVE: &str = "/sys/class/tty/console/active";
/// Text kept for a console that does not take it: a serial port whose flow control says stop.
const QUEUE_BYTES: usize = 64 << 10;

/// The names of the devices a kernel command line gives as consoles, in its order, each once.
/// `console=ttyS0,115200` is `ttyS0`; `console=` and `console=null` name none.
pub(super) fn named(command_line: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for word in command_line.split_ascii_whitespace() {
        let Some(value) = word.trim_matches('"').strip_prefix("console=") else {
            continue;
        };
        let name = value.split(',').next().unwrap_or_default();
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
        if plain && (name.starts_with("tty") || name.starts_with("hvc")) {
            names.push(name.to_owned());
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// One console, written without ever waiting for it.
#[derive(Debug)]
struct Console {
    file: File,
    queue: VecDeque<u8>,
}

impl Console {
    fn open(name: &str) -> io::Result<Console> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
            .open(format!("/dev/{name}"))?;
        Ok(Console {
            file,
            queue: VecDeque::new(),
        })
    }

    fn push(&mut self, text: &[u8]) {
        // what does not fit is lost for this console; kernel log and status port have it
        if self.queue.len().saturating_add(text.len()) <= QUEUE_BYTES {
            self.queue.extend(text);
        }
        self.flush();
    }

    fn flush(&mut self) {
        while !self.queue.is_empty() {
            let (front, _) = self.queue.as_slices();
            match self.file.write(front) {
                Ok(0) => return,
                Ok(written) => drop(self.queue.drain(..written.min(front.len()))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // a console that was unplugged: nobody will ever read it
                Err(_) => return self.queue.clear(),
            }
        }
    }
}

/// All consoles of this machine.
#[derive(Debug, Default)]
pub(super) struct Consoles {
    from_command_line: Vec<String>,
    open: BTreeMap<String, Console>,
}

impl Consoles {
    /// The consoles the command line names, and those the kernel chose by itself. `/dev` and `/sys`
    /// must be mounted.
    pub(super) fn open(command_line: &str) -> Consoles {
        let mut consoles = Consoles {
            from_command_line: named(command_line),
            open: BTreeMap::new(),
        };
        consoles.refresh();
        consoles
    }

    /// Opens consoles whose driver came in the meantime.
    fn refresh(&mut self) {
        let active = attribute(ACTIVE).unwrap_or_default();
        let names = active.split_ascii_whitespace().map(str::to_owned);
        for name in names.chain(self.from_command_line.clone()) {
            // tty0 is whatever virtual terminal is shown; a terminal of its own is not opened twice
            if !self.open.contains_key(&name)
                && let Ok(console) = Console::open(&name)
            {
                self.open.insert(name, console);
            }
        }
        if self.open.is_empty()
            && let Ok(console) = Console::open("console")
        {
            self.open.insert("console".to_owned(), console);
        }
    }

    /// Writes text to every console, as much of it as each takes without waiting.
    pub(super) fn write(&mut self, text: &str) {
        self.refresh();
        for console in self.open.values_mut() {
            console.push(text.as_bytes());
        }
    }

    /// The consoles that have not taken everything yet: poll them for writing.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &File> {
        self.open
            .values()
            .filter(|console| !console.queue.is_empty())
            .map(|console| &console.file)
    }

    /// Tries again to write what waits.
    pub(super) fn flush(&mut self) {
        for console in self.open.values_mut() {
            console.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_console_of_the_command_line_counts_once() {
        let line = "quiet console=tty0 console=ttyS0,115200n8 console=ttyS0 console=null \
                    console= console=uart8250,io,0x3f8 console=../../etc console=hvc0";
        assert_eq!(named(line), ["tty0", "ttyS0", "hvc0"]);
    }
}
