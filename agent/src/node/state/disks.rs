//! The disks and partitions of the machine, as sysfs shows them (Linux:
//! Documentation/ABI/stable/sysfs-block).

use std::fs;
use std::path::{Path, PathBuf};

use super::size::disk_size;

/// Devices that are no disks somebody put in.
const NO_DISKS: [&str; 10] = [
    "loop", "ram", "zram", "dm-", "md", "nbd", "sr", "fd", "mtdblock", "drbd",
];
/// Bytes of one attribute.
const ATTRIBUTE_BYTES: u64 = 4096;
/// More devices than any machine has; the rest is not looked at.
const DEVICES: usize = 4096;

/// A disk or a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    /// The kernel's name, `sda`, `nvme0n1p2`.
    pub(super) name: String,
    /// For a partition: the name of its disk.
    pub(super) disk: Option<String>,
    /// For a partition: its number in the table.
    pub(super) partition: Option<u32>,
    /// Major and minor number, `8:3`.
    pub(super) number: String,
    /// Size in bytes.
    pub(super) bytes: u64,
    /// First byte on the disk, for a partition.
    pub(super) start: u64,
    /// Bytes of one of the disk's blocks.
    pub(super) block: u64,
    /// What the disk calls itself; empty if it does not say.
    pub(super) model: String,
    /// Empty if the disk does not say.
    pub(super) serial: String,
    /// Whether it can't be written.
    pub(super) is_read_only: bool,
    /// Whether something is built on it: a RAID, an encrypted or a logical volume.
    pub(super) is_held: bool,
}

impl Device {
    /// The device file below `/dev`.
    pub(super) fn path(&self, root: &Path) -> PathBuf {
        root.join("dev").join(&self.name)
    }

    /// For people, with the words that `cluster.yaml` takes:
    /// `sdb (model "QEMU HARDDISK", serial "d1", 500.1 GB)`.
    pub(super) fn describe(&self) -> String {
        let mut facts = Vec::new();
        if !self.model.is_empty() {
            facts.push(format!("model {:?}", self.model));
        }
        if !self.serial.is_empty() {
            facts.push(format!("serial {:?}", self.serial));
        }
        facts.push(disk_size(self.bytes));
        format!("{} ({})", self.name, facts.join(", "))
    }
}

/// Every disk and partition with something in it, by name.
pub(super) fn list(sys: &Path) -> Vec<Device> {
    let entries = fs::read_dir(sys.join("class/block"))
        .into_iter()
        .flatten()
        .flatten()
        .take(DEVICES);
    let mut devices: Vec<Device> = entries
        .filter_map(|entry| device(&entry.path(), entry.file_name().to_str()?))
        .collect();
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    devices
}

fn device(link: &Path, name: &str) -> Option<Device> {
    if NO_DISKS.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let path = fs::canonicalize(link).ok()?;
    let number = |name: &str| attribute(&path.join(name))?.parse::<u64>().ok();
    // sysfs counts in units of 512 bytes whatever the disk's own blocks are
    let bytes = number("size")?.checked_mul(512)?;
    if bytes == 0 {
        return None;
    }
    let is_partition = path.join("partition").exists();
    let whole = if is_partition { path.parent()? } else { &path };
    let disk = is_partition
        .then(|| whole.file_name()?.to_str().map(str::to_owned))
        .flatten();
    let is_held = |path: &Path| {
        fs::read_dir(path.join("holders")).is_ok_and(|mut holders| holders.next().is_some())
    };
    Some(Device {
        name: name.to_owned(),
        disk,
        partition: attribute(&path.join("partition")).and_then(|text| text.parse().ok()),
        number: attribute(&path.join("dev")).unwrap_or_default(),
        bytes,
        start: number("start").unwrap_or(0).saturating_mul(512),
        block: attribute(&whole.join("queue/logical_block_size"))
            .and_then(|text| text.parse().ok())
            .unwrap_or(512),
        model: first(whole, &["device/model", "device/name"]).unwrap_or_default(),
        serial: serial(whole).unwrap_or_default(),
        is_read_only: number("ro") == Some(1),
        is_held: is_held(&path),
    })
}

