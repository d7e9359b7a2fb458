//! The stages that PID 1 itself runs, and what starts after what.
//!
//! early -> media -> root -> (node process: identity, network) -> (registry process: registry) -> run
//!
//! Nothing here waits: each function deals with one thing that happened, and what may never happen
//! has a deadline.

use std::path::Path;
use std::time::Duration;

use image_layout::Arch;
use image_layout::bootargs::{BootArgs, Parsed};
use image_layout::status::{Outcome as StageOutcome, Stage};

use super::children::{Event, NODE, REGISTRY};
use super::clock::Uptime;
use super::helper::{Outcome, Task};
use super::kmsg::Level;
use super::machine::Machine;
use super::media::{Media, Stick, Verdict};
use super::modules::ModuleFiles;
use super::mounts;
use super::root::{self, Carried, HaulContents};
use super::summary;
use super::uevent::Uevent;
use super::{cgroup, sysctl};
use crate::report::Report;

/// How long drivers may take before the boot goes on without those that are not ready.
const DRIVERS: Duration = Duration::from_secs(60);
/// How long the stick is waited for before the screen, unless the command line says otherwise.
const MEDIA: u32 = 60;
/// How often the wait for the stick is shown.
const PROGRESS: Duration = Duration::from_secs(5);
/// How long a stick that can't be mounted is left alone.
const REJECTED: Duration = Duration::from_secs(30);
/// How long the node process may take for network before the registry starts anyway. DHCP gives up
/// well before.
const NETWORK: Duration = Duration::from_secs(180);
/// How long the registry may take before the boot is called complete without it.
const SERVING: Duration = Duration::from_secs(180);
/// After so many deaths a child's stage counts as failed. It is started again all the same.
const DEATHS: u32 = 3;

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
            Phase::Haul { .. } | Phase::Run => None,
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
                self.enter_run(machine);
            }
            _ => {}
        }
    }

    fn start_loader(&mut self, machine: &mut Machine) {
        if let Err(error) = machine.loader.start() {
            let text = format!("starting the process that loads drivers: {error}");
            machine.reporter.notice(&text);
            self.coldplugged(machine, 0);
        }
    }

    /// The walk over all devices ended.
    pub(super) fn coldplugged(&mut self, machine: &mut Machine, count: usize) {
        match &mut self.phase {
            Phase::Early { .. } => self.enter_media(machine, count),
            Phase::Root {
                drivers, modules, ..
            } => {
                *drivers = true;
                *modules = count;
                self.root_progress(machine);
            }
            _ => {}
        }
    }

    /// The process that loads drivers died.
    pub(super) fn loader_died(&mut self, machine: &mut Machine) {
        if machine.loader.is_given_up() {
            self.coldplugged(machine, 0);
        }
    }

    fn enter_media(&mut self, machine: &mut Machine, modules: usize) {
        let text = format!("{modules} drivers loaded for {}", machine_name());
        machine.reporter.done(Stage::Early, &text);
        let now = Uptime::now();
        machine.reporter.begin(Stage::Media, now);
        self.media_began = now;
        self.progress = now.after(PROGRESS);
        self.phase = Phase::Media;
        if !self.media.is_named() {
            machine.reporter.failed(
                Stage::Media,
                "the kernel command line names no stick",
                "The kernel command line has no haulboot.disk= and no haulboot.haul=, so it is not \
                 known which disk to boot from.",
                "Choose another entry of the boot menu, or write the stick again with builder.",
            );
        }
        self.look_for_stick(machine);
    }

    fn look_for_stick(&mut self, machine: &mut Machine) {
        for disk in self.media.scan() {
            machine.helpers.start(Task::Table(disk));
        }
        self.decide(machine);
    }

    /// A disk or partition came, went or changed.
    pub(super) fn disks_changed(&mut self, machine: &mut Machine, event: Option<&Uevent>) {
        let name = event.and_then(|event| event.device.as_deref());
        let action = event.map_or("", |event| event.action.as_str());
        match self.phase {
            Phase::Early { .. } => {}
            Phase::Media | Phase::Haul { .. } => {
                if let Some(name) = name.filter(|_| action != "add") {
                    self.media.forget(name);
                    if self.rejected.as_ref().is_some_and(|(disk, _)| disk == name) {
                        self.rejected = None;
                    }
                }
                if matches!(self.phase, Phase::Media) {
                    self.look_for_stick(machine);
                }
            }
            _ => {
                let ours =
                    name.is_some_and(|name| name == self.stick.disk || name == self.stick.haul);
                if action == "remove" && ours && !self.stick_is_gone {
                    self.stick_is_gone = true;
                    machine.reporter.notice(&format!(
                        "the stick {} was pulled out: what is not in memory can't be served; \
                         plug it in and restart the machine",
                        self.stick.disk
                    ));
                }
            }
        }
    }

    fn decide(&mut self, machine: &mut Machine) {
        if !matches!(self.phase, Phase::Media) {
            return;
        }
        let verdict = self.media.verdict();
        if let Verdict::Several(names) = &verdict {
            let names = names.join(" and ");
            machine.reporter.failed(
                Stage::Media,
                "two disks carry the same image",
                &format!(
                    "{names} carry the same identity. They are copies of one image, and it is not \
                     guessed which one to use."
                ),
                "Unplug all but one of them. The boot goes on by itself then.",
            );
            return;
        }
        // another disk whose table is still being read may be a copy
        if let Verdict::Found(stick) = verdict
            && !self.media.is_reading()
            && self
                .rejected
                .as_ref()
                .is_none_or(|(disk, _)| *disk != stick.disk)
        {
            machine.reporter.done(
                Stage::Media,
                &format!("HAUL is {} on {}", stick.haul, stick.description),
            );
            let began = Uptime::now();
            machine.reporter.begin(Stage::Root, began);
            machine.helpers.start(Task::MountHaul(stick.haul.clone()));
            self.phase = Phase::Haul { stick, began };
        }
    }

    fn media_progress(&mut self, machine: &mut Machine, now: Uptime) {
        self.progress = now.after(PROGRESS);
        if self
            .rejected
            .as_ref()
            .is_some_and(|(_, until)| *until <= now)
        {
            self.rejected = None;
        }
        for disk in self.media.retry() {
            machine.helpers.start(Task::Table(disk));
        }
        self.look_for_stick(machine);
        if !matches!(self.phase, Phase::Media) || self.late || !self.media.is_named() {
            return;
        }
        let limit = u64::from(self.args.media_timeout.unwrap_or(MEDIA));
        let waited = now.since(self.media_began).as_secs();
        let seen = self.media.seen();
        if waited < limit {
            let text =
                format!("media    waiting for the stick, {waited} s of {limit} s; seen: {seen}");
            machine.reporter.say(&text);
            return;
        }
        self.late = true;
        if self.rejected.is_some() || machine.reporter.outcome(Stage::Media).is_some() {
            return;
        }
        machine.reporter.failed(
            Stage::Media,
            &format!("the stick was not found within {limit} s"),
            &format!("The stick this machine started from was not found. Disks seen: {seen}."),
            "Plug the stick in, or into another port: best one of the machine's own, not of a hub. \
             The boot goes on by itself as soon as it appears. A slow medium needs more time: \
             haulboot.media-timeout=SECONDS on the kernel command line.",
        );
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

    fn haul_mounted(&mut self, machine: &mut Machine, outcome: Outcome) {
        let now = Uptime::now();
        let Phase::Haul { stick, began } = std::mem::replace(&mut self.phase, Phase::Media) else {
            return;
        };
        let contents = outcome.and_then(|json| {
            serde_json::from_str::<HaulContents>(&json).map_err(|error| error.to_string())
        });
        let contents = match contents {
            Ok(contents) => contents,
            Err(why) => {
                machine.reporter.failed(
                    Stage::Root,
                    &format!("{} can't be mounted: {why}", stick.haul),
                    &format!(
                        "The partition HAUL ({}) of {} can't be mounted: {why}.",
                        stick.haul, stick.description
                    ),
                    "Write the stick anew, or take another one if it happens again. \
                     Pulled out and plugged in again it is tried again.",
                );
                self.rejected = Some((stick.disk, now.after(REJECTED)));
                self.progress = now.after(PROGRESS);
                return;
            }
        };
        if let Some(image) = &contents.image {
            machine.reporter.set_image(image.clone());
        }
        let mut carried = Carried {
            status: machine.reporter.status().clone(),
            root_began: began.seconds(),
            stick,
            contents,
            problem: None,
        };
        let problem = root::switch(&carried);
        // still here: the initramfs has to do as root, for registry and files it does
        carried.problem = Some(problem);
        self.stick = carried.stick;
        self.contents = carried.contents;
        self.switch_problem = carried.problem;
        self.furnish(machine);
    }

    /// On the root that stays: mounts, control groups, settings, modules of HAUL.
    fn furnish(&mut self, machine: &mut Machine) {
        let mut problems = Vec::new();
        if self.switch_problem.is_none() {
            let flags = rustix::mount::MountPropagationFlags::SHARED
                | rustix::mount::MountPropagationFlags::REC;
            if let Err(error) = rustix::mount::mount_change("/", flags) {
                problems.push(format!("sharing the mounts: {error}"));
            }
        }
        problems.extend(mounts::mount_all(mounts::LATE));
        mounts::dev_links();
        if let Err(error) = cgroup::prepare() {
            problems.push(format!("control groups: {error}"));
        }
        if self.switch_problem.is_none() {
            problems.extend(root::link_modules(&self.contents));
        }
        for problem in problems {
            machine.reporter.notice(&problem);
        }
        for problem in sysctl::apply() {
            machine.reporter.log(Level::Notice, &problem);
        }
        let config = match &self.stick.config {
            Some(device) => {
                machine.helpers.start(Task::MountConfig(device.clone()));
                false
            }
            None => {
                machine
                    .reporter
                    .notice("the stick has no partition HAULCFG");
                true
            }
        };
        self.phase = Phase::Root {
            until: Uptime::now().after(DRIVERS),
            drivers: false,
            config,
            modules: 0,
        };
        self.start_loader(machine);
    }

    fn root_progress(&mut self, machine: &mut Machine) {
        if let Phase::Root {
            drivers: true,
            config: true,
            ..
        } = self.phase
        {
            self.end_root(machine);
        }
    }

    fn end_root(&mut self, machine: &mut Machine) {
        let modules = match self.phase {
            Phase::Root { modules, .. } => modules,
            _ => 0,
        };
        let release = ModuleFiles::directory();
        let release = release.file_name().unwrap_or_default().to_string_lossy();
        if let Some(problem) = &self.switch_problem {
            machine.reporter.failed(
                Stage::Root,
                "the initramfs stays the root",
                &format!("The root could not be switched: {problem}. Kubernetes can't run."),
                "Report this with the kernel's log. Registry and files are served all the same.",
            );
        } else if let Some((what, mend)) = root::misfit(&self.contents, Arch::current(), &release) {
            machine
                .reporter
                .failed(Stage::Root, "the stick does not fit", &what, &mend);
        } else {
            let limit = rustix::fs::statvfs("/").map_or(0, |fs| fs.f_blocks * fs.f_frsize);
            let detail = format!(
                "/ is a tmpfs of {}, HAUL read-only; {modules} more drivers loaded",
                super::text::size(limit)
            );
            machine.reporter.done(Stage::Root, &detail);
        }
        self.phase = Phase::Node {
            until: Uptime::now().after(NETWORK),
        };
        let events = machine.children.start(&NODE);
        for event in events {
            self.child(machine, event);
        }
    }

    /// A child did something.
    pub(super) fn child(&mut self, machine: &mut Machine, event: Event) {
        match event {
            Event::Report(report) => self.report(machine, report),
            Event::Died {
                name,
                how,
                deaths,
                wait,
            } => {
                let Some(wait) = wait else {
                    return;
                };
                machine.reporter.notice(&format!(
                    "the process {name} ended ({how}); it is started again in {} s",
                    wait.as_secs()
                ));
                if deaths >= DEATHS {
                    self.keeps_dying(machine, name, &how);
                }
            }
        }
    }

    fn report(&mut self, machine: &mut Machine, report: Report) {
        match report {
            Report::Begin(stage) => machine.reporter.begin(stage, Uptime::now()),
            Report::End {
                stage,
                outcome,
                detail,
                problem,
            } => {
                machine.reporter.end(stage, outcome, &detail, problem);
                self.stage_ended(machine, stage);
            }
            Report::Notice(text) => machine.reporter.notice(&text),
            Report::Node(node) => {
                machine.reporter.set_node(node);
                if matches!(self.phase, Phase::Run) {
                    self.end_run(machine);
                }
            }
            Report::MissingFirmware(missing) => machine.reporter.firmware_of_node(missing),
            Report::Progress(text) => machine.reporter.say(&text),
            Report::State(state) => machine.reporter.set_state(state),
            Report::Cluster(cluster) => machine.reporter.set_cluster(cluster),
            Report::K3s(_) => {}
        }
    }

    fn stage_ended(&mut self, machine: &mut Machine, stage: Stage) {
        match (stage, &self.phase) {
            (Stage::Identity, _) if self.config_is_mounted => {
                self.config_is_mounted = false;
                machine.helpers.start(Task::UnmountConfig);
            }
            (Stage::Network, Phase::Node { .. }) => self.enter_registry(machine),
            (Stage::Registry, Phase::Registry { .. }) => self.enter_run(machine),
            (Stage::Registry, Phase::Run) => self.end_run(machine),
            _ => {}
        }
    }

    /// A child died so often that its stage won't end by itself.
    fn keeps_dying(&mut self, machine: &mut Machine, name: &'static str, how: &str) {
        let stages: &[Stage] = if name == NODE.name {
            &[Stage::Identity, Stage::Network]
        } else {
            &[Stage::Registry]
        };
        let mut last = machine.children.tail(name);
        if !last.is_empty() {
            last.insert_str(0, " It last said:\n");
        }
        for &stage in stages {
            if machine.reporter.outcome(stage) == Some(StageOutcome::Failed) {
                continue;
            }
            machine.reporter.failed(
                stage,
                &format!("the process {name} keeps ending ({how})"),
                &format!("The process {name} ended {DEATHS} times ({how}).{last}"),
                &format!(
                    "It is started again and again. If that does not help, its log \
                     /run/haulboot/logs/{name}.log says more; report it."
                ),
            );
            self.stage_ended(machine, stage);
        }
    }

    fn enter_registry(&mut self, machine: &mut Machine) {
        self.phase = Phase::Registry {
            until: Uptime::now().after(SERVING),
        };
        if !machine.children.has(&REGISTRY) {
            let events = machine.children.start(&REGISTRY);
            for event in events {
                self.child(machine, event);
            }
        }
    }

    fn enter_run(&mut self, machine: &mut Machine) {
        self.phase = Phase::Run;
        self.end_run(machine);
    }

    /// Says what this machine is and serves; anew whenever that changes.
    fn end_run(&mut self, machine: &mut Machine) {
        let serves = machine.reporter.outcome(Stage::Registry) == Some(StageOutcome::Done);
        let detail = summary::line(machine.reporter.status(), serves);
        if serves {
            machine.reporter.done(Stage::Run, &detail);
        } else {
            machine.reporter.failed(
                Stage::Run,
                &detail,
                "The machine is up, but does not serve the haul: see stage registry.",
                "Mend what stage registry says.",
            );
        }
    }
}

