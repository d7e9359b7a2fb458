//! k3s as a supervised child.
//!
//! The node process says whether k3s is to run ([`Order`]) and hears how it stands ([`K3sState`]);
//! PID 1 starts it, listens to it, reaps it and starts it again. It is no agent of ours like the
//! other children: it ends only by mistake, whatever its exit code says, it says that it is ready
//! through a socket, and what it leaves behind when it ends (shims, pods) goes on by design.

mod notify;
#[cfg(test)]
mod tests;

use std::io::{self, PipeReader, PipeWriter};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use image_layout::cluster::Role;
use image_layout::limits::LOG_BYTES;
use image_layout::paths::node;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::process::WaitStatus;

use self::notify::Notify;
use super::backoff::Backoff;
use super::clock::Uptime;
use super::launch;
use super::logs::BoundedLog;
use super::output::Output;
use super::tail::Tail;
use crate::report::{K3sState, Order, TAIL_BYTES};

/// How long k3s may take to end when asked to. A server needs 3 to 5 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The first wait before it is started again, as its own unit file has it.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// `oom_score_adj`: k3s gives itself and containerd this value.
const OOM: i32 = -999;
/// Room for what k3s says while PID 1 is busy.
const PIPE_BYTES: usize = 1 << 20;
/// Turns of reading after its end: as much as the pipe holds.
const LAST_READS: usize = 8;
/// Characters of one of its last lines.
const LINE: usize = 1000;

/// Which descriptor of k3s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Its output.
    Output,
    /// The socket where it says that it is ready.
    Notify,
}

/// Where things are; other places in tests.
#[derive(Debug)]
struct Place {
    /// The binary that becomes k3s, called as [`launch::CALLED`].
    launcher: PathBuf,
    notify: PathBuf,
    log: PathBuf,
}

impl Default for Place {
    fn default() -> Self {
        Place {
            launcher: PathBuf::from("/proc/self/exe"),
            notify: PathBuf::from(node::NOTIFY),
            log: PathBuf::from(node::LOGS).join("k3s.log"),
        }
    }
}

#[derive(Debug)]
struct Process {
    pid: i32,
    role: Role,
    began: Uptime,
    is_ready: bool,
    stopping: Option<Stopping>,
}

/// It was asked to end. Once: a second SIGTERM makes k3s end without order.
#[derive(Debug)]
struct Stopping {
    until: Uptime,
    is_killed: bool,
}

/// One pipe for every run of k3s: what survives it (shims) must not be ended by writing to one that
/// nobody reads any more.
#[derive(Debug)]
struct Pipe {
    read: PipeReader,
    write: PipeWriter,
}

/// k3s.
#[derive(Debug)]
pub(super) struct K3s {
    place: Place,
    wanted: Option<Role>,
    process: Option<Process>,
    /// When it is started.
    start: Option<Uptime>,
    backoff: Backoff,
    ends: u32,
    how: String,
    last_lines: String,
    pipe: Option<Pipe>,
    output: Output,
    has_log: bool,
    notify: Option<Notify>,
    /// The machine goes down.
    is_held: bool,
    has_news: bool,
    notices: Vec<String>,
}

impl Default for K3s {
    fn default() -> Self {
        K3s::at(Place::default())
    }
}

impl K3s {
    fn at(place: Place) -> K3s {
        K3s {
            place,
            wanted: None,
            process: None,
            start: None,
            backoff: Backoff::from(FIRST_PAUSE),
            ends: 0,
            how: String::new(),
            last_lines: String::new(),
            pipe: None,
            output: Output::new(None, Tail::new(usize::MAX, TAIL_BYTES, LINE)),
            has_log: false,
            notify: None,
            is_held: false,
            has_news: false,
            notices: Vec::new(),
        }
    }

    /// Does what the node process wants; what is to be started is by the next [`Self::tick`].
    pub(super) fn order(&mut self, order: Order, now: Uptime) {
        if self.is_held {
            return;
        }
        match order {
            Order::Run(Role::Registry) => {}
            Order::Run(role) => {
                self.wanted = Some(role);
                match &self.process {
                    Some(process) if process.role != role => self.stop(now),
                    // where it is stopping, its end starts it
                    Some(_) => {}
                    None => self.start = self.start.or(Some(now)),
                }
            }
            Order::Restart if self.wanted.is_none() => {}
            Order::Restart => {
                if self.process.is_some() {
                    self.stop(now);
                } else {
                    self.start = Some(now);
                }
            }
            Order::Stop => {
                self.wanted = None;
                self.has_news |= self.start.take().is_some();
                self.stop(now);
            }
        }
    }

    /// The machine goes down: it is asked to end, and orders count no more.
    pub(super) fn hold(&mut self, now: Uptime) {
        self.is_held = true;
        self.wanted = None;
        self.start = None;
        self.stop(now);
    }

