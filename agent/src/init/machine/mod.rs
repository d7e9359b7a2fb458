//! PID 1's loop: one poll(2) over everything that can happen, in one thread.

mod down;

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};

use super::boot::Boot;
use super::children::{Children, Door, Event, NODE};
use super::clock::{Uptime, earlier};
use super::helper::{Helpers, Outcome, Task};
use super::k3s::{self, K3s};
use super::kmsg::{KmsgReader, Level};
use super::loader::Loader;
use super::power::{Buttons, Power};
use super::reporter::Reporter;
use super::shutdown::Shutdown;
use super::uevent::{Uevent, UeventSocket};
use crate::report::Word;

/// Wakes up at least this often, should a deadline have been forgotten: PID 1 never sleeps for ever.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Lines of one driver that fails are told once; of all together not more than this.
const DRIVER_LINES: usize = 100;

/// What a descriptor in the poll set is.
#[derive(Clone, Debug)]
enum Source {
    Signals,
    Uevents,
    KernelLog,
    LoaderOutput,
    LoaderInput,
    Helper(i32),
    Child(Door),
    K3s(k3s::Door),
    /// A control group became empty, or another number of its processes is left.
    Group,
    Button(String),
    Port,
    Console,
}

/// Everything PID 1 holds.
#[derive(Debug)]
pub(super) struct Machine {
    /// What it says.
    pub(super) reporter: Reporter,
    /// Its supervised children.
    pub(super) children: Children,
    /// k3s, which is one of its own kind.
    pub(super) k3s: K3s,
    /// Its short-lived ones.
    pub(super) helpers: Helpers,
    /// The one that loads drivers.
    pub(super) loader: Loader,
    signals: SignalFd,
    uevents: Option<UeventSocket>,
    kernel_log: Option<KmsgReader>,
    buttons: Buttons,
    down: Option<Shutdown>,
    /// Whether no other process was left when last looked.
    is_alone: bool,
    driver_lines: usize,
}

