//! The supervised children: `node` and `registry`.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, PipeReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use image_layout::status::Stage;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use rustix::process::{Resource, Rlimit, WaitStatus};

use super::backoff::Backoff;
use super::cgroup;
use super::clock::Uptime;
use super::logs::BoundedLog;
use super::text::one_line;
use crate::report::{FD_VARIABLE, PACKET_BYTES, Report};

/// The name the process is called by between fork and the child proper.
pub(crate) const CALLED: &str = "haulboot-launch";
/// Packets and reads taken from one child in one turn of the loop.
const PACKETS_A_TURN: usize = 64;
const READS_A_TURN: usize = 16;
/// Reports a child may send within a while; more are a fault, and would fill console and memory.
const REPORTS: u32 = 100;
const WHILE: Duration = Duration::from_secs(10);
/// Last lines of a child's log, for the screen.
const TAIL: usize = 3;
/// File descriptors a child may open; a registry has one for each client and blob.
const FILES: u64 = 1 << 20;

/// A child, as a line of a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spec {
    /// Name: of the agent's sub-command, the log, the control group.
    pub(super) name: &'static str,
    /// `oom_score_adj`: the lower, the later the kernel kills it when memory is short.
    oom: i32,
    /// The stages it may end. The registry talks to networks: what it says is not believed
    /// beyond its own stage.
    stages: &'static [Stage],
}

/// Identity, network, cluster.
pub(super) const NODE: Spec = Spec {
    name: "node",
    oom: -900,
    stages: &[
        Stage::Identity,
        Stage::Network,
        Stage::State,
        Stage::Cluster,
    ],
};

/// The registry.
pub(super) const REGISTRY: Spec = Spec {
    name: "registry",
    oom: -500,
    stages: &[Stage::Registry],
};

impl Spec {
    /// Whether this child may say that.
    fn may_say(&self, report: &Report) -> bool {
        match report {
            Report::Begin(stage) | Report::End { stage, .. } => self.stages.contains(stage),
            Report::Notice(_) => true,
            Report::Node(_)
            | Report::MissingFirmware(_)
            | Report::Progress(_)
            | Report::State(_)
            | Report::Cluster(_)
            | Report::K3s(_) => self.name == NODE.name,
        }
    }
}

/// Between fork and the child proper: joins the control group before anything can be forked, then
/// becomes the agent. Arguments: name, oom_score_adj.
pub(crate) fn launch_main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(oom)) = (arguments.next(), arguments.next()) else {
        return ExitCode::from(2);
    };
    let group = cgroup::of(&name);
    let joined = std::fs::create_dir_all(&group)
        .and_then(|()| std::fs::write(group.join("cgroup.procs"), "0"));
    if let Err(error) = joined {
        // without control groups the child still serves
        eprintln!("joining {}: {error}", group.display());
    }
    let _ = std::fs::write("/proc/self/oom_score_adj", oom);
    let _ = rustix::process::setsid();
    let _ = rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(FILES),
            maximum: Some(FILES),
        },
    );
    let error = Command::new("/proc/self/exe")
        .arg0("haulboot")
        .arg(&name)
        .exec();
    eprintln!("error: starting {name}: {error}");
    ExitCode::FAILURE
}

/// What a child did.
#[derive(Debug)]
pub(super) enum Event {
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
struct Running {
    pid: i32,
    report: Option<OwnedFd>,
    output: Option<PipeReader>,
    began: Uptime,
}

#[derive(Debug)]
struct Child {
    spec: &'static Spec,
    running: Option<Running>,
    restart: Option<Uptime>,
    backoff: Backoff,
    deaths: u32,
    log: Option<BoundedLog>,
    tail: VecDeque<String>,
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
    fn new(spec: &'static Spec) -> Child {
        Child {
            spec,
            running: None,
            restart: None,
            backoff: Backoff::default(),
            deaths: 0,
            log: BoundedLog::create(spec.name).ok(),
            tail: VecDeque::new(),
            allowance: Allowance::default(),
        }
    }

    fn start(&mut self) -> io::Result<()> {
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
            .arg0(CALLED)
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
            report: Some(ours),
            output: Some(output),
            began: Uptime::now(),
        });
        Ok(())
    }

    /// Takes what the child reported.
    fn reports(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(running) = &mut self.running else {
            return events;
        };
        let mut buffer = vec![0; PACKET_BYTES];
        for _ in 0..PACKETS_A_TURN {
            let Some(socket) = &running.report else {
                break;
            };
            match recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => running.report = None,
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
                Err(_) => running.report = None,
            }
        }
        events
    }

    /// Takes what the child wrote to its standard output and error.
    fn log(&mut self) {
        let Some(running) = &mut self.running else {
            return;
        };
        let mut buffer = [0; 8192];
        for _ in 0..READS_A_TURN {
            let Some(output) = &mut running.output else {
                break;
            };
            match output.read(&mut buffer) {
                Ok(0) => running.output = None,
                Ok(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    if let Some(log) = &mut self.log {
                        log.append(bytes);
                    }
                    for line in String::from_utf8_lossy(bytes).lines() {
                        if self.tail.len() >= TAIL {
                            self.tail.pop_front();
                        }
                        self.tail.push_back(one_line(line, 300));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => running.output = None,
            }
        }
    }

    /// The child ended.
    fn died(&mut self, how: String, stopping: bool) -> Event {
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

/// Which descriptor of which child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Its reports.
    Report(&'static str),
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

    /// The descriptors to poll.
    pub(super) fn doors(&self) -> impl Iterator<Item = (Door, rustix::fd::BorrowedFd<'_>)> {
        use std::os::fd::AsFd;
        self.children.iter().flat_map(|child| {
            let running = child.running.as_ref();
            let report = running
                .and_then(|running| running.report.as_ref())
                .map(|fd| (Door::Report(child.spec.name), fd.as_fd()));
            let output = running
                .and_then(|running| running.output.as_ref())
                .map(|fd| (Door::Output(child.spec.name), fd.as_fd()));
            report.into_iter().chain(output)
        })
    }

    /// A descriptor can be read.
    pub(super) fn readable(&mut self, door: Door) -> Vec<Event> {
        let (Door::Report(name) | Door::Output(name)) = door;
        let Some(child) = self.children.iter_mut().find(|c| c.spec.name == name) else {
            return Vec::new();
        };
        match door {
            Door::Report(_) => child.reports(),
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
        child.map_or_else(String::new, |child| {
            child.tail.iter().cloned().collect::<Vec<_>>().join("\n")
        })
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

    /// The machine goes down: nobody is started any more, everybody is asked to end.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        for child in &mut self.children {
            child.restart = None;
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

/// How a process ended, in words.
fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use image_layout::status::{NodeStatus, Outcome};

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

    #[test]
    fn a_child_is_believed_about_its_own_stages_only() {
        let end = |stage| Report::End {
            stage,
            outcome: Outcome::Done,
            detail: String::new(),
            problem: None,
        };
        assert!(REGISTRY.may_say(&end(Stage::Registry)));
        assert!(!REGISTRY.may_say(&end(Stage::Network)));
        assert!(!REGISTRY.may_say(&Report::Node(NodeStatus::default())));
        assert!(NODE.may_say(&end(Stage::Network)));
        assert!(!NODE.may_say(&end(Stage::Root)));
    }
}
