//! `disk: stick`: the partition STATE behind HAUL, on the flash drive that the machine boots from.
//!
//! Its other partitions are mounted, so the kernel is told of the new one alone. What lies in
//! space that no partition has is nobody's and is overwritten; partitions 1 to 3 never are.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::disks::{self, Device};
use super::ext4::{self, Contents, LEAST, Target};
use super::problem::StateError;
use super::select::{self, Action};
use super::table::{self, TableError};
use super::tools::Tools;
use super::wait::bounded;
use super::{Prepared, identity, kernel, persistent};
use crate::node::Place;

/// How long the stick may take for its table or for two MiB.
const PATIENCE: Duration = Duration::from_secs(60);

/// Finds or makes STATE, checks it, mounts it.
pub(super) fn prepare(
    place: &Place,
    wipe: bool,
    progress: &dyn Fn(String),
) -> Result<Prepared, StateError> {
    if let Some(prepared) = persistent::again(place, "stick")? {
        return Ok(prepared);
    }
    let tools = Tools::of(place)?;
    let cluster = identity::uuid(place);
    let disk = disk(place)?;
    let path = disk.path(&place.root);
    let open = StateError::system("opening", &path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(open)?;
    let copy = || {
        file.try_clone()
            .map_err(StateError::system("opening", &path))
    };
    let reading = format!("reading the partition table of {}", disk.name);
    let found = bounded(reading, PATIENCE, {
        let (file, bytes) = (copy()?, disk.bytes);
        move || table::find(&file, bytes, LEAST)
    })?;
    let found = found.map_err(|source| failed(&disk, source))?;
    let device = device(place, &disk, &file, found)?;
    let target = Target {
        name: device.name.clone(),
        path: device.path(&place.root),
        bytes: device.bytes,
    };
    let contents = look(&target, cluster)?;
    let action = match (found.is_in_table, &contents) {
        (true, contents) => select::allow(&device, contents, wipe)?,
        // the table was about to be written when power failed
        (false, Contents::Ours) => Action::Use,
        (false, _) => Action::Make,
    };
    let mut notices = Vec::new();
    match action {
        Action::Make => ext4::make(&target, cluster, &tools, progress)?,
        Action::Use => notices.extend(ext4::check(&target, &tools, progress)?),
    }
    if !found.is_in_table {
        progress(format!(
            "adding STATE to the partition table of {}",
            disk.name
        ));
        let writing = format!("writing the partition table of {}", disk.name);
        let serial = format!("{} {}", disk.serial, disk.bytes);
        let guid = identity::derive(&[b"haulboot STATE", cluster.as_bytes(), serial.as_bytes()]);
        let written = bounded(writing, PATIENCE, {
            let (file, bytes) = (copy()?, disk.bytes);
            move || table::add(&file, bytes, found, guid)
        })?;
        written.map_err(|source| failed(&disk, source))?;
    }
    let made = action == Action::Make;
    persistent::mount(place, "stick", &device, &target.path, made, notices)
}

/// The whole stick.
fn disk(place: &Place) -> Result<Device, StateError> {
    let name = persistent::stick(place)?.ok_or(StateError::NoStick)?;
    let devices = disks::list(&place.sys);
    let disk = devices.into_iter().find(|device| device.name == name);
    let disk = disk.ok_or(StateError::NoStick)?;
    match disk.is_read_only {
        true => Err(StateError::ReadOnly(disk.name)),
        false => Ok(disk),
    }
}

/// The kernel's device for STATE, which it is told of where it does not know it.
fn device(
    place: &Place,
    disk: &Device,
    file: &File,
    found: table::Place,
) -> Result<Device, StateError> {
    let known = || {
        disks::list(&place.sys).into_iter().find(|device| {
            device.disk.as_deref() == Some(&disk.name) && device.partition == Some(found.number)
        })
    };
    let device = match known() {
        Some(device) => Some(device),
        None => {
            kernel::add_partition(file, found.number, found.start, found.bytes).map_err(
                StateError::system("adding a partition to", disk.path(&place.root)),
            )?;
            known()
        }
    };
    match device {
        Some(device) if (device.start, device.bytes) == (found.start, found.bytes) => Ok(device),
        _ => Err(StateError::Stick {
            device: disk.name.clone(),
            source: TableError::Odd("the kernel has another partition of that number"),
        }),
    }
}

fn look(target: &Target, cluster: uuid::Uuid) -> Result<Contents, StateError> {
    let (path, bytes): (_, u64) = (target.path.clone(), target.bytes);
    let look = move || ext4::look(&path, bytes, cluster);
    let read: io::Result<Contents> = bounded(format!("reading {}", target.name), PATIENCE, look)?;
    let path: &Path = &target.path;
    read.map_err(StateError::system("reading", path))
}

fn failed(disk: &Device, source: TableError) -> StateError {
    match source {
        TableError::NoRoom(bytes) => StateError::NoRoom {
            device: disk.describe(),
            bytes,
        },
        source => StateError::Stick {
            device: disk.name.clone(),
            source,
        },
    }
}