    fn stop(&mut self, now: Uptime) {
        let Some(process) = &mut self.process else {
            return;
        };
        if process.stopping.is_none() {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGTERM);
            process.is_ready = false;
            process.stopping = Some(Stopping {
                until: now.after(PATIENCE),
                is_killed: false,
            });
            self.has_news = true;
        }
    }

    /// When [`Self::tick`] is due.
    pub(super) fn deadline(&self) -> Option<Uptime> {
        match &self.process {
            Some(process) => {
                let stopping = process.stopping.as_ref();
                stopping.filter(|it| !it.is_killed).map(|it| it.until)
            }
            None => self.start,
        }
    }

    /// Starts it, or kills it where it does not end when asked to.
    pub(super) fn tick(&mut self, now: Uptime) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        match (&mut self.process, self.wanted) {
            (Some(process), _) => {
                // the process, not its group: shims and pods go on
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
                if let Some(stopping) = &mut process.stopping {
                    stopping.is_killed = true;
                }
                let seconds = PATIENCE.as_secs();
                self.notices
                    .push(format!("k3s did not end within {seconds} s; it was killed"));
            }
            (None, Some(role)) => {
                self.start = None;
                match self.launch(role, now) {
                    Ok(process) => {
                        self.process = Some(process);
                        self.has_news = true;
                    }
                    Err(error) => self.ended(format!("starting it: {error}"), Duration::ZERO, now),
                }
            }
            (None, None) => self.start = None,
        }
    }

    fn launch(&mut self, role: Role, now: Uptime) -> io::Result<Process> {
        if !self.has_log {
            let log = BoundedLog::create_at(self.place.log.clone(), LOG_BYTES);
            self.has_log = log.is_ok();
            let tail = Tail::new(usize::MAX, TAIL_BYTES, LINE);
            self.output = Output::new(log.ok(), tail);
        }
        self.output.tail.clear();
        // anew for every start: the file may be gone
        self.notify = match Notify::listen(&self.place.notify) {
            Ok(notify) => Some(notify),
            Err(error) => {
                self.notices.push(format!(
                    "k3s can't say that it is ready: {}: {error}",
                    self.place.notify.display()
                ));
                None
            }
        };
        let pipe = match self.pipe.take() {
            Some(pipe) => self.pipe.insert(pipe),
            None => self.pipe.insert(Pipe::open()?),
        };
        let child = Command::new(&self.place.launcher)
            .arg0(launch::CALLED)
            .args([launch::K3S, &OOM.to_string(), &role.to_string()])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(pipe.write.try_clone()?)
            .stderr(pipe.write.try_clone()?)
            .spawn()?;
        Ok(Process {
            pid: i32::try_from(child.id()).map_err(io::Error::other)?,
            role,
            began: now,
            is_ready: false,
            stopping: None,
        })
    }

    /// A process ended; whether it was k3s.
    pub(super) fn reaped(&mut self, pid: i32, status: WaitStatus, now: Uptime) -> bool {
        let Some(process) = self.process.take_if(|process| process.pid == pid) else {
            return false;
        };
        for _ in 0..LAST_READS {
            self.ready(Door::Output);
        }
        if process.stopping.is_some() {
            self.start = self.wanted.map(|_| now);
            self.has_news = true;
        } else {
            let ran = now.since(process.began);
            self.ended(launch::describe_k3s(status), ran, now);
        }
        true
    }

    /// It ended by itself.
    fn ended(&mut self, how: String, ran: Duration, now: Uptime) {
        self.ends = self.ends.saturating_add(1);
        self.output.tail.finish();
        self.last_lines = self.output.tail.text();
        self.has_news = true;
        let mut notice = format!("k3s ended ({how})");
        if self.wanted.is_some() && !self.is_held {
            let pause = self.backoff.after(ran);
            self.start = Some(now.after(pause));
            let seconds = pause.as_secs();
            notice.push_str(&format!("; it is started again in {seconds} s"));
        }
        self.how = how;
        self.notices.push(notice);
    }

    /// The descriptors to poll.
    pub(super) fn doors(&self) -> impl Iterator<Item = (Door, BorrowedFd<'_>)> {
        let output = self.pipe.as_ref().map(|pipe| pipe.read.as_fd());
        let notify = self.notify.as_ref().map(|notify| notify.socket().as_fd());
        let output = output.map(|fd| (Door::Output, fd));
        output
            .into_iter()
            .chain(notify.map(|fd| (Door::Notify, fd)))
    }

    /// A descriptor can be read.
    pub(super) fn ready(&mut self, door: Door) {
        match door {
            Door::Output => {
                if let Some(pipe) = &mut self.pipe
                    && !self.output.take(&mut pipe.read)
                {
                    self.pipe = None;
                }
            }
            Door::Notify => {
                let said = self.notify.as_ref().is_some_and(Notify::take);
                if let Some(process) = &mut self.process
                    && said
                    && process.stopping.is_none()
                    && !process.is_ready
                {
                    process.is_ready = true;
                    self.has_news = true;
                }
            }
        }
    }

    /// How it stands, if that changed since this was asked last.
    pub(super) fn news(&mut self, now: Uptime) -> Option<K3sState> {
        std::mem::take(&mut self.has_news).then(|| {
            let pause = self.start.map_or(Duration::ZERO, |at| at.since(now));
            K3sState {
                running: self.process.is_some(),
                ready: self.process.as_ref().is_some_and(|p| p.is_ready),
                ends: self.ends,
                how: self.how.clone(),
                pause: pause.as_millis().div_ceil(1000).try_into().unwrap_or(0),
                tail: self.last_lines.clone(),
            }
        })
    }

    /// What a person should know, since this was asked last.
    pub(super) fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// How often it ended by itself.
    pub(super) fn ends(&self) -> u32 {
        self.ends
    }

    /// Whether its process is there.
    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }
}

impl Pipe {
    fn open() -> io::Result<Pipe> {
        let (read, write) = io::pipe()?;
        rustix::io::ioctl_fionbio(&read, true)?;
        // more room if the kernel gives it
        let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES);
        Ok(Pipe { read, write })
    }
}
