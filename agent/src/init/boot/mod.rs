//! The stages that PID 1 itself runs, and what starts after what.
//!
//! early -> media -> root -> (node process: identity, network) -> (registry process: registry)
//! -> (node process: state, cluster) -> run
//!
//! Nothing here waits: each function deals with one thing that happened, and what may never happen
//! has a deadline. Stage cluster has none: an agent waits for its server for as long as it takes,
//! and says so.

mod children;
mod drivers;
mod media;
mod root;

use std::time::Duration;

use image_layout::bootargs::{BootArgs, Parsed};
use image_layout::status::Stage;

use self::drivers::leave_slow_drivers;
use super::clock::Uptime;
use super::helper::{Outcome, Task};
use super::kmsg::Level;
use super::machine::Machine;
use super::media::{Media, Stick};
use super::root::{Carried, HaulContents};

/// How long drivers may take before the boot goes on without those that are not ready.
const DRIVERS: Duration = Duration::from_secs(60);
/// How often the wait for the stick is shown.
const PROGRESS: Duration = Duration::from_secs(5);
/// How long the node process may take for network before the registry starts anyway. DHCP gives up
/// well before.
const NETWORK: Duration = Duration::from_secs(180);
/// How long the registry may take before the boot goes on without it.
const SERVING: Duration = Duration::from_secs(180);

/// Where the boot stands.
#[derive(Debug)]
enum Phase {
    /// Drivers are loaded.
    Early { until: Uptime },
    /// The stick is looked for.
    Media,
    /// HAUL is being mounted.
    Haul { stick: Stick, began: Uptime },
    /// On the new root: drivers from HAUL, HAULCFG.
    Root {
        until: Uptime,
        drivers: bool,
        config: bool,
        modules: usize,
    },
    /// The node process works on identity and network.
    Node { until: Uptime },
    /// The registry starts.
    Registry { until: Uptime },
    /// The node process works on state and cluster, without a deadline.
    Cluster,
    /// Everything is up.
    Run,
}

/// The boot.
#[derive(Debug)]
pub(super) struct Boot {
    args: BootArgs,
    phase: Phase,
    media: Media,
    /// When the wait for the stick began, when its progress is shown next, whether it took too long.
    media_began: Uptime,
    progress: Uptime,
    late: bool,
    /// A stick that could not be mounted, and until when it is not tried again.
    rejected: Option<(String, Uptime)>,
    stick: Stick,
    contents: HaulContents,
    switch_problem: Option<String>,
    stick_is_gone: bool,
    config_is_mounted: bool,
}

impl Boot {
    /// The first life: in the initramfs, from stage early on. `began` is when PID 1 started.
    pub(super) fn in_initramfs(machine: &mut Machine, parsed: Parsed, began: Uptime) -> Boot {
        machine.reporter.begin(Stage::Early, began);
        for problem in &parsed.problems {
            machine
                .reporter
                .notice(&format!("kernel command line: {problem}"));
        }
        machine.look_around();
        let now = Uptime::now();
        let mut boot = Boot {
            media: Media::new(parsed.args.clone()),
            args: parsed.args,
            phase: Phase::Early {
                until: now.after(DRIVERS),
            },
            media_began: now,
            progress: now,
            late: false,
            rejected: None,
            stick: Stick::default(),
            contents: HaulContents::default(),
            switch_problem: None,
            stick_is_gone: false,
            config_is_mounted: false,
        };
        boot.start_loader(machine);
        boot
    }

    /// The second life: on the new root, in the middle of stage root.
    pub(super) fn on_new_root(machine: &mut Machine, parsed: Parsed, carried: Carried) -> Boot {
        let began = Uptime::from_seconds(carried.root_began);
        machine.reporter.begin(Stage::Root, began);
        machine.look_around();
        let now = Uptime::now();
        let mut boot = Boot {
            media: Media::new(parsed.args.clone()),
            args: parsed.args,
            phase: Phase::Run,
            media_began: now,
            progress: now,
            late: false,
            rejected: None,
            stick: carried.stick,
            contents: carried.contents,
            switch_problem: carried.problem,
            stick_is_gone: false,
            config_is_mounted: false,
        };
        boot.furnish(machine);
        boot
    }

    /// When [`Self::tick`] is due.
    pub(super) fn deadline(&self) -> Option<Uptime> {
        match &self.phase {
            Phase::Early { until }
            | Phase::Root { until, .. }
            | Phase::Node { until }
            | Phase::Registry { until } => Some(*until),
            Phase::Media => Some(self.progress),
            Phase::Haul { .. } | Phase::Cluster | Phase::Run => None,
        }
    }

    /// A deadline is over.
    pub(super) fn tick(&mut self, machine: &mut Machine, now: Uptime) {
        match self.phase {
            Phase::Early { until } if until <= now => {
                leave_slow_drivers(machine);
                self.enter_media(machine, 0);
            }
            Phase::Media if self.progress <= now => self.media_progress(machine, now),
            Phase::Root { until, .. } if until <= now => {
                leave_slow_drivers(machine);
                self.end_root(machine);
            }
            Phase::Node { until } if until <= now => {
                machine
                    .reporter
                    .notice("the network takes long; the registry starts without it");
                self.enter_registry(machine);
            }
            Phase::Registry { until } if until <= now => {
                machine.reporter.failed(
                    Stage::Registry,
                    "does not answer",
                    "The registry's process runs, but has not said that it serves.",
                    "See /run/haulboot/logs/registry.log. A slow stick takes long to read.",
                );
                self.enter_cluster(machine);
            }
            _ => {}
        }
    }

    /// A helper ended.
    pub(super) fn helper(&mut self, machine: &mut Machine, task: &Task, outcome: Outcome) {
        match task {
            Task::Table(disk) => {
                let why = outcome.as_ref().err().cloned();
                let news = self.media.answer(disk, outcome);
                if let Some(why) = why.filter(|_| news) {
                    machine.reporter.log(Level::Info, &format!("{disk}: {why}"));
                }
                self.decide(machine);
            }
            Task::MountHaul(_) => self.haul_mounted(machine, outcome),
            Task::MountConfig(_) => {
                self.config_is_mounted = outcome.is_ok();
                if let Err(why) = outcome {
                    machine.reporter.notice(&format!("{task}: {why}"));
                }
                if let Phase::Root { config, .. } = &mut self.phase {
                    *config = true;
                    self.root_progress(machine);
                }
            }
            Task::UnmountConfig => {
                if let Err(why) = outcome {
                    machine
                        .reporter
                        .log(Level::Notice, &format!("{task}: {why}"));
                }
            }
            Task::UnmountAll | Task::Sync => {}
        }
    }
}
