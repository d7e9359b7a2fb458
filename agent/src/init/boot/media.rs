//! Stage media: the wait for the stick.

use image_layout::status::Stage;

use super::drivers::machine_name;
use super::{Boot, PROGRESS, Phase};
use crate::init::clock::Uptime;
use crate::init::helper::Task;
use crate::init::machine::Machine;
use crate::init::media::Verdict;
use crate::init::uevent::Uevent;

/// How long the stick is waited for before the screen, unless the command line says otherwise.
const MEDIA: u32 = 60;

impl Boot {
    pub(super) fn enter_media(&mut self, machine: &mut Machine, modules: usize) {
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

    pub(super) fn look_for_stick(&mut self, machine: &mut Machine) {
        for disk in self.media.scan() {
            machine.helpers.start(Task::Table(disk));
        }
        self.decide(machine);
    }

    /// A disk or partition came, went or changed.
    pub(in crate::init) fn disks_changed(&mut self, machine: &mut Machine, event: Option<&Uevent>) {
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

    pub(super) fn decide(&mut self, machine: &mut Machine) {
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

    pub(super) fn media_progress(&mut self, machine: &mut Machine, now: Uptime) {
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
}
