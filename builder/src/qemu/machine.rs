//! A virtual machine as a value, and QEMU's command line for it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use image_layout::Arch;

use super::arguments::{Arguments, joined, shell_word};
use super::{Accelerator, Disk, Firmware, Network};

/// A machine that QEMU can be.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its processor.
    pub arch: Arch,
    /// Who runs its instructions.
    pub accelerator: Accelerator,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Number of processors.
    pub cpus: u16,
    /// What starts first.
    pub boot: Boot,
    /// Drives that are in when it starts.
    pub disks: Vec<Disk>,
    /// Network card; without one the machine has none.
    pub network: Option<Network>,
    /// Where its serial console goes.
    pub serial: Serial,
    /// Unix socket to which QEMU connects the status port. Someone must listen on it before QEMU
    /// starts, so that no line is lost.
    pub status_port: Option<PathBuf>,
    /// Further virtio-serial ports, for tests: name, and Unix socket as above.
    pub ports: Vec<(String, PathBuf)>,
    /// Unix socket to which QEMU connects its control protocol (QMP), as above.
    pub qmp: Option<PathBuf>,
    /// What its firmware says about it.
    pub identity: Identity,
    /// `YYYY-MM-DDTHH:MM:SS` to start its clock at; default: the host's time.
    pub clock: Option<String>,
    /// Whether QEMU ends when the machine reboots, instead of rebooting.
    pub end_at_reboot: bool,
    /// Whether it waits for `cont` over QMP before its first instruction.
    pub paused: bool,
}

/// What starts first.
#[derive(Clone, Debug)]
pub enum Boot {
    /// UEFI firmware, which looks for a boot loader on the disks.
    Firmware(Firmware),
    /// A kernel directly (`-kernel`).
    Kernel {
        /// The kernel.
        kernel: PathBuf,
        /// The initramfs.
        initramfs: PathBuf,
        /// The kernel's command line.
        command_line: String,
    },
}

/// Where the serial console goes.
#[derive(Clone, Debug)]
pub enum Serial {
    /// To this terminal, together with QEMU's monitor; Ctrl-A X ends QEMU.
    Terminal,
    /// To a file.
    File(PathBuf),
}

/// What firmware says about a machine (SMBIOS type 1).
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Serial number of the system.
    pub serial: Option<String>,
    /// UUID of the system.
    pub uuid: Option<uuid::Uuid>,
}

