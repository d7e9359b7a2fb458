//! Stage root: HAUL, the new root, what lies on it.

use std::time::Duration;

use image_layout::Arch;
use image_layout::status::Stage;

use super::{Boot, DRIVERS, NETWORK, PROGRESS, Phase};
use crate::init::children::NODE;
use crate::init::clock::Uptime;
use crate::init::helper::{Outcome, Task};
use crate::init::kmsg::Level;
use crate::init::machine::Machine;
use crate::init::modules::ModuleFiles;
use crate::init::root::{self, Carried, HaulContents};
use crate::init::{cgroup, mounts, sysctl};

/// How long a stick that can't be mounted is left alone.
const REJECTED: Duration = Duration::from_secs(30);

impl Boot {
    pub(super) fn haul_mounted(&mut self, machine: &mut Machine, outcome: Outcome) {
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
    pub(super) fn furnish(&mut self, machine: &mut Machine) {
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

    pub(super) fn root_progress(&mut self, machine: &mut Machine) {
        if let Phase::Root {
            drivers: true,
            config: true,
            ..
        } = self.phase
        {
            self.end_root(machine);
        }
    }

    pub(super) fn end_root(&mut self, machine: &mut Machine) {
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
                crate::init::text::size(limit)
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
}