/// virtio and NVMe have an attribute; SCSI a page of vital product data (SPC-4, 7.8.13: four
/// bytes, then text); for SATA disks the kernel makes up the same page; bridges on USB are
/// numbered by their USB device.
fn serial(disk: &Path) -> Option<String> {
    first(disk, &["serial", "device/serial"])
        .or_else(|| {
            let page = crate::node::read_bounded(&disk.join("device/vpd_pg80"), ATTRIBUTE_BYTES);
            words(page.ok()?.get(4..)?)
        })
        .or_else(|| {
            let above = disk.ancestors().take(12);
            above
                .filter(|path| path.join("idVendor").exists())
                .find_map(|path| attribute(&path.join("serial")))
        })
}

fn first(disk: &Path, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| attribute(&disk.join(name)))
}

fn attribute(path: &Path) -> Option<String> {
    words(&crate::node::read_bounded(path, ATTRIBUTE_BYTES).ok()?)
}

/// Text of a device, without what it pads it with and without what a terminal would act upon.
fn words(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!text.is_empty()).then(|| image_layout::text::printable(text))
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Lays out one device as sysfs does: `at` is its directory below `devices`.
    pub(in crate::node::state) fn add(sys: &Path, at: &str, files: &[(&str, &str)]) {
        let path = sys.join("devices").join(at);
        for (name, text) in files {
            let file = path.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let name = Path::new(at).file_name().unwrap();
        fs::create_dir_all(sys.join("class/block")).unwrap();
        symlink(&path, sys.join("class/block").join(name)).unwrap();
    }

    #[test]
    fn disks_say_who_they_are_in_the_way_of_their_kind() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path();
        let size = ("size", "976773168\n");
        add(
            sys,
            "pci/virtio0/block/vda",
            &[size, ("serial", "d1\n"), ("dev", "254:0\n")],
        );
        add(
            sys,
            "pci/ata1/host0/block/sda",
            &[
                size,
                ("device/model", "QEMU HARDDISK   \n"),
                ("device/vpd_pg80", "\0\u{50}\0\u{8}QM00001 "),
                ("queue/logical_block_size", "4096\n"),
            ],
        );
        add(
            sys,
            "pci/ata1/host0/block/sda/sda2",
            &[
                ("size", "2048\n"),
                ("partition", "2\n"),
                ("start", "4096\n"),
                ("ro", "1\n"),
            ],
        );
        fs::create_dir_all(sys.join("devices/pci/usb1/1-1")).unwrap();
        fs::write(sys.join("devices/pci/usb1/1-1/idVendor"), "0781").unwrap();
        fs::write(sys.join("devices/pci/usb1/1-1/serial"), "4C53\n").unwrap();
        add(
            sys,
            "pci/usb1/1-1/host1/block/sdb",
            &[size, ("holders/dm-0", "")],
        );
        add(sys, "virtual/block/loop0", &[size]);
        add(sys, "pci/host3/block/sdc", &[("size", "0\n")]);
        let devices = list(sys);
        let described: Vec<String> = devices.iter().map(Device::describe).collect();
        assert_eq!(
            described,
            [
                "sda (model \"QEMU HARDDISK\", serial \"QM00001\", 500.1 GB)",
                "sda2 (model \"QEMU HARDDISK\", serial \"QM00001\", 1.0 MB)",
                "sdb (serial \"4C53\", 500.1 GB)",
                "vda (serial \"d1\", 500.1 GB)",
            ]
        );
        assert_eq!(devices[1].disk.as_deref(), Some("sda"));
        assert_eq!(devices[1].partition, Some(2));
        assert_eq!((devices[1].start, devices[1].block), (4096 * 512, 4096));
        assert!(devices[1].is_read_only && !devices[0].is_read_only);
        assert!(devices[2].is_held && !devices[3].is_held);
        assert_eq!(devices[3].number, "254:0");
    }

    #[test]
    fn a_disk_that_calls_itself_something_odd_is_shown_without_harm() {
        assert_eq!(words(b" A\x1b[2J \0\0"), Some("A\\u{1b}[2J".to_owned()));
        assert_eq!(words(b" \0"), None);
    }
}
