//! Finding the stick: by the GUIDs on the kernel command line, never by a label.
//!
//! - Every disk that appears has its primary partition table read by a helper. The backup table
//!   does not count: a stick that was larger in an earlier life has an old one at its end.
//! - A disk is ours if disk and partition GUIDs are those the builder wrote into the boot menu.
//! - HAUL and HAULCFG are taken from the same table, so they lie on one disk.
//! - Two disks with our GUIDs are copies of one stick. Nothing is guessed: a person unplugs one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use gpt::disk::LogicalBlockSize;
use image_layout::bootargs::BootArgs;
use image_layout::partitions::Partition;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::text::{attribute, size};

const BLOCK: &str = "/sys/class/block";
/// Devices that are no disks somebody plugged in.
const NO_DISKS: [&str; 7] = ["loop", "ram", "zram", "dm-", "md", "nbd", "sr"];
/// More entries than any table has; the standard size is 128.
const ENTRIES: u32 = 1024;

/// The partition table of one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    /// GUID of the disk.
    pub(super) disk: Uuid,
    /// By number from 1: GUID and type.
    pub(super) partitions: BTreeMap<u32, (Uuid, Uuid)>,
}

/// The helper's task: reads the primary partition table of a disk and prints it as JSON.
pub(super) fn read_table(disk: &str) -> Result<String, String> {
    let path = Path::new("/dev").join(disk);
    let mut device = File::open(&path).map_err(|error| format!("opening it: {error}"))?;
    let sector = attribute(Path::new(BLOCK).join(disk).join("queue/logical_block_size"));
    let block = match sector.as_deref() {
        Some("4096") => LogicalBlockSize::Lb4096,
        _ => LogicalBlockSize::Lb512,
    };
    let header = gpt::header::read_header_from_arbitrary_device(&mut device, block)
        .map_err(|error| format!("no partition table (GPT): {error}"))?;
    if header.part_size != 128 || header.num_parts > ENTRIES {
        return Err("its partition table has a shape Haulboot does not write".to_owned());
    }
    let partitions = gpt::partition::file_read_partitions(&mut device, &header, block)
        .map_err(|error| format!("reading the partition table: {error}"))?;
    let guids = |(number, partition): (u32, gpt::partition::Partition)| {
        let kind = partition.part_type_guid.guid;
        (number, (partition.part_guid, kind))
    };
    let table = Table {
        disk: header.disk_guid,
        partitions: partitions.into_iter().map(guids).collect(),
    };
    serde_json::to_string(&table).map_err(|error| error.to_string())
}

/// What is known about one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// Nothing yet.
    Unknown,
    /// Its table.
    Table(Table),
    /// Why it has none.
    Unreadable(String),
}

#[derive(Clone, Debug)]
struct Disk {
    known: Known,
    /// Whether a helper reads its table just now.
    asked: bool,
    /// For people: `SanDisk Ultra, 28.7 GiB`.
    description: String,
}

/// Our stick.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stick {
    /// Name of the disk, `sda`.
    pub(super) disk: String,
    /// For people.
    pub(super) description: String,
    /// Name of the partition HAUL, `sda3`.
    pub(super) haul: String,
    /// Name of the partition HAULCFG, if there is one.
    pub(super) config: Option<String>,
}

/// What the disks seen so far amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This one.
    Found(Stick),
    /// Copies of one stick; the names and descriptions.
    Several(Vec<String>),
    /// Not here yet.
    Absent,
}

/// The search.
#[derive(Debug, Default)]
pub(super) struct Media {
    wanted: BootArgs,
    disks: BTreeMap<String, Disk>,
}

impl Media {
    /// A search for what the kernel command line names.
    pub(super) fn new(wanted: BootArgs) -> Media {
        Media {
            wanted,
            disks: BTreeMap::new(),
        }
    }

    /// Whether the command line says what to look for.
    pub(super) fn is_named(&self) -> bool {
        self.wanted.haul.is_some() || self.wanted.disk.is_some()
    }