/// Goes on without drivers that do not get ready, and says which.
fn leave_slow_drivers(machine: &mut Machine) {
    let slow = loading_modules(Path::new("/sys/module")).join(", ");
    let which = if slow.is_empty() { "some" } else { &slow };
    machine.reporter.notice(&format!(
        "drivers take long to start; going on without {which}"
    ));
    if let Err(error) = machine.loader.replace() {
        let text = format!("starting the process that loads drivers: {error}");
        machine.reporter.notice(&text);
    }
}

/// Modules whose initialisation has not ended (kernel: `module_init_state`, "coming").
fn loading_modules(modules: &Path) -> Vec<String> {
    let is_coming = |path: &Path| {
        std::fs::read_to_string(path.join("initstate")).is_ok_and(|state| state.trim() == "coming")
    };
    let directories = std::fs::read_dir(modules).into_iter().flatten().flatten();
    let mut coming: Vec<String> = directories
        .filter(|entry| is_coming(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    coming.sort();
    coming
}

/// For people: `x86_64, kernel 6.12.1`.
fn machine_name() -> String {
    let kernel = rustix::system::uname();
    let release = kernel.release().to_string_lossy().into_owned();
    format!("{}, kernel {release}", Arch::current())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn modules_that_are_being_loaded_are_named_and_others_are_not() {
        let modules = tempfile::tempdir().unwrap();
        for (name, state) in [("megaraid_sas", "coming\n"), ("ext4", "live\n")] {
            std::fs::create_dir(modules.path().join(name)).unwrap();
            std::fs::write(modules.path().join(name).join("initstate"), state).unwrap();
        }
        std::fs::create_dir(modules.path().join("built_in")).unwrap();
        assert_eq!(loading_modules(modules.path()), ["megaraid_sas"]);
        assert!(loading_modules(Path::new("/nonexistent")).is_empty());
    }
}
