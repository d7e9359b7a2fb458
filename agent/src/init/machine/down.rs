//! The steps of the way down; see [`crate::init::shutdown`].

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::Machine;
use crate::init::cgroup::{self, Watch};
use crate::init::clock::Uptime;
use crate::init::helper::{Outcome, Task};
use crate::init::power::Power;
use crate::init::shutdown::{ASKED, KILLED, LAST_WORDS, PODS, Shutdown, Step};

impl Machine {
    /// Begins to go down. Asked again in a hurry by a person at the keyboard, goes down at once;
    /// other repetitions (a bouncing button, a second `poweroff`) change nothing.
    pub(in crate::init) fn go_down(&mut self, power: Power, by_keyboard: bool) {
        let now = Uptime::now();
        if let Some(down) = &self.down {
            if by_keyboard && down.is_impatient(now) {
                let power = down.power;
                self.reporter.down(power.name());
                self.switch_off(power);
            }
            return;
        }
        self.children.hold();
        self.loader.stop();
        self.k3s.hold(now);
        if self.k3s.is_running() {
            let name = power.name();
            self.reporter.say(&format!("{name}: stopping k3s"));
        }
        self.down = Some(Shutdown::new(power, now));
        self.down_tick(now);
    }

    pub(super) fn down_tick(&mut self, now: Uptime) {
        let Some(down) = &mut self.down else {
            return;
        };
        let over = down.deadline.is_some_and(|at| at <= now);
        let gone = self.children.are_gone();
        let is_empty = down.is_empty();
        match down.step {
            Step::K3s if over || !self.k3s.is_running() => self.stop_pods(),
            Step::Pods if over || is_empty => self.kill_pods(),
            Step::PodsKilled if over || is_empty => self.stop_children(),
            Step::Asked | Step::Killed if gone => self.end_everything(),
            Step::Asked if over => {
                down.enter(Step::Killed, Some(KILLED));
                let names = self.children.names().join(", ");
                self.reporter
                    .say(&format!("killing what did not stop: {names}"));
                self.children.kill();
            }
            Step::Killed if over => self.end_everything(),
            Step::Emptying if over || self.is_alone => self.unmount(),
            Step::LastWords if over || self.reporter.port.is_empty() => {
                let power = down.power;
                self.switch_off(power);
            }
            _ => {}
        }
    }

    /// k3s is gone, or given up; its pods run on by design. Asks them to end.
    fn stop_pods(&mut self) {
        let watches: Vec<Watch> = Watch::open(&cgroup::pods()).into_iter().collect();
        if watches.is_empty() {
            return self.kill_pods();
        }
        let processes = cgroup::processes(&cgroup::pods());
        for pid in &processes {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGTERM);
        }
        let count = processes.len();
        self.reporter
            .say(&format!("stopping pods: {count} processes"));
        if let Some(down) = &mut self.down {
            down.empty(Step::Pods, PODS, watches);
        }
    }

    /// Kills what is left of pods, then the shims, which are in k3s's own group.
    fn kill_pods(&mut self) {
        let groups = [cgroup::pods(), cgroup::k3s()];
        let mut watches = Vec::new();
        for group in &groups {
            let Some(watch) = Watch::open(group) else {
                continue;
            };
            if let Err(error) = cgroup::kill_all(group) {
                let group = group.display();
                self.reporter
                    .say(&format!("killing the processes of {group}: {error}"));
            }
            watches.push(watch);
        }
        if watches.is_empty() {
            return self.stop_children();
        }
        self.reporter.say("killing what is left of pods and k3s");
        if let Some(down) = &mut self.down {
            down.empty(Step::PodsKilled, KILLED, watches);
        }
    }

    fn stop_children(&mut self) {
        if let Some(down) = &mut self.down {
            let name = down.power.name();
            down.enter(Step::Asked, Some(ASKED));
            self.reporter
                .say(&format!("{name}: stopping the node's processes"));
        }
        self.children.stop();
        if self.children.are_gone() {
            self.end_everything();
        }
    }

    /// Ends every other process. What still runs holds mounts busy, so they are waited for.
    fn end_everything(&mut self) {
        // -1 is everybody but PID 1 and the kernel's own
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        // with no process left no SIGCHLD comes any more
        self.is_alone = matches!(
            waitid(
                WaitId::All,
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT
            ),
            Err(Errno::CHILD)
        );
        if let Some(down) = &mut self.down {
            down.enter(Step::Emptying, Some(KILLED));
        }
    }

    fn unmount(&mut self) {
        self.reporter.say("unmounting");
        if let Some(down) = &mut self.down {
            down.enter(Step::Unmounting, None);
        }
        self.helpers.start(Task::UnmountAll);
    }

    pub(super) fn down_helper(&mut self, task: &Task, outcome: Outcome) {
        let Some(down) = &mut self.down else {
            return;
        };
        match (task, down.step) {
            (Task::UnmountAll, Step::Unmounting) => {
                down.enter(Step::Syncing, None);
                match outcome {
                    Ok(busy) if busy.is_empty() => {}
                    Ok(busy) => self.reporter.say(&format!("stayed busy: {busy}")),
                    Err(why) => self.reporter.say(&format!("{task}: {why}")),
                }
                self.helpers.start(Task::Sync);
            }
            (Task::Sync, Step::Syncing) => {
                if let Err(why) = outcome {
                    self.reporter.say(&format!("{task}: {why}"));
                }
                let down_power = down.power;
                down.enter(Step::LastWords, Some(LAST_WORDS));
                self.reporter.down(down_power.name());
            }
            _ => {}
        }
    }

    /// The end. If the kernel refuses, the machine stays as it is and says so.
    fn switch_off(&mut self, power: Power) {
        self.reporter.consoles.flush();
        let error = power.now();
        self.reporter.say(&format!(
            "{} was refused: {error}. The machine can be switched off by hand now.",
            power.name()
        ));
        if let Some(down) = &mut self.down {
            down.enter(Step::Syncing, None);
        }
    }
}
