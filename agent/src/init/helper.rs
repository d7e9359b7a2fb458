//! Short-lived processes for what may wait for a device.
//!
//! Reading from a dying stick, mounting it or syncing to it can take for ever, in the kernel, where
//! no signal reaches. So PID 1 never does it itself: the same binary is started for each task, with
//! a deadline. A helper that does not end is killed and given up.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::clock::{Uptime, earlier};
use super::{media, root, shutdown};

/// The name helpers are called by.
pub(crate) const CALLED: &str = "haulboot-helper";
/// Bound for what a helper says.
const OUTPUT_BYTES: usize = 2 << 20;

/// What a helper can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Read the partition table of a disk, by its name in `/dev`.
    Table(String),
    /// Mount HAUL from a device, look what is on it.
    MountHaul(String),
    /// Mount HAULCFG from a device.
    MountConfig(String),
    /// Unmount HAULCFG.
    UnmountConfig,
    /// Unmount everything.
    UnmountAll,
    /// Write everything to the disks.
    Sync,
}

impl Task {
    fn arguments(&self) -> (&'static str, &str) {
        match self {
            Task::Table(disk) => ("table", disk),
            Task::MountHaul(device) => ("mount-haul", device),
            Task::MountConfig(device) => ("mount-config", device),
            Task::UnmountConfig => ("unmount-config", ""),
            Task::UnmountAll => ("unmount-all", ""),
            Task::Sync => ("sync", ""),
        }
    }

    /// How long it may take. Virtual media of management controllers read 4 Mbit/s.
    fn patience(&self) -> Duration {
        Duration::from_secs(match self {
            Task::Table(_) => 15,
            Task::MountHaul(_) | Task::MountConfig(_) => 60,
            Task::UnmountConfig | Task::UnmountAll | Task::Sync => 15,
        })
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Task::Table(disk) => write!(f, "reading the partition table of {disk}"),
            Task::MountHaul(device) => write!(f, "mounting HAUL from {device}"),
            Task::MountConfig(device) => write!(f, "mounting HAULCFG from {device}"),
            Task::UnmountConfig => f.write_str("unmounting HAULCFG"),
            Task::UnmountAll => f.write_str("unmounting everything"),
            Task::Sync => f.write_str("writing everything to the disks"),
        }
    }
}

/// What became of a task: what the helper said, or why it failed.
pub(super) type Outcome = Result<String, String>;

/// The helper's side: does the task named by the arguments.
pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().unwrap_or_default();
    let what = arguments.next().unwrap_or_default();
    let outcome = match task.as_str() {
        "table" => media::read_table(&what),
        "mount-haul" => root::mount_haul(&what),
        "mount-config" => root::mount_config(&what),
        "unmount-config" => root::unmount_config(),
        "unmount-all" => shutdown::unmount_all(),
        "sync" => {
            rustix::fs::sync();
            Ok(String::new())
        }
        other => Err(format!("{other} is no task of a helper")),
    };
    let (text, code) = match outcome {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(text) => (text, ExitCode::FAILURE),
    };
    let _ = std::io::stdout().write_all(text.as_bytes());
    code
}

#[derive(Debug)]
struct Helper {
    task: Task,
    pid: i32,
    output: ChildStdout,
    said: Vec<u8>,
    deadline: Uptime,
}

impl Helper {
    /// Takes what the helper has said so far.
    fn drain(&mut self) {
        let mut buffer = [0; 8192];
        while self.said.len() < OUTPUT_BYTES {
            match self.output.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => self.said.extend(buffer.iter().take(length)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// PID 1's side: the helpers at work.
#[derive(Debug, Default)]
pub(super) struct Helpers {
    running: Vec<Helper>,
    /// Tasks that ended without a process: it could not be started.
    unstarted: Vec<(Task, String)>,
}

impl Helpers {
    /// Starts a helper; the outcome comes from [`Self::reaped`] or [`Self::tick`].
    pub(super) fn start(&mut self, task: Task) {
        let (verb, argument) = task.arguments();
        let spawned = Command::new("/proc/self/exe")
            .arg0(CALLED)
            .args([verb, argument])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let started = spawned.and_then(|mut child| {
            let output = child.stdout.take().ok_or(ErrorKind::BrokenPipe)?;
            rustix::io::ioctl_fionbio(&output, true)?;
            let pid = i32::try_from(child.id()).map_err(|_| ErrorKind::InvalidData)?;
            Ok((pid, output))
        });
        match started {
            Ok((pid, output)) => self.running.push(Helper {
                deadline: Uptime::now().after(task.patience()),
                task,
                pid,
                output,
                said: Vec::new(),
            }),
            Err(error) => {
                let why = format!("starting a helper: {error}");
                self.unstarted.push((task, why));
            }
        }
    }

    /// The descriptors to poll: a helper that says much must not wait for its end to be read.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (i32, &ChildStdout)> {
        self.running
            .iter()
            .map(|helper| (helper.pid, &helper.output))
    }

    /// A helper said something.
    pub(super) fn readable(&mut self, pid: i32) {
        if let Some(helper) = self.running.iter_mut().find(|helper| helper.pid == pid) {
            helper.drain();
        }
    }

    /// A process ended; `None` if it was no helper.
    pub(super) fn reaped(&mut self, pid: i32, success: bool) -> Option<(Task, Outcome)> {
        let place = self.running.iter().position(|helper| helper.pid == pid)?;
        let mut helper = self.running.swap_remove(place);
        helper.drain();
        let said = String::from_utf8_lossy(&helper.said).into_owned();
        let outcome = match success {
            true => Ok(said),
            false if said.is_empty() => Err("the helper ended without a word".to_owned()),
            false => Err(said),
        };
        Some((helper.task, outcome))
    }

    /// When to call [`Self::tick`].
    pub(super) fn deadline(&self) -> Option<Uptime> {
        let now = (!self.unstarted.is_empty()).then(Uptime::default);
        let running = self.running.iter().map(|helper| helper.deadline).min();
        earlier(now, running)
    }

    /// Gives up helpers whose time is over.
    pub(super) fn tick(&mut self, now: Uptime) -> Vec<(Task, Outcome)> {
        let mut over: Vec<(Task, Outcome)> = std::mem::take(&mut self.unstarted)
            .into_iter()
            .map(|(task, why)| (task, Err(why)))
            .collect();
        let (late, running) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|helper| helper.deadline <= now);
        self.running = running;
        let late: Vec<Helper> = late;
        for helper in late {
            // if the kernel holds it this has no effect until the device answers; it is reaped then
            let _ = kill(Pid::from_raw(helper.pid), Signal::SIGKILL);
            let seconds = helper.task.patience().as_secs();
            over.push((helper.task, Err(format!("no answer within {seconds} s"))));
        }
        over
    }
}
