//! The way down: k3s, pods, children, everything else, mounts, disks, power. Every step has a
//! deadline, so that a stick that was pulled or a process that hangs can't keep the machine on.

use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};

use super::cgroup::Watch;
use super::clock::Uptime;
use super::k3s;
use super::mounts::{parse_mountinfo, unmount_order};
use super::power::Power;
use super::text::read_bounded;

/// How long k3s may take to end when asked to, and when killed after that.
pub(super) const K3S: Duration = k3s::PATIENCE.saturating_add(KILLED);
/// How long pods may take to end when asked to.
pub(super) const PODS: Duration = Duration::from_secs(10);
/// How long children may take to end when asked to, and when killed.
pub(super) const ASKED: Duration = Duration::from_secs(10);
pub(super) const KILLED: Duration = Duration::from_secs(5);
/// How long the last lines may take to get out.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);
/// A second Ctrl-Alt-Del within this time ends all patience.
const IMPATIENT: Duration = Duration::from_secs(5);
/// Passes over the mounts and the pause between them: what is busy may be free once something else
/// is gone, such as a module the kernel itself is loading from HAUL. No event tells of that.
const PASSES: usize = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// Where the way down stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// k3s was asked to end.
    K3s,
    /// The pods' processes were asked to end.
    Pods,
    /// What is left of pods was killed, and the shims with it.
    PodsKilled,
    /// Children were asked to end.
    Asked,
    /// They were killed.
    Killed,
    /// Every other process was killed too; the last of them are still ending.
    Emptying,
    /// A helper unmounts.
    Unmounting,
    /// A helper writes to the disks.
    Syncing,
    /// The last lines go out.
    LastWords,
}

/// A shutdown under way.
#[derive(Debug)]
pub(super) struct Shutdown {
    /// What comes at the end.
    pub(super) power: Power,
    /// Where it stands.
    pub(super) step: Step,
    /// When the step is given up. Steps of helpers have the helper's deadline.
    pub(super) deadline: Option<Uptime>,
    /// The groups that this step waits for to be empty.
    pub(super) watches: Vec<Watch>,
    began: Uptime,
}

impl Shutdown {
    /// k3s was just asked to end, if it runs.
    pub(super) fn new(power: Power, now: Uptime) -> Shutdown {
        Shutdown {
            power,
            step: Step::K3s,
            deadline: Some(now.after(K3S)),
            watches: Vec::new(),
            began: now,
        }
    }

    /// Goes to the next step.
    pub(super) fn enter(&mut self, step: Step, limit: Option<Duration>) {
        self.step = step;
        self.watches.clear();
        self.deadline = limit.map(|limit| Uptime::now().after(limit));
    }

    /// Goes to a step that ends early, once nothing is left in these groups.
    pub(super) fn empty(&mut self, step: Step, limit: Duration, watches: Vec<Watch>) {
        self.enter(step, Some(limit));
        self.watches = watches;
    }

    /// Whether nothing is left in the groups of [`Self::empty`]; those that are empty are no longer
    /// watched.
    pub(super) fn is_empty(&mut self) -> bool {
        self.watches.retain(Watch::is_populated);
        self.watches.is_empty()
    }

    /// Whether asking again now means "at once".
    pub(super) fn is_impatient(&self, now: Uptime) -> bool {
        now.since(self.began) <= IMPATIENT
    }
}

/// The helper's task: unmounts everything, the last mounted first. What stays busy is detached, and
/// named in the answer.
pub(super) fn unmount_all() -> Result<String, String> {
    let mut busy = Vec::new();
    for pass in 1..=PASSES {
        let mountinfo = read_bounded("/proc/self/mountinfo", 16 << 20)
            .map_err(|error| format!("reading the mounts: {error}"))?;
        busy.clear();
        for target in unmount_order(&parse_mountinfo(&mountinfo)) {
            let Err(error) = unmount(target.as_str(), UnmountFlags::NOFOLLOW) else {
                continue;
            };
            if pass == PASSES {
                let _ = unmount(target.as_str(), UnmountFlags::DETACH);
            }
            busy.push(format!("{target}: {error}"));
        }
        if busy.is_empty() {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(busy.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_twice_within_five_seconds_is_impatient_and_later_is_not() {
        let begin = Uptime::from_seconds(100.0);
        let down = Shutdown::new(Power::Reboot, begin);
        assert!(down.is_impatient(Uptime::from_seconds(104.0)));
        assert!(!down.is_impatient(Uptime::from_seconds(106.0)));
    }
}
