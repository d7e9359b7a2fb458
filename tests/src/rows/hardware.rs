//! The machines of a row.

use builder::qemu::Bus;
use image_layout::cluster::Mac;
use serde::Deserialize;

use crate::images::{Credentials, K3s};

/// What differs from an ordinary machine.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Hardware {
    /// Memory in MiB; default 1024.
    pub memory: Option<u32>,
    /// Processors; default 1.
    pub cpus: Option<u16>,
    /// Network card: in, out (cable pulled) or none.
    pub network: Card,
    /// Address of the node, where it isn't the first one that DHCP gives.
    pub address: Option<std::net::Ipv4Addr>,
    /// MAC address of the card.
    pub mac: Option<Mac>,
    /// Serial number of the system.
    pub serial: Option<String>,
    /// UUID of the system.
    pub uuid: Option<uuid::Uuid>,
    /// Clock at power-on, `1970-01-01T00:00:00`.
    pub clock: Option<String>,
    /// Whether the stick is in at power-on.
    pub stick: Stick,
    /// Bytes by which the drive is larger than the image.
    pub grow: u64,
    /// Bytes a second that the drive gives.
    pub read_bytes_per_second: Option<u64>,
    /// Bytes of the drive's sectors; default 512.
    pub sector: Option<u32>,
    /// A second drive with the same contents, on USB.
    pub second_stick: bool,
    /// Added to the kernel's command line; for direct starts.
    pub kernel_arguments: String,
    /// Further drives, which keep what is written to them for the whole row.
    pub disks: Vec<StateDisk>,
    /// Whether the stick keeps what is written to it, too. It needs `grow`.
    pub stick_keeps: bool,
    /// What k3s file is on this machine's stick, if not the row's.
    pub k3s: Option<K3s>,
    /// Whose credentials are on its stick.
    pub credentials: Credentials,
}

/// The network card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Card {
    /// With a cable.
    #[default]
    In,
    /// Without a cable.
    Out,
    /// No card at all.
    None,
}

/// The stick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stick {
    /// In from power-on.
    #[default]
    In,
    /// Comes by a step `plug`.
    Later,
}

/// A drive for the node's state.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StateDisk {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its serial number.
    pub serial: String,
    /// How it is attached.
    #[serde(default = "virtio_blk")]
    pub bus: Bus,
    /// Label of an ext4 file system that is on it from the beginning; else it is empty.
    #[serde(default)]
    pub labelled: Option<String>,
}

fn virtio_blk() -> Bus {
    Bus::VirtioBlk
}

impl Hardware {
    /// The machine's MAC address: machines on one cable need different ones.
    pub fn mac_or(&self, number: u8) -> Mac {
        self.mac.unwrap_or(Mac([0x52, 0x54, 0, 0x48, 0x42, number]))
    }
}
