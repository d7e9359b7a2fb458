//! Drives, and QEMU's arguments for them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::arguments::{Arguments, joined};

/// How a drive is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bus {
    /// A USB flash drive (bulk-only transport).
    UsbStorage,
    /// A USB drive that speaks UAS.
    Uas,
    /// An NVMe drive.
    Nvme,
    /// A virtio block device.
    VirtioBlk,
    /// A SCSI disk behind virtio-scsi.
    VirtioScsi,
    /// A SATA disk.
    Ahci,
    /// A card in an SD card reader. QEMU wants its size to be a power of two.
    Sd,
}

/// A drive.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its name towards QEMU: letters, digits and dashes.
    pub id: String,
    /// The raw image in it.
    pub image: PathBuf,
    /// Whether the machine's writes go to the image. Else they go to a temporary file.
    pub keeps: bool,
    /// Its serial number, where the bus has one.
    pub serial: Option<String>,
    /// How it is attached.
    pub bus: Bus,
    /// Read at most so many bytes a second.
    pub read_bytes_per_second: Option<u64>,
    /// Size in bytes of a sector: 512 or 4096.
    pub sector: u32,
}

impl Disk {
    /// A drive with ordinary sectors and no limit, whose image stays as it is.
    pub fn new(id: &str, image: &Path, bus: Bus) -> Disk {
        Disk {
            id: id.to_owned(),
            image: image.to_owned(),
            keeps: false,
            serial: None,
            bus,
            read_bytes_per_second: None,
            sector: 512,
        }
    }
}

/// What fails is told to the guest, which can say so. By itself QEMU stops the whole machine, without
/// a word, when this machine's disk is full.
const ERRORS: &str = "rerror=report,werror=report";

impl Disk {
    pub(super) fn render(&self, arguments: &mut Arguments) {
        let id = &self.id;
        let limit = self
            .read_bytes_per_second
            .map_or_else(String::new, |bytes| format!(",throttling.bps-read={bytes}"));
        let writes = if self.keeps {
            "cache=writeback"
        } else {
            "snapshot=on"
        };
        arguments.pair(
            "-drive",
            joined(
                &format!("if=none,id={id},format=raw,{writes},{ERRORS}{limit},file="),
                &self.image,
                "",
            ),
        );
        let serial = self.serial.as_deref();
        let sector = match self.sector {
            512 => String::new(),
            other => format!(",logical_block_size={other},physical_block_size={other}"),
        };
        let (controller, device) = match self.bus {
            Bus::UsbStorage => (None, "usb-storage,bus=usb.0,removable=on".to_owned()),
            Bus::Uas => (
                Some(format!("usb-uas,bus=usb.0,id={id}-bus")),
                format!("scsi-hd,bus={id}-bus.0"),
            ),
            Bus::Nvme => (None, format!("nvme,serial={}", serial.unwrap_or(id))),
            Bus::VirtioBlk => (None, "virtio-blk-pci".to_owned()),
            Bus::VirtioScsi => (
                Some(format!("virtio-scsi-pci,id={id}-bus")),
                format!("scsi-hd,bus={id}-bus.0"),
            ),
            Bus::Ahci => (
                Some(format!("ahci,id={id}-bus")),
                format!("ide-hd,bus={id}-bus.0"),
            ),
            Bus::Sd => (Some("sdhci-pci".to_owned()), "sd-card".to_owned()),
        };
        if let Some(controller) = controller {
            arguments.pair("-device", controller);
        }
        // NVMe has one in any case; for an SD card QEMU has no such option.
        let serial = match (self.bus, serial) {
            (Bus::Nvme | Bus::Sd, _) | (_, None) => String::new(),
            (_, Some(serial)) => format!(",serial={serial}"),
        };
        arguments.pair(
            "-device",
            format!("{device},drive={id},id={id}-device{sector}{serial}"),
        );
    }
}