    /// Looks which disks there are; returns those whose table should be read now.
    pub(super) fn scan(&mut self) -> Vec<String> {
        let entries = fs::read_dir(BLOCK).into_iter().flatten().flatten();
        let names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| is_disk(name))
            .collect();
        self.disks.retain(|name, _| names.contains(name));
        let new = names
            .into_iter()
            .filter(|name| !self.disks.contains_key(name));
        let new: Vec<String> = new.collect();
        for name in &new {
            self.insert(name);
        }
        new
    }

    fn insert(&mut self, name: &str) {
        let disk = Disk {
            known: Known::Unknown,
            asked: true,
            description: describe(name),
        };
        self.disks.insert(name.to_owned(), disk);
    }

    /// A disk went, or its contents are others now: it is looked at anew.
    pub(super) fn forget(&mut self, name: &str) {
        self.disks.remove(name);
    }

    /// The disks that could not be read, to be tried again: returns which.
    pub(super) fn retry(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        for (name, disk) in &mut self.disks {
            if matches!(disk.known, Known::Unreadable(_)) && !disk.asked {
                disk.asked = true;
                names.push(name.clone());
            }
        }
        names
    }

    /// A helper read a table, or could not. Whether that is news.
    pub(super) fn answer(&mut self, name: &str, outcome: Result<String, String>) -> bool {
        let known = match outcome.map(|json| serde_json::from_str(&json)) {
            Ok(Ok(table)) => Known::Table(table),
            Ok(Err(error)) => Known::Unreadable(format!("its table can't be understood: {error}")),
            Err(why) => Known::Unreadable(why),
        };
        let Some(disk) = self.disks.get_mut(name) else {
            return false;
        };
        let news = disk.known != known;
        disk.known = known;
        disk.asked = false;
        news
    }

    /// Whether a disk's table is being read for the first time.
    pub(super) fn is_reading(&self) -> bool {
        // one that gave no answer is asked again and again; only a first look can find a copy
        let first = |disk: &Disk| disk.asked && disk.known == Known::Unknown;
        self.disks.values().any(first)
    }

    /// What the disks amount to.
    pub(super) fn verdict(&self) -> Verdict {
        self.decide(partition_name)
    }

    /// As [`Self::verdict`], with the look-up of a partition's name given.
    fn decide(&self, name_of: impl Fn(&str, u32) -> Option<String>) -> Verdict {
        let ours: Vec<(&String, &Disk, u32, Option<u32>)> = self
            .disks
            .iter()
            .filter_map(|(name, disk)| {
                let Known::Table(table) = &disk.known else {
                    return None;
                };
                let (haul, config) = self.ours(table)?;
                Some((name, disk, haul, config))
            })
            .collect();
        match ours.as_slice() {
            [] => Verdict::Absent,
            [(name, disk, haul, config)] => {
                // the table is read before the kernel has made the partitions' devices
                let Some(haul) = name_of(name, *haul) else {
                    return Verdict::Absent;
                };
                Verdict::Found(Stick {
                    disk: (*name).clone(),
                    description: disk.description.clone(),
                    haul,
                    config: config.and_then(|number| name_of(name, number)),
                })
            }
            several => Verdict::Several(
                several
                    .iter()
                    .map(|(name, disk, ..)| format!("{name} ({})", disk.description))
                    .collect(),
            ),
        }
    }

    /// Numbers of HAUL and HAULCFG if the table is the one meant.
    fn ours(&self, table: &Table) -> Option<(u32, Option<u32>)> {
        if self.wanted.disk.is_some_and(|disk| disk != table.disk) || !self.is_named() {
            return None;
        }
        let find = |guid: Option<Uuid>, partition: Partition| {
            let fits = |(own, kind): &(Uuid, Uuid)| match guid {
                Some(guid) => *own == guid,
                None => *kind == partition.type_guid(),
            };
            let mut partitions = table.partitions.iter();
            partitions
                .find(|(_, guids)| fits(guids))
                .map(|(number, _)| *number)
        };
        let haul = find(self.wanted.haul, Partition::Haul)?;
        Some((haul, find(self.wanted.config, Partition::Config)))
    }

    /// The disks seen, for people: `sda (QEMU, 1.0 GiB): another disk`.
    pub(super) fn seen(&self) -> String {
        let disks: Vec<String> = self
            .disks
            .iter()
            .map(|(name, disk)| {
                let what = match &disk.known {
                    Known::Unknown => "being read".to_owned(),
                    Known::Table(table) if self.ours(table).is_some() => "the stick".to_owned(),
                    Known::Table(_) => "not this boot's stick".to_owned(),
                    Known::Unreadable(why) => why.clone(),
                };
                format!("{name} ({}): {what}", disk.description)
            })
            .collect();
        if disks.is_empty() {
            "no disk at all".to_owned()
        } else {
            disks.join("; ")
        }
    }
}