impl Machine {
    /// Takes over the signals and opens what the kernel tells through.
    pub(super) fn new(mut reporter: Reporter) -> io::Result<Machine> {
        let all = SigSet::all();
        all.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&all, flags)?;
        let uevents = match UeventSocket::open() {
            Ok(socket) => Some(socket),
            Err(error) => {
                reporter.notice(&format!("device events can't be heard: {error}"));
                None
            }
        };
        Ok(Machine {
            reporter,
            children: Children::default(),
            k3s: K3s::default(),
            helpers: Helpers::default(),
            loader: Loader::default(),
            signals,
            uevents,
            kernel_log: KmsgReader::open(),
            buttons: Buttons::default(),
            down: None,
            is_alone: false,
            driver_lines: 0,
        })
    }

    /// One turn: waits until something happens or is due, and deals with all of it.
    pub(super) fn turn(&mut self, boot: &mut Boot) {
        for source in self.wait(boot.deadline()) {
            self.dispatch(source, boot);
        }
        self.due(boot);
        self.reporter.settle();
    }

    /// Polls; returns what is ready.
    fn wait(&mut self, boot: Option<Uptime>) -> Vec<Source> {
        let deadline = [
            boot,
            self.children.deadline(),
            self.k3s.deadline(),
            self.helpers.deadline(),
            self.loader.deadline(),
            self.reporter.port.deadline(),
            self.down.as_ref().and_then(|down| down.deadline),
        ]
        .into_iter()
        .fold(None, earlier);
        let now = Uptime::now();
        let sleep = deadline
            .map_or(LONGEST_SLEEP, |at| at.since(now))
            .min(LONGEST_SLEEP);
        let timeout = Timespec {
            tv_sec: i64::try_from(sleep.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(sleep.subsec_nanos()),
        };

        let (read, write) = (PollFlags::IN, PollFlags::OUT);
        let mut sources = vec![Source::Signals];
        let mut fds = vec![PollFd::new(&self.signals, read)];
        if let Some(uevents) = &self.uevents {
            sources.push(Source::Uevents);
            fds.push(PollFd::new(uevents.fd(), read));
        }
        if let Some(log) = &self.kernel_log {
            sources.push(Source::KernelLog);
            fds.push(PollFd::new(log.file(), read));
        }
        if let Some(output) = self.loader.output() {
            sources.push(Source::LoaderOutput);
            fds.push(PollFd::new(output, read));
        }
        if let Some(input) = self.loader.input() {
            sources.push(Source::LoaderInput);
            fds.push(PollFd::new(input, write));
        }
        for (pid, output) in self.helpers.outputs() {
            sources.push(Source::Helper(pid));
            fds.push(PollFd::new(output, read));
        }
        for (door, fd, flags) in self.children.doors() {
            sources.push(Source::Child(door));
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        }
        for (door, fd) in self.k3s.doors() {
            sources.push(Source::K3s(door));
            fds.push(PollFd::from_borrowed_fd(fd, read));
        }
        for watch in self.down.iter().flat_map(|down| &down.watches) {
            sources.push(Source::Group);
            fds.push(PollFd::new(watch.file(), PollFlags::PRI));
        }
        for (name, file) in self.buttons.files() {
            sources.push(Source::Button(name.clone()));
            fds.push(PollFd::new(file, read));
        }
        if let Some(port) = self.reporter.port.waiting() {
            sources.push(Source::Port);
            fds.push(PollFd::new(port, write));
        }
        for console in self.reporter.consoles.waiting() {
            sources.push(Source::Console);
            fds.push(PollFd::from_borrowed_fd(console.as_fd(), write));
        }
        if poll(&mut fds, Some(&timeout)).is_err() {
            return Vec::new();
        }
        let ready: Vec<(Source, PollFlags)> = sources
            .into_iter()
            .zip(fds.iter().map(PollFd::revents))
            .filter(|(_, events)| !events.is_empty())
            .collect();
        for (source, events) in &ready {
            if matches!(source, Source::Port) {
                self.reporter.port.ready(*events);
            }
        }
        ready.into_iter().map(|(source, _)| source).collect()
    }

    fn dispatch(&mut self, source: Source, boot: &mut Boot) {
        match source {
            Source::Signals => self.signals(boot),
            Source::Uevents => self.uevents(boot),
            Source::KernelLog => {
                let records = self.kernel_log.as_mut().map(KmsgReader::read);
                for record in records.unwrap_or_default() {
                    self.reporter.kernel_record(&record);
                }
            }
            Source::LoaderOutput => self.heard_loader(boot),
            Source::LoaderInput => self.loader.flush(),
            Source::Helper(pid) => self.helpers.readable(pid),
            Source::Child(door) => {
                let events = self.children.ready(door);
                self.child_events(events, boot);
            }
            Source::K3s(door) => self.k3s.ready(door),
            // looked at when something is due
            Source::Group => {}
            Source::Button(name) => {
                if self.buttons.pressed(&name) {
                    self.reporter.say("the power button was pressed");
                    self.go_down(Power::Off, false);
                }
            }
            Source::Port => {}
            Source::Console => self.reporter.consoles.flush(),
        }
    }

    fn signals(&mut self, boot: &mut Boot) {
        // bounded: each kind of signal is pending at most once, real-time ones are few
        for _ in 0..128 {
            let Ok(Some(info)) = self.signals.read_signal() else {
                break;
            };
            let signal = i32::try_from(info.ssi_signo)
                .ok()
                .and_then(|number| Signal::try_from(number).ok());
            match signal {
                Some(Signal::SIGCHLD) => {}
                Some(signal) => {
                    if let Some(power) = Power::of_signal(signal) {
                        self.go_down(power, signal == Signal::SIGINT);
                    }
                }
                None => {}
            }
        }
        self.reap(boot);
    }

    /// Takes the status of every process that ended: children, helpers, and orphans of whom PID 1
    /// is the parent of last resort. The only place that waits for processes.
    fn reap(&mut self, boot: &mut Boot) {
        loop {
            let (pid, status) = match wait(WaitOptions::NOHANG) {
                Ok(Some(ended)) => ended,
                Ok(None) => break,
                Err(error) => {
                    self.is_alone = error == Errno::CHILD;
                    break;
                }
            };
            let pid = pid.as_raw_nonzero().get();
            let success = status.exit_status() == Some(0);
            if let Some((task, outcome)) = self.helpers.reaped(pid, success) {
                self.helper_done(&task, outcome, boot);
            } else if let Some(events) = self.children.reaped(pid, status) {
                self.child_events(events, boot);
            } else if !self.k3s.reaped(pid, status, Uptime::now()) {
                // what it said last counts
                let is_loader = self.loader.output().is_some();
                if is_loader {
                    self.heard_loader(boot);
                }
                if self.loader.reaped(pid) && self.down.is_none() {
                    self.reporter.notice("the process that loads drivers died");
                    boot.loader_died(self);
                }
            }
        }
    }

    fn heard_loader(&mut self, boot: &mut Boot) {
        use super::loader::Said;
        for said in self.loader.read() {
            match said {
                Said::Coldplugged { modules } => boot.coldplugged(self, modules),
                Said::Failed { module, why } => {
                    self.driver_lines += 1;
                    if self.driver_lines <= DRIVER_LINES {
                        let text = format!("driver {module} was not loaded: {why}");
                        self.reporter.log(Level::Notice, &text);
                    }
                }
            }
        }
    }

    fn uevents(&mut self, boot: &mut Boot) {
        let Some(socket) = &self.uevents else {
            return;
        };
        let batch = socket.read();
        if batch.lost {
            self.reporter.log(
                Level::Notice,
                "device events were lost; looking at all devices",
            );
            self.loader.coldplug();
            self.look_around();
            boot.disks_changed(self, None);
        }
        for event in &batch.events {
            self.device(event, boot);
        }
    }

    fn device(&mut self, event: &Uevent, boot: &mut Boot) {
        let added = event.action == "add";
        if let Some(modalias) = event
            .modalias
            .as_ref()
            .filter(|_| added || event.action == "change")
        {
            self.loader.device(modalias);
        }
        match event.subsystem.as_str() {
            "input" if added => self.buttons.find(),
            "virtio-ports" if added => self.reporter.port.find(),
            "net" if added => self.reporter.name_devices(),
            "block" => boot.disks_changed(self, Some(event)),
            _ => {}
        }
    }

    /// Looks for what events would have told.
    pub(super) fn look_around(&mut self) {
        self.buttons.find();
        self.reporter.port.find();
    }

    fn child_events(&mut self, events: Vec<Event>, boot: &mut Boot) {
        for event in events {
            boot.child(self, event);
        }
    }

    fn helper_done(&mut self, task: &Task, outcome: Outcome, boot: &mut Boot) {
        if self.down.is_some() {
            self.down_helper(task, outcome);
        } else {
            boot.helper(self, task, outcome);
        }
    }

    /// Whatever is due by now.
    fn due(&mut self, boot: &mut Boot) {
        let now = Uptime::now();
        self.reporter.port.tick(now);
        self.loader.tick(now);
        for (task, outcome) in self.helpers.tick(now) {
            self.helper_done(&task, outcome, boot);
        }
        let events = self.children.tick(now);
        self.child_events(events, boot);
        self.k3s.tick(now);
        self.k3s_news(now);
        if self.down.is_some() {
            self.down_tick(now);
        } else {
            boot.tick(self, now);
        }
    }

    /// Tells people and the node process what is new about k3s.
    fn k3s_news(&mut self, now: Uptime) {
        for notice in self.k3s.notices() {
            self.reporter.notice(&notice);
        }
        if let Some(state) = self.k3s.news(now) {
            self.reporter.set_k3s_ends(state.ends);
            self.children.tell(&NODE, &Word::K3s(state));
        }
    }
}
