//! `disk:` with a disk or partition of the machine.
//!
//! - The disks are looked at until one has this cluster's data, or one fits and no further disk
//!   has come for a while, or the time is up: disks on USB and behind RAID cards come late.
//! - Nothing is written before the choice is made, and nothing to a disk that holds something,
//!   unless `wipe: true` says so.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use image_layout::cluster::DiskMatch;

use super::disks::{self, Device};
use super::ext4::{self, Contents, Target};
use super::identity;
use super::problem::StateError;
use super::select::{self, Action};
use super::tools::Tools;
use super::wait::{Events, bounded};
use super::{Prepared, persistent, table};
use crate::node::Place;

/// How long a disk is waited for.
const COMES: Duration = Duration::from_secs(60);
/// How long no disk must have come before one is written to: the one with the data may be late.
const QUIET: Duration = Duration::from_secs(5);
/// How often a person hears that a disk is waited for.
const TELL: Duration = Duration::from_secs(5);
/// How long a disk may take to give two MiB. A sleeping one has to spin up.
const READING: Duration = Duration::from_secs(30);

/// Finds the disk, makes or checks its file system, mounts it.
pub(super) fn prepare(
    place: &Place,
    wanted: &DiskMatch,
    wipe: bool,
    progress: &dyn Fn(String),
) -> Result<Prepared, StateError> {
    if let Some(prepared) = persistent::again(place, "disk")? {
        return Ok(prepared);
    }
    let tools = Tools::of(place)?;
    let cluster = identity::uuid(place);
    let (device, action) = find(place, wanted, wipe, progress)?;
    let target = Target {
        name: device.name.clone(),
        path: device.path(&place.root),
        bytes: device.bytes,
    };
    let mut notices = Vec::new();
    match action {
        Action::Make => ext4::make(&target, cluster, &tools, progress)?,
        Action::Use => notices.extend(ext4::check(&target, &tools, progress)?),
    }
    let made = action == Action::Make;
    persistent::mount(place, "disk", &device, &target.path, made, notices)
}

fn find(
    place: &Place,
    wanted: &DiskMatch,
    wipe: bool,
    progress: &dyn Fn(String),
) -> Result<(Device, Action), StateError> {
    let events = Events::open().map_err(StateError::system("listening for", "device events"))?;
    let stick = persistent::stick(place)?;
    let begin = Instant::now();
    let mut known = Vec::new();
    let mut last_news = begin;
    let mut held: BTreeMap<String, Contents> = BTreeMap::new();
    loop {
        let devices = disks::list(&place.sys);
        if devices != known {
            // a name may mean another disk now
            held.retain(|name, _| {
                let of = |all: &[Device]| all.iter().find(|device| device.name == *name).cloned();
                of(&devices) == of(&known)
            });
            known = devices;
            last_news = Instant::now();
        }
        let mut found = Vec::new();
        for device in known.iter().filter(|device| select::fits(wanted, device)) {
            if select::unfit(device, stick.as_deref()).is_some() {
                continue;
            }
            let contents = match held.get(&device.name) {
                Some(contents) => contents.clone(),
                None => look(place, device)?,
            };
            held.insert(device.name.clone(), contents.clone());
            found.push((device.clone(), contents));
        }
        if let Some(device) = select::ours(&found) {
            return Ok((device.clone(), Action::Use));
        }
        let is_quiet = last_news.elapsed() >= QUIET;
        let is_late = begin.elapsed() >= COMES;
        if !found.is_empty() && (is_quiet || is_late) {
            return select::decide(wanted, &found, wipe)
                .map(|(device, action)| (device.clone(), action));
        }
        if is_late {
            return Err(none(wanted, &known, stick.as_deref()));
        }
        if found.is_empty() {
            progress(format!(
                "waiting for the disk with {wanted} ({} of {} s)",
                begin.elapsed().as_secs(),
                COMES.as_secs()
            ));
        }
        let left = match found.is_empty() {
            true => COMES.saturating_sub(begin.elapsed()),
            false => QUIET.saturating_sub(last_news.elapsed()),
        };
        events.wait(left.min(TELL).max(Duration::from_millis(10)));
    }
}

/// Looks what a disk holds.
fn look(place: &Place, device: &Device) -> Result<Contents, StateError> {
    let path = device.path(&place.root);
    let cluster = identity::uuid(place);
    let (bytes, block) = (device.bytes, device.block);
    let doing = format!("reading {}", device.name);
    let read = bounded(doing, READING, {
        let path = path.clone();
        move || {
            let contents = ext4::look(&path, bytes, cluster)?;
            Ok::<_, std::io::Error>(match contents {
                Contents::Foreign(held) => table::refine(&path, block, held),
                other => other,
            })
        }
    })?;
    read.map_err(StateError::system("reading", path))
}

/// The error that lists what there is, in the words that `cluster.yaml` takes.
fn none(wanted: &DiskMatch, devices: &[Device], stick: Option<&str>) -> StateError {
    let named = |device: &&Device| device.disk.is_none() || select::fits(wanted, device);
    let seen = devices
        .iter()
        .filter(named)
        .map(|device| match select::unfit(device, stick) {
            Some(why) => format!("{}: {why}", device.describe()),
            None => device.describe(),
        });
    StateError::NoDisk {
        wanted: wanted.to_string(),
        seen: seen.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_not_there_is_answered_with_those_that_are() {
        let device = |name: &str, bytes| Device {
            name: name.to_owned(),
            bytes,
            serial: format!("serial-of-{name}"),
            ..Device::default()
        };
        let devices = [
            device("sda", 32_000_000_000),
            device("sdb", 2_000_000_000_000),
            Device {
                disk: Some("sdb".to_owned()),
                ..device("sdb1", 1_000_000_000_000)
            },
        ];
        let wanted = DiskMatch {
            model: Some("Nothing".to_owned().try_into().unwrap()),
            ..DiskMatch::default()
        };
        let problem = none(&wanted, &devices, Some("sda")).problem();
        assert_eq!(
            problem.what,
            "There is no place for k3s's data: no disk has model \"Nothing\". Disks: \
             sda (serial \"serial-of-sda\", 32.0 GB): the stick; \
             sdb (serial \"serial-of-sdb\", 2.0 TB)."
        );
        assert!(problem.mend.contains("`state:`"), "{}", problem.mend);
    }
}