/// Whether a block device is a whole disk with something in it.
fn is_disk(name: &str) -> bool {
    let path = Path::new(BLOCK).join(name);
    !NO_DISKS.iter().any(|prefix| name.starts_with(prefix))
        && !path.join("partition").exists()
        && attribute(path.join("size")).is_some_and(|sectors| sectors != "0")
}

/// Vendor, model and size of a disk.
fn describe(name: &str) -> String {
    let path = Path::new(BLOCK).join(name);
    let mut words: Vec<String> = ["device/vendor", "device/model", "device/name"]
        .iter()
        .filter_map(|file| attribute(path.join(file)))
        .filter(|word| !word.is_empty() && !word.starts_with("0x"))
        .collect();
    // sysfs counts in units of 512 bytes whatever the disk's own sectors are
    if let Some(sectors) = attribute(path.join("size")).and_then(|text| text.parse::<u64>().ok()) {
        words.push(size(sectors.saturating_mul(512)));
    }
    super::text::one_line(&words.join(" "), 80)
}

/// Name of the device of a disk's partition, once the kernel has made it.
fn partition_name(disk: &str, number: u32) -> Option<String> {
    let entries = fs::read_dir(Path::new(BLOCK).join(disk)).ok()?;
    for entry in entries.flatten() {
        if attribute(entry.path().join("partition")) == Some(number.to_string()) {
            return entry.file_name().into_string().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(disk: u128, guids: &[(u32, u128)]) -> String {
        let partitions = guids
            .iter()
            .map(|&(number, guid)| (number, (Uuid::from_u128(guid), Partition::Haul.type_guid())))
            .collect();
        let disk = Uuid::from_u128(disk);
        serde_json::to_string(&Table { disk, partitions }).unwrap()
    }

    fn media(disks: &[(&str, Result<String, String>)]) -> Media {
        let mut media = Media::new(BootArgs {
            disk: Some(Uuid::from_u128(1)),
            haul: Some(Uuid::from_u128(3)),
            config: Some(Uuid::from_u128(2)),
            ..BootArgs::default()
        });
        for (name, outcome) in disks {
            media.insert(name);
            media.answer(name, outcome.clone());
        }
        media
    }

    fn decide(media: &Media) -> Verdict {
        media.decide(|disk, number| Some(format!("{disk}{number}")))
    }

    #[test]
    fn the_stick_is_the_disk_with_both_guids_and_its_own_configuration() {
        let media = media(&[
            ("sda", Err("no partition table".into())),
            ("sdb", Ok(table(9, &[(1, 2), (3, 3)]))),
            ("sdc", Ok(table(1, &[(1, 2), (2, 7), (3, 3)]))),
        ]);
        let Verdict::Found(stick) = decide(&media) else {
            panic!("{:?}", decide(&media));
        };
        assert_eq!(stick.haul, "sdc3");
        assert_eq!(stick.config.as_deref(), Some("sdc1"));
        assert!(
            media.seen().contains("no partition table"),
            "{}",
            media.seen()
        );
    }

    #[test]
    fn a_stick_without_configuration_is_found_too() {
        let media = media(&[("sda", Ok(table(1, &[(3, 3)])))]);
        assert!(matches!(decide(&media), Verdict::Found(stick) if stick.config.is_none()));
    }

    #[test]
    fn of_two_copies_none_is_taken_until_one_is_gone() {
        let copy = table(1, &[(1, 2), (3, 3)]);
        let mut media = media(&[("sda", Ok(copy.clone())), ("sdb", Ok(copy))]);
        assert!(matches!(decide(&media), Verdict::Several(names) if names.len() == 2));
        media.forget("sda");
        assert!(matches!(decide(&media), Verdict::Found(stick) if stick.disk == "sdb"));
    }

    #[test]
    fn a_partition_whose_device_is_not_there_yet_is_waited_for() {
        let media = media(&[("sda", Ok(table(1, &[(3, 3)])))]);
        assert_eq!(media.decide(|_, _| None), Verdict::Absent);
    }

    #[test]
    fn without_guids_on_the_command_line_nothing_is_taken() {
        let mut media = Media::new(BootArgs::default());
        media.insert("sda");
        media.answer("sda", Ok(table(1, &[(3, 3)])));
        assert_eq!(decide(&media), Verdict::Absent);
    }
}