impl Machine {
    /// QEMU's program for an architecture.
    pub const fn program(arch: Arch) -> &'static str {
        match arch {
            Arch::X86_64 => "qemu-system-x86_64",
            Arch::Arm64 => "qemu-system-aarch64",
        }
    }

    /// The Debian package with [`Machine::program`].
    pub const fn package(arch: Arch) -> &'static str {
        match arch {
            Arch::X86_64 => "qemu-system-x86",
            Arch::Arm64 => "qemu-system-arm",
        }
    }

    /// The command that starts the machine.
    pub fn command(&self) -> Command {
        let mut command = Command::new(Machine::program(self.arch));
        command.args(self.arguments());
        command
    }

    /// The same command for a person to paste into a shell.
    pub fn command_line(&self) -> String {
        let mut line = Machine::program(self.arch).to_owned();
        for argument in self.arguments() {
            line.push(' ');
            line.push_str(&shell_word(&argument.to_string_lossy()));
        }
        line
    }

    /// QEMU's arguments.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Arguments::default();
        self.board(&mut arguments);
        self.start(&mut arguments);
        if self.end_at_reboot {
            arguments.flag("-no-reboot");
        }
        if self.paused {
            arguments.flag("-S");
        }
        match &self.serial {
            Serial::Terminal => arguments.pair("-serial", "mon:stdio"),
            Serial::File(path) => {
                arguments.pair("-serial", joined("file:", path, ""));
                arguments.pair("-monitor", "none");
            }
        }
        // Every machine has USB, so that a stick can come later.
        arguments.pair("-device", "qemu-xhci,id=usb");
        for disk in &self.disks {
            disk.render(&mut arguments);
        }
        match &self.network {
            Some(network) => network.render(&mut arguments),
            None => arguments.pair("-nic", "none"),
        }
        self.serial_ports(&mut arguments);
        if let Some(socket) = &self.qmp {
            arguments.pair("-chardev", joined("socket,id=qmp,path=", socket, ""));
            arguments.pair("-mon", "chardev=qmp,mode=control");
        }
        arguments.0
    }

    fn serial_ports(&self, arguments: &mut Arguments) {
        let status = self
            .status_port
            .iter()
            .map(|socket| (image_layout::paths::node::STATUS_PORT, socket));
        let further = self
            .ports
            .iter()
            .map(|(name, socket)| (name.as_str(), socket));
        for (number, (name, socket)) in status.chain(further).enumerate() {
            if number == 0 {
                arguments.pair("-device", "virtio-serial-pci");
            }
            arguments.pair(
                "-chardev",
                joined(&format!("socket,id=port{number},path="), socket, ""),
            );
            arguments.pair(
                "-device",
                format!("virtserialport,chardev=port{number},name={name}"),
            );
        }
    }

    fn board(&self, arguments: &mut Arguments) {
        let (machine, cpu) = match (self.arch, self.accelerator) {
            (Arch::X86_64, Accelerator::Tcg) => ("q35", "max"),
            (Arch::X86_64, Accelerator::Kvm) => ("q35", "host"),
            // Real pointer authentication costs an emulated processor a third of its speed.
            (Arch::Arm64, Accelerator::Tcg) => ("virt", "max,pauth-impdef=on"),
            (Arch::Arm64, Accelerator::Kvm) => ("virt,gic-version=host", "host"),
        };
        arguments.pair("-accel", self.accelerator.argument());
        arguments.pair("-M", machine);
        arguments.pair("-cpu", cpu);
        arguments.pair("-smp", self.cpus.to_string());
        arguments.pair("-m", self.memory_mib.to_string());
        arguments.pair("-display", "none");
        if let Some(clock) = &self.clock {
            arguments.pair("-rtc", format!("base={clock}"));
        }
        if let Some(uuid) = self.identity.uuid {
            arguments.pair("-uuid", uuid.to_string());
        }
        if let Some(serial) = &self.identity.serial {
            arguments.pair("-smbios", joined("type=1,serial=", serial.as_ref(), ""));
        }
    }

    fn start(&self, arguments: &mut Arguments) {
        match &self.boot {
            Boot::Firmware(Firmware::Flash(path)) => arguments.pair(
                "-drive",
                joined("if=pflash,format=raw,readonly=on,file=", path, ""),
            ),
            Boot::Firmware(Firmware::Rom(path)) => arguments.pair("-bios", path),
            Boot::Kernel {
                kernel,
                initramfs,
                command_line,
            } => {
                arguments.pair("-kernel", kernel);
                arguments.pair("-initrd", initramfs);
                arguments.pair("-append", command_line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use image_layout::cluster::Mac;

    use super::*;
    use crate::qemu::{Bus, Cable, Forward, UserNetwork};

    fn machine(arch: Arch) -> Machine {
        Machine {
            arch,
            accelerator: Accelerator::Tcg,
            memory_mib: 1024,
            cpus: 2,
            boot: Boot::Firmware(match arch {
                Arch::X86_64 => Firmware::Flash("/fw/OVMF_CODE.fd".into()),
                Arch::Arm64 => Firmware::Rom("/fw/QEMU_EFI.fd".into()),
            }),
            disks: vec![Disk::new("stick", Path::new("/tmp/a.img"), Bus::UsbStorage)],
            network: None,
            serial: Serial::File("/tmp/console.log".into()),
            status_port: None,
            ports: Vec::new(),
            qmp: None,
            identity: Identity::default(),
            clock: None,
            end_at_reboot: true,
            paused: false,
        }
    }

    #[test]
    fn a_stick_boots_an_x86_64_machine_by_uefi_from_usb() {
        assert_eq!(
            machine(Arch::X86_64).command_line(),
            "qemu-system-x86_64 -accel tcg,thread=multi -M q35 -cpu max -smp 2 -m 1024 \
             -display none -drive if=pflash,format=raw,readonly=on,file=/fw/OVMF_CODE.fd \
             -no-reboot -serial file:/tmp/console.log -monitor none -device qemu-xhci,id=usb \
             -drive if=none,id=stick,format=raw,snapshot=on,rerror=report,werror=report,\
             file=/tmp/a.img \
             -device usb-storage,bus=usb.0,removable=on,drive=stick,id=stick-device -nic none"
        );
    }

    #[test]
    fn an_arm64_machine_takes_its_firmware_as_a_rom() {
        let line = machine(Arch::Arm64).command_line();
        assert!(line.starts_with("qemu-system-aarch64 -accel tcg,thread=multi -M virt "));
        assert!(line.contains(" -bios /fw/QEMU_EFI.fd "), "{line}");
    }

    #[test]
    fn the_network_has_no_way_out_and_forwards_the_registry() {
        let mut machine = machine(Arch::X86_64);
        let forwards = vec![
            Forward {
                local: 5001,
                address: None,
                port: 5000,
            },
            Forward {
                local: 0,
                address: Some(std::net::Ipv4Addr::new(10, 0, 2, 21)),
                port: 6443,
            },
        ];
        machine.network = Some(Network {
            cable: Cable::Own(UserNetwork { forwards }),
            mac: Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])),
        });
        let line = machine.command_line();
        assert!(
            line.contains(
                "-netdev user,id=net,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:5001-:5000,\
                 hostfwd=tcp:127.0.0.1:0-10.0.2.21:6443 \
                 -device virtio-net-pci,netdev=net,id=card,romfile=,mac=52:54:00:12:34:56"
            ),
            "{line}"
        );
        assert!(!line.contains("-nic"), "{line}");
    }

    #[test]
    fn a_cable_to_another_machine_is_a_pair_of_sockets() {
        let mut machine = machine(Arch::X86_64);
        machine.network = Some(Network {
            cable: Cable::Datagrams {
                local: "/tmp/a,b".into(),
                remote: "/tmp/switch".into(),
            },
            mac: None,
        });
        let line = machine.command_line();
        assert!(
            line.contains(
                "-netdev dgram,id=net,local.type=unix,local.path=/tmp/a,,b,\
                 remote.type=unix,remote.path=/tmp/switch -device virtio-net-pci,"
            ),
            "{line}"
        );
    }

    #[test]
    fn a_drive_that_keeps_is_no_snapshot_and_has_its_serial_number_on_every_bus() {
        for bus in [Bus::VirtioBlk, Bus::Nvme, Bus::Ahci, Bus::VirtioScsi] {
            let mut machine = machine(Arch::X86_64);
            machine.disks.push(Disk {
                keeps: true,
                serial: Some("STATE-1".to_owned()),
                ..Disk::new("state", Path::new("/tmp/state.img"), bus)
            });
            let line = machine.command_line();
            assert_eq!(line.matches("snapshot=on").count(), 1, "{line}");
            assert_eq!(line.matches("serial=STATE-1").count(), 1, "{line}");
        }
    }

    #[test]
    fn commas_in_paths_are_doubled_and_spaces_quoted() {
        let mut machine = machine(Arch::X86_64);
        machine.disks[0].image = "/tmp/my images/a,b.img".into();
        machine.identity.serial = Some("A,B".into());
        let line = machine.command_line();
        assert!(line.contains("file=/tmp/my images/a,,b.img'"), "{line}");
        assert!(line.contains("-smbios type=1,serial=A,,B"), "{line}");
    }

    #[test]
    fn every_bus_attaches_the_drive_it_is_given() {
        for bus in [
            Bus::UsbStorage,
            Bus::Uas,
            Bus::Nvme,
            Bus::VirtioBlk,
            Bus::VirtioScsi,
            Bus::Ahci,
            Bus::Sd,
        ] {
            let mut machine = machine(Arch::X86_64);
            machine.disks[0].bus = bus;
            let line = machine.command_line();
            let drives = line.matches("drive=stick").count();
            assert_eq!(drives, 1, "{bus:?}: {line}");
        }
    }
}
