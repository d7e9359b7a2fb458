//! One supervised child: started, heard, told, started again.

use std::io::{self, PipeReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};

use super::spec::Spec;
use super::words::Words;
use crate::init::backoff::Backoff;
use crate::init::clock::Uptime;
use crate::init::launch;
use crate::init::logs::BoundedLog;
use crate::init::output::Output;
use crate::init::tail::Tail;
use crate::report::{FD_VARIABLE, PACKET_BYTES, Report, Word};

/// Packets taken from one child in one turn of the loop.
const PACKETS_A_TURN: usize = 64;
/// Reports a child may send within a while; more are a fault, and would fill console and memory.
const REPORTS: u32 = 100;
const WHILE: Duration = Duration::from_secs(10);
/// Last lines of a child's log, for the screen: how many, their bytes, the characters of each.
const TAIL: (usize, usize, usize) = (3, 4 << 10, 300);
/// What a child did.
#[derive(Debug)]
pub(in crate::init) enum Event {
    /// It reported.
    Report(Report),
    /// It ended, for the n-th time; it is started again after the wait.
    Died {
        /// Name.
        name: &'static str,
        /// `exit code 1`, `signal 9`.
        how: String,
        /// How often it has died in this boot.
        deaths: u32,
        /// `None` while the machine goes down.
        wait: Option<Duration>,
    },
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: i32,
    pub(super) channel: Option<OwnedFd>,
    pub(super) pipe: Option<PipeReader>,
    began: Uptime,
}

#[derive(Debug)]
pub(super) struct Child {
    pub(super) spec: &'static Spec,
    pub(super) running: Option<Running>,
    pub(super) restart: Option<Uptime>,
    pub(super) output: Output,
    pub(super) words: Words,
    backoff: Backoff,
    deaths: u32,
    allowance: Allowance,
}

/// How much a child may still say.
#[derive(Debug, Default)]
struct Allowance {
    since: Uptime,
    used: u32,
}

impl Allowance {
    /// Counts a report. An error is one too many, the first of them with a word about it.
    fn take(&mut self, now: Uptime, name: &str) -> Result<(), Option<String>> {
        if now.since(self.since) >= WHILE {
            *self = Allowance {
                since: now,
                used: 0,
            };
        }
        self.used = self.used.saturating_add(1);
        match self.used {
            used if used <= REPORTS => Ok(()),
            used if used == REPORTS + 1 => Err(Some(format!(
                "{name} says more than is sensible; some of it is left out"
            ))),
            _ => Err(None),
        }
    }
}

impl Child {
    pub(super) fn new(spec: &'static Spec) -> Child {
        let (lines, bytes, characters) = TAIL;
        Child {
            spec,
            running: None,
            restart: None,
            output: Output::new(
                BoundedLog::create(spec.name).ok(),
                Tail::new(lines, bytes, characters),
            ),
            words: Words::default(),
            backoff: Backoff::from(spec.first_wait),
            deaths: 0,
            allowance: Allowance::default(),
        }
    }

    pub(super) fn start(&mut self) -> io::Result<()> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        // the child's end blocks, so that it need not retry, and survives its exec
        rustix::io::ioctl_fionbio(&theirs, false)?;
        rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())?;
        let (output, write) = io::pipe()?;
        rustix::io::ioctl_fionbio(&output, true)?;
        let child = Command::new("/proc/self/exe")
            .arg0(launch::CALLED)
            .args([self.spec.name, &self.spec.oom.to_string()])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")
            .env("HOME", "/root")
            .env(FD_VARIABLE, theirs.as_raw_fd().to_string())
            .stdin(Stdio::null())
            .stdout(write.try_clone()?)
            .stderr(write)
            .spawn()?;
        self.running = Some(Running {
            pid: i32::try_from(child.id()).map_err(io::Error::other)?,
            channel: Some(ours),
            pipe: Some(output),
            began: Uptime::now(),
        });
        self.words.begin_anew();
        self.flush();
        Ok(())
    }

    /// Takes what the child reported.
    pub(super) fn reports(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(running) = &mut self.running else {
            return events;
        };
        let mut buffer = vec![0; PACKET_BYTES];
        for _ in 0..PACKETS_A_TURN {
            let Some(socket) = &running.channel else {
                break;
            };
            match recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => running.channel = None,
                Ok((length, _)) => {
                    if let Err(word) = self.allowance.take(Uptime::now(), self.spec.name) {
                        events.extend(word.map(|text| Event::Report(Report::Notice(text))));
                        continue;
                    }
                    let packet = buffer.get(..length).unwrap_or_default();
                    match serde_json::from_slice::<Report>(packet) {
                        Ok(report) if self.spec.may_say(&report) => {
                            events.push(Event::Report(report));
                        }
                        Ok(_) | Err(_) => {
                            let text = format!("{} sent a report that is not its", self.spec.name);
                            events.push(Event::Report(Report::Notice(text)));
                        }
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => running.channel = None,
            }
        }
        events
    }

    /// Takes what the child wrote to its standard output and error.
    pub(super) fn log(&mut self) {
        let Some(running) = &mut self.running else {
            return;
        };
        let is_open = match &mut running.pipe {
            Some(pipe) => self.output.take(pipe),
            None => return,
        };
        if !is_open {
            running.pipe = None;
        }
    }

    /// Says a word to the child, now or as soon as it listens.
    pub(super) fn tell(&mut self, word: &Word) {
        self.words.keep(word);
        self.flush();
    }

    /// Sends what waits to be said.
    pub(super) fn flush(&mut self) {
        let running = self.running.as_ref();
        if let Some(channel) = running.and_then(|running| running.channel.as_ref()) {
            self.words.flush(channel);
        }
    }

    /// The child ended.
    pub(super) fn died(&mut self, how: String, stopping: bool) -> Event {
        self.output.tail.finish();
        let ran = self
            .running
            .take()
            .map_or(Duration::ZERO, |running| Uptime::now().since(running.began));
        self.deaths = self.deaths.saturating_add(1);
        let wait = (!stopping).then(|| self.backoff.after(ran));
        self.restart = wait.map(|wait| Uptime::now().after(wait));
        Event::Died {
            name: self.spec.name,
            how,
            deaths: self.deaths,
            wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_says_too_much_is_cut_short_and_that_is_said_once() {
        let mut allowance = Allowance::default();
        let now = Uptime::from_seconds(100.0);
        let taken: Vec<_> = (0..REPORTS + 50)
            .map(|_| allowance.take(now, "node"))
            .collect();
        assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 100);
        assert_eq!(
            taken
                .iter()
                .filter(|taken| matches!(taken, Err(Some(_))))
                .count(),
            1
        );
        assert!(allowance.take(Uptime::from_seconds(110.0), "node").is_ok());
    }
}
