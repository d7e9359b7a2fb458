//! The supervised children: `node` and `registry`.

mod child;
mod spec;
mod words;

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::PollFlags;
use rustix::process::WaitStatus;

use self::child::Child;
pub(super) use self::child::Event;
use self::spec::Spec;
pub(super) use self::spec::{NODE, REGISTRY};
use super::cgroup;
use super::clock::Uptime;
use super::launch::describe;
use crate::report::Word;
/// Which descriptor of which child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Its channel: what it reports, and what it is told.
    Channel(&'static str),
    /// Its output.
    Output(&'static str),
}

/// All children.
#[derive(Debug, Default)]
pub(super) struct Children {
    children: Vec<Child>,
    stopping: bool,
}

impl Children {
    /// Starts a child for the first time.
    pub(super) fn start(&mut self, spec: &'static Spec) -> Vec<Event> {
        if self.stopping || self.children.iter().any(|child| child.spec == spec) {
            return Vec::new();
        }
        let mut child = Child::new(spec);
        let started = child.start();
        let event = started
            .err()
            .map(|error| child.died(error.to_string(), false));
        self.children.push(child);
        event.into_iter().collect()
    }

    /// Whether a child was started.
    pub(super) fn has(&self, spec: &Spec) -> bool {
        self.children.iter().any(|child| child.spec == spec)
    }

    /// Tells a child something, now or as soon as it listens; also each process that comes after
    /// the one that runs now.
    pub(super) fn tell(&mut self, spec: &Spec, word: &Word) {
        if let Some(child) = self.children.iter_mut().find(|child| child.spec == spec) {
            child.tell(word);
        }
    }

    /// The descriptors to poll, and for what.
    pub(super) fn doors(&self) -> impl Iterator<Item = (Door, BorrowedFd<'_>, PollFlags)> {
        self.children.iter().flat_map(|child| {
            let running = child.running.as_ref();
            let flags = match child.words.is_waiting() {
                true => PollFlags::IN | PollFlags::OUT,
                false => PollFlags::IN,
            };
            let channel = running
                .and_then(|running| running.channel.as_ref())
                .map(|fd| (Door::Channel(child.spec.name), fd.as_fd(), flags));
            let output = running
                .and_then(|running| running.pipe.as_ref())
                .map(|fd| (Door::Output(child.spec.name), fd.as_fd(), PollFlags::IN));
            channel.into_iter().chain(output)
        })
    }

    /// A descriptor is ready.
    pub(super) fn ready(&mut self, door: Door) -> Vec<Event> {
        let (Door::Channel(name) | Door::Output(name)) = door;
        let Some(child) = self.children.iter_mut().find(|c| c.spec.name == name) else {
            return Vec::new();
        };
        match door {
            Door::Channel(_) => {
                child.flush();
                child.reports()
            }
            Door::Output(_) => {
                child.log();
                Vec::new()
            }
        }
    }

    /// A process ended; `None` if it was no child. What it said last comes first.
    pub(super) fn reaped(&mut self, pid: i32, status: WaitStatus) -> Option<Vec<Event>> {
        let stopping = self.stopping;
        let is_it = |child: &&mut Child| child.running.as_ref().is_some_and(|r| r.pid == pid);
        let child = self.children.iter_mut().find(is_it)?;
        let mut events = child.reports();
        child.log();
        // what the child left behind in its group must not hold its port or its lock
        let _ = cgroup::kill(child.spec.name);
        events.push(child.died(describe(status), stopping));
        Some(events)
    }

    /// The last lines a child wrote.
    pub(super) fn tail(&self, name: &str) -> String {
        let child = self.children.iter().find(|child| child.spec.name == name);
        child.map_or_else(String::new, |child| child.output.tail.text())
    }

    /// When to call [`Self::tick`].
    pub(super) fn deadline(&self) -> Option<Uptime> {
        self.children.iter().filter_map(|child| child.restart).min()
    }

    /// Starts children whose wait is over.
    pub(super) fn tick(&mut self, now: Uptime) -> Vec<Event> {
        let mut events = Vec::new();
        for child in &mut self.children {
            if child.restart.is_some_and(|at| at <= now) {
                child.restart = None;
                if let Err(error) = child.start() {
                    events.push(child.died(error.to_string(), false));
                }
            }
        }
        events
    }

    /// The machine goes down: nobody is started any more.
    pub(super) fn hold(&mut self) {
        self.stopping = true;
        for child in &mut self.children {
            child.restart = None;
        }
    }

    /// Asks everybody to end.
    pub(super) fn stop(&mut self) {
        self.hold();
        for child in &self.children {
            if let Some(running) = &child.running {
                let _ = kill(Pid::from_raw(running.pid), Signal::SIGTERM);
            }
        }
    }

    /// Kills who did not end when asked to.
    pub(super) fn kill(&self) {
        for child in &self.children {
            let _ = cgroup::kill(child.spec.name);
            if let Some(running) = &child.running {
                let _ = kill(Pid::from_raw(running.pid), Signal::SIGKILL);
            }
        }
    }

    /// The names of those that run.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let running = self.children.iter().filter(|child| child.running.is_some());
        running.map(|child| child.spec.name).collect()
    }

    /// Whether none runs.
    pub(super) fn are_gone(&self) -> bool {
        self.children.iter().all(|child| child.running.is_none())
    }
}
