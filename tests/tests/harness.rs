//! The harness itself, with machines that have nothing to boot.
#![allow(clippy::unwrap_used, clippy::panic)] // a failed step is a failed test

use std::path::{Path, PathBuf};
use std::time::Duration;

use builder::qemu::{Accelerator, Boot, Bus, Disk, Firmware, Identity, Machine, Network, Serial};
use image_layout::Arch;
use tests::qemu::{Cable, Vm};

fn machine(arch: Arch, disk: &Path) -> Machine {
    Machine {
        arch,
        accelerator: Accelerator::Tcg,
        memory_mib: 256,
        cpus: 1,
        boot: Boot::Firmware(Firmware::find(arch).unwrap_or_else(|error| {
            panic!("{error}; {}", error.help().unwrap_or_default());
        })),
        disks: vec![Disk::new("stick", disk, Bus::UsbStorage)],
        network: Some(Network::default()),
        serial: Serial::Terminal,
        status_port: None,
        ports: Vec::new(),
        qmp: None,
        identity: Identity::default(),
        clock: Some("1970-01-01T00:00:00".to_owned()),
        end_at_reboot: true,
        paused: true,
    }
}

fn blank(directory: &Path) -> PathBuf {
    let disk = directory.join("blank.img");
    let file = std::fs::File::create(&disk).unwrap();
    file.set_len(8 << 20).unwrap();
    disk
}

#[test]
fn a_machine_of_each_architecture_runs_until_it_is_dropped() {
    for arch in Arch::ALL {
        let directory = tempfile::tempdir().unwrap();
        let disk = blank(directory.path());
        let mut vm = Vm::start(machine(arch, &disk), Cable::Out, directory.path()).unwrap();
        assert_ne!(vm.registry().unwrap().port(), 0);
        assert_eq!(vm.block_stats("stick").unwrap().writes, 0);
        vm.cable(Cable::In).unwrap();
        vm.unplug("stick").unwrap();
        assert!(vm.block_stats("stick").is_err());
        vm.plug(&disk, "plugged").unwrap();
        assert_eq!(vm.block_stats("plugged").unwrap().writes, 0);
        assert!(vm.wait_exit(Duration::ZERO).unwrap().is_none());
        for file in ["command", "console.log", "status.jsonl", "qemu.log"] {
            assert!(directory.path().join(file).is_file(), "{file}");
        }
    }
}

#[test]
fn every_bus_is_one_that_qemu_takes_on_both_architectures() {
    for arch in Arch::ALL {
        for bus in [
            Bus::UsbStorage,
            Bus::Uas,
            Bus::Nvme,
            Bus::VirtioBlk,
            Bus::VirtioScsi,
            Bus::Ahci,
            Bus::Sd,
        ] {
            let directory = tempfile::tempdir().unwrap();
            let disk = blank(directory.path());
            let mut machine = machine(arch, &disk);
            machine.disks = vec![Disk::new("stick", &disk, bus)];
            let mut vm = Vm::start(machine, Cable::In, directory.path())
                .unwrap_or_else(|error| panic!("{arch} {bus:?}: {error:#}"));
            vm.block_stats("stick")
                .unwrap_or_else(|error| panic!("{arch} {bus:?}: {error:#}"));
        }
    }
}

#[test]
fn qemus_own_words_are_in_the_error_when_it_refuses_a_machine() {
    let directory = tempfile::tempdir().unwrap();
    let mut machine = machine(Arch::X86_64, Path::new("/nowhere/stick.img"));
    machine.clock = None;
    let error = Vm::start(machine, Cable::In, directory.path()).unwrap_err();
    assert!(
        format!("{error:#}").contains("/nowhere/stick.img"),
        "{error:#}"
    );
}
