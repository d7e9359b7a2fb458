//! The machine of a row as QEMU is to be.

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow};
use builder::qemu::{
    Accelerator, Boot, BootFiles, Bus, Cable, Disk, Firmware, Identity, Machine, Network, Serial,
};

use super::Slot;
use crate::images::Recipe;
use crate::qemu::node_ports;
use crate::rows::{Card, Row, Start, Stick};
use crate::switch::Switch;

/// The machine of `slot`; what it boots from is left in the slot's directory.
pub(super) fn machine(row: &Row, slot: &Slot<'_>, switch: Option<&Switch>) -> Result<Machine> {
    let Slot {
        name,
        hardware,
        image,
        scratch,
        ..
    } = slot;
    let boot = match row.start {
        Start::Uefi => Boot::Firmware(Firmware::find(row.arch).map_err(with_help)?),
        Start::Direct => direct(row, image, slot)?,
        Start::DirectForeign => {
            let own = crate::images::image(&Recipe {
                arches: vec![row.arch],
                ..row.recipe(hardware)
            })?;
            direct(row, &own, slot)?
        }
    };
    let drive = |id: &str, bus| Disk {
        read_bytes_per_second: hardware.read_bytes_per_second,
        sector: hardware.sector.unwrap_or(512),
        keeps: hardware.stick_keeps,
        ..Disk::new(id, image, bus)
    };
    let mut disks = Vec::new();
    if hardware.stick == Stick::In {
        disks.push(drive("stick", row.bus));
    }
    if hardware.second_stick {
        disks.push(drive("second", Bus::UsbStorage));
    }
    for (number, disk) in hardware.disks.iter().enumerate() {
        disks.push(Disk {
            keeps: true,
            serial: Some(disk.serial.clone()),
            ..Disk::new(&format!("disk{number}"), &slot.disk(&disk.serial), disk.bus)
        });
    }
    let cable = match switch {
        Some(switch) => switch.cable(name),
        None => Cable::Own(node_ports([hardware.address])),
    };
    let mac = match switch {
        Some(_) => Some(hardware.mac_or(slot.number)),
        None => hardware.mac,
    };
    Ok(Machine {
        arch: row.arch,
        accelerator: match row.start {
            // An image for another architecture has no kernel to try KVM with.
            Start::DirectForeign => Accelerator::Tcg,
            _ => Accelerator::detect(image, row.arch)?,
        },
        memory_mib: hardware.memory.unwrap_or(1024),
        cpus: hardware.cpus.unwrap_or(1),
        boot,
        disks,
        network: match hardware.network {
            Card::None => None,
            Card::In | Card::Out => Some(Network { cable, mac }),
        },
        // The harness puts its own in place.
        serial: Serial::File(scratch.join("console.log")),
        status_port: None,
        ports: Vec::new(),
        qmp: None,
        identity: Identity {
            serial: hardware.serial.clone(),
            uuid: hardware.uuid,
        },
        clock: hardware.clock.clone(),
        end_at_reboot: true,
        paused: true,
    })
}

/// A start with the kernel of one image and the `haulboot.*` arguments of the slot's.
fn direct(row: &Row, kernel_of: &Path, slot: &Slot<'_>) -> Result<Boot> {
    let files = BootFiles::extract(kernel_of, row.arch)?;
    let arguments_of = &slot.image;
    let arches = builder::qemu::architectures(arguments_of)?;
    let arch = *arches
        .first()
        .ok_or_else(|| anyhow!("the image boots nothing"))?;
    let options = BootFiles::extract(arguments_of, arch)?.options;
    let ours = options
        .split_whitespace()
        .filter(|word| word.starts_with("haulboot."))
        .collect::<Vec<_>>()
        .join(" ");
    let kernel = slot.scratch.join("kernel");
    let initramfs = slot.scratch.join("initramfs");
    fs::write(&kernel, files.kernel)?;
    fs::write(&initramfs, files.initramfs)?;
    Ok(Boot::Kernel {
        kernel,
        initramfs,
        command_line: format!(
            "console=tty0 console={} {ours} {}",
            row.arch.serial_console(),
            slot.hardware.kernel_arguments
        ),
    })
}

fn with_help(error: builder::qemu::QemuError) -> anyhow::Error {
    match error.help() {
        Some(help) => anyhow::Error::new(error).context(help),
        None => error.into(),
    }
}
