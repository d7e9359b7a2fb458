//! Waiting for drivers, within bounds.

use std::path::Path;

use image_layout::Arch;

use super::{Boot, Phase};
use crate::init::machine::Machine;

impl Boot {
    pub(super) fn start_loader(&mut self, machine: &mut Machine) {
        if let Err(error) = machine.loader.start() {
            let text = format!("starting the process that loads drivers: {error}");
            machine.reporter.notice(&text);
            self.coldplugged(machine, 0);
        }
    }

    /// The walk over all devices ended.
    pub(in crate::init) fn coldplugged(&mut self, machine: &mut Machine, count: usize) {
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
    pub(in crate::init) fn loader_died(&mut self, machine: &mut Machine) {
        if machine.loader.is_given_up() {
            self.coldplugged(machine, 0);
        }
    }
}

/// Goes on without drivers that do not get ready, and says which.
pub(super) fn leave_slow_drivers(machine: &mut Machine) {
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
pub(super) fn machine_name() -> String {
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
