//! The boot menu: systemd-boot's configuration and one entry for each way to start.
//!
//! Formats: loader.conf(5) of systemd, and the Boot Loader Specification, type 1.

use std::collections::BTreeMap;

use image_layout::bootargs::BootArgs;
use image_layout::cluster::Role;
use image_layout::{Arch, paths::esp};

/// Seconds the menu waits.
const TIMEOUT: u32 = 3;
/// For the kernel, not for us: errors on the screen but no chatter, and a machine that panics
/// starts again.
const KERNEL_ARGUMENTS: &str = "loglevel=4 panic=30";

/// What the entries of one architecture have in common.
pub(super) struct Boot<'a> {
    pub(super) arch: Arch,
    pub(super) kernel_release: &'a str,
    pub(super) args: &'a BootArgs,
    /// Further arguments of the kernel's.
    pub(super) append: &'a [String],
    /// Whether the roles that run k3s can be chosen.
    pub(super) k3s: bool,
    /// Whether a server would lack what it needs.
    pub(super) agents_only: bool,
}

/// `loader.conf`. One pattern serves both architectures: systemd-boot leaves out entries for
/// another one than its own.
pub(super) fn loader_conf() -> String {
    format!("timeout {TIMEOUT}\ndefault haulboot-*-configured.conf\n")
}

/// Path on the ESP and contents of every entry of one architecture.
pub(super) fn entries(boot: &Boot<'_>) -> BTreeMap<String, String> {
    let mut choices = vec![("configured", "as configured", None)];
    if boot.k3s && !boot.agents_only {
        choices.push(("server", "k3s server", Some(Role::Server)));
    }
    if boot.k3s {
        choices.push(("agent", "k3s agent", Some(Role::Agent)));
    }
    choices.push(("registry", "registry only", Some(Role::Registry)));
    choices
        .into_iter()
        .enumerate()
        .map(|(place, (id, title, role))| {
            let text = entry(boot, place, title, role);
            (esp::menu_entry(boot.arch, id), text)
        })
        .collect()
}

fn entry(boot: &Boot<'_>, place: usize, title: &str, role: Option<Role>) -> String {
    let args = BootArgs {
        role,
        ..boot.args.clone()
    };
    let mut options = format!(
        "{args} console=tty0 console={} {KERNEL_ARGUMENTS}",
        boot.arch.serial_console()
    );
    for argument in boot.append {
        options.push(' ');
        options.push_str(argument);
    }
    let machine = match boot.arch {
        Arch::X86_64 => "x64",
        Arch::Arm64 => "aa64",
    };
    format!(
        "title Haulboot: {title}\n\
         sort-key haulboot-{place}\n\
         version {}\n\
         architecture {machine}\n\
         linux /{}\n\
         initrd /{}\n\
         options {options}\n",
        boot.kernel_release,
        esp::kernel(boot.arch),
        esp::initramfs(boot.arch),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(args: &BootArgs, k3s: bool) -> BTreeMap<String, String> {
        entries(&Boot {
            arch: Arch::Arm64,
            kernel_release: "6.12.1-arm64",
            args,
            append: &["modprobe.blacklist=nouveau".to_owned(), "debug".to_owned()],
            k3s,
            agents_only: false,
        })
    }

    #[test]
    fn the_default_entry_carries_what_the_agent_reads_back() {
        let args = BootArgs {
            haul: Some(uuid::Uuid::from_u128(7)),
            built: Some(1_700_000_000),
            ..BootArgs::default()
        };
        let entries = boot(&args, false);
        let default = &entries["loader/entries/haulboot-arm64-configured.conf"];
        let options = default
            .lines()
            .find_map(|line| line.strip_prefix("options "))
            .unwrap();
        let parsed = BootArgs::parse(options);
        assert_eq!(parsed.args, args);
        assert!(parsed.problems.is_empty());
        assert!(options.contains("console=tty0 console=ttyAMA0,115200"));
        assert!(options.ends_with(" modprobe.blacklist=nouveau debug"));
        assert!(default.contains("\nlinux /haulboot/arm64/vmlinuz\n"));
        assert!(default.contains("\narchitecture aa64\n"));
        assert!(loader_conf().contains("default haulboot-*-configured.conf\n"));
    }

    #[test]
    fn roles_that_need_k3s_are_offered_only_with_it() {
        let names = |k3s| {
            boot(&BootArgs::default(), k3s)
                .into_keys()
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(false),
            [
                "loader/entries/haulboot-arm64-configured.conf",
                "loader/entries/haulboot-arm64-registry.conf"
            ]
        );
        assert_eq!(names(true).len(), 4);
        let with = boot(&BootArgs::default(), true);
        assert!(with["loader/entries/haulboot-arm64-agent.conf"].contains("haulboot.role=agent"));
    }

    #[test]
    fn a_stick_for_agents_offers_no_server() {
        let entries = entries(&Boot {
            arch: Arch::X86_64,
            kernel_release: "6.12.1-amd64",
            args: &BootArgs::default(),
            append: &[],
            k3s: true,
            agents_only: true,
        });
        assert_eq!(
            entries.into_keys().collect::<Vec<_>>(),
            [
                "loader/entries/haulboot-x86_64-agent.conf",
                "loader/entries/haulboot-x86_64-configured.conf",
                "loader/entries/haulboot-x86_64-registry.conf"
            ]
        );
    }
}
