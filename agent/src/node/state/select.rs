//! Which disk `cluster.yaml` means, and what may be done with it.

use image_layout::cluster::DiskMatch;

use super::disks::Device;
use super::ext4::{Contents, LEAST};
use super::problem::StateError;
use super::size::size;

/// Why a device is out of the question, whatever it holds; `None` if it is not. `stick` is the
/// name of the disk that the machine booted from.
pub(super) fn unfit(device: &Device, stick: Option<&str>) -> Option<String> {
    let disk = device.disk.as_deref().unwrap_or(&device.name);
    if Some(disk) == stick {
        return Some("the stick".to_owned());
    }
    if device.is_read_only {
        return Some("read-only".to_owned());
    }
    if device.is_held {
        return Some("part of a RAID or of another volume".to_owned());
    }
    (device.bytes < LEAST).then(|| format!("smaller than {}", size(LEAST)))
}

/// Whether a device is the one described. A partition has to be named by its path: model, serial
/// number and size are a disk's.
pub(super) fn fits(wanted: &DiskMatch, device: &Device) -> bool {
    let named = |path: &image_layout::cluster::DevicePath| path.name() == device.name;
    (device.disk.is_none() || wanted.path.is_some())
        && wanted.path.as_ref().is_none_or(named)
        && wanted
            .model
            .as_ref()
            .is_none_or(|model| model.matches(&device.model))
        && wanted
            .serial
            .as_ref()
            .is_none_or(|serial| serial.matches(&device.serial))
        && wanted
            .size
            .as_ref()
            .is_none_or(|size| size.matches(device.bytes))
}

/// What to do with the disk that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It has this cluster's data.
    Use,
    /// A file system is to be made on it.
    Make,
}

/// The disk with this cluster's data, if it is among those that fit. It is taken at once,
/// whatever else fits: it was chosen at an earlier boot.
pub(super) fn ours(found: &[(Device, Contents)]) -> Option<&Device> {
    let mut ours = found.iter().filter(|(_, held)| *held == Contents::Ours);
    match (ours.next(), ours.next()) {
        (Some((device, _)), None) => Some(device),
        _ => None,
    }
}

/// Decides among all disks that fit, once no more are expected.
pub(super) fn decide<'a>(
    wanted: &DiskMatch,
    found: &'a [(Device, Contents)],
    wipe: bool,
) -> Result<(&'a Device, Action), StateError> {
    if let Some(device) = ours(found) {
        return Ok((device, Action::Use));
    }
    let [(device, contents)] = found else {
        return Err(StateError::SeveralDisks {
            wanted: wanted.to_string(),
            found: found.iter().map(|(device, _)| device.describe()).collect(),
        });
    };
    allow(device, contents, wipe).map(|action| (device, action))
}

/// Whether a device may be used, and how.
pub(super) fn allow(
    device: &Device,
    contents: &Contents,
    wipe: bool,
) -> Result<Action, StateError> {
    match contents {
        Contents::Ours => Ok(Action::Use),
        Contents::Empty | Contents::Unfinished => Ok(Action::Make),
        Contents::Haul => Err(StateError::Haul(device.describe())),
        Contents::OtherCluster | Contents::Foreign(_) if wipe => Ok(Action::Make),
        Contents::OtherCluster => Err(StateError::OtherCluster(device.describe())),
        Contents::Foreign(held) => Err(StateError::Holds {
            device: device.describe(),
            held: held.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use image_layout::cluster::{Disk, parse};

    use super::*;

    fn wanted(disk: &str) -> DiskMatch {
        let text = format!(
            "apiVersion: haulboot.dev/v1\nkind: Cluster\nname: e\nstate: {{disk: {disk}}}\n"
        );
        match parse(text.as_bytes()).unwrap().state.disk {
            Disk::Match(wanted) => wanted,
            other => panic!("{other:?}"),
        }
    }

    fn disk(name: &str) -> Device {
        Device {
            name: name.to_owned(),
            bytes: 500_107_862_016,
            model: "Samsung SSD 970".to_owned(),
            serial: "S1".to_owned(),
            ..Device::default()
        }
    }

    #[test]
    fn everything_that_is_said_of_a_disk_must_agree() {
        for (text, does_fit) in [
            ("/dev/sda", true),
            ("/dev/sdb", false),
            ("{model: samsung ssd 970}", true),
            ("{model: samsung}", false),
            ("{serial: s1, size: 500GB}", true),
            ("{serial: s1, size: 1TB}", false),
            ("{serial: s2, size: 500GB}", false),
            ("{serial: s1, path: /dev/sda}", true),
        ] {
            assert_eq!(fits(&wanted(text), &disk("sda")), does_fit, "{text}");
        }
        let partition = Device {
            disk: Some("sda".to_owned()),
            ..disk("sda1")
        };
        assert!(!fits(&wanted("{serial: s1}"), &partition));
        assert!(fits(&wanted("{serial: s1, path: /dev/sda1}"), &partition));
    }

    #[test]
    fn the_stick_and_what_can_not_be_written_are_never_taken() {
        assert_eq!(unfit(&disk("sda"), Some("sdb")), None);
        for (device, why) in [
            (disk("sdb"), "the stick"),
            (
                Device {
                    disk: Some("sdb".to_owned()),
                    ..disk("sdb4")
                },
                "the stick",
            ),
            (
                Device {
                    is_read_only: true,
                    ..disk("sda")
                },
                "read-only",
            ),
            (
                Device {
                    is_held: true,
                    ..disk("sda")
                },
                "part of",
            ),
            (
                Device {
                    bytes: 1 << 29,
                    ..disk("sda")
                },
                "smaller than 1.0 GiB",
            ),
        ] {
            let found = unfit(&device, Some("sdb")).unwrap();
            assert!(found.contains(why), "{found}");
        }
    }

    #[test]
    fn what_a_disk_holds_decides_and_wipe_only_where_it_is_not_ours() {
        let wanted = wanted("{size: 500GB}");
        let foreign = || Contents::Foreign(vec!["a GPT".to_owned()]);
        for (contents, wipe, expected) in [
            (Contents::Empty, false, Some(Action::Make)),
            (Contents::Unfinished, false, Some(Action::Make)),
            (Contents::Ours, false, Some(Action::Use)),
            (Contents::Ours, true, Some(Action::Use)),
            (foreign(), false, None),
            (foreign(), true, Some(Action::Make)),
            (Contents::Haul, true, None),
            (Contents::OtherCluster, false, None),
            (Contents::OtherCluster, true, Some(Action::Make)),
        ] {
            let found = [(disk("sda"), contents.clone())];
            let decided = decide(&wanted, &found, wipe).map(|(_, action)| action);
            assert_eq!(decided.ok(), expected, "{contents:?}, wipe {wipe}");
        }
    }

    #[test]
    fn of_several_the_one_with_our_data_is_taken_and_otherwise_none_even_with_wipe() {
        let wanted = wanted("{size: 500GB}");
        let two = |first, second| [(disk("sda"), first), (disk("sdb"), second)];
        let found = two(Contents::Empty, Contents::Ours);
        assert_eq!(decide(&wanted, &found, true).unwrap().0.name, "sdb");
        for found in [
            two(Contents::Empty, Contents::Empty),
            two(Contents::Ours, Contents::Ours),
        ] {
            let error = decide(&wanted, &found, true).unwrap_err();
            let StateError::SeveralDisks { found, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(found.len(), 2);
            assert!(
                error.to_string().contains("sdb (model \"Samsung"),
                "{error}"
            );
        }
    }
}
