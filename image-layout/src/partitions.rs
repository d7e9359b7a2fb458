//! The partition table: order, names, types, sizes and how GUIDs come about.

use uuid::Uuid;

use crate::digest::{Digest, Hasher};

/// Every partition begins at a multiple of this many bytes.
pub const ALIGNMENT: u64 = 1 << 20;

/// Size in bytes of the partition that people edit. FAT32 needs 65,525 clusters, so not less.
pub const CONFIG_BYTES: u64 = 64 << 20;

/// One of the partitions of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Partition {
    /// FAT32 with `cluster.yaml`; first, so that every desktop mounts it.
    Config,
    /// FAT32 with boot loader, kernels and initramfs.
    Esp,
    /// ext4 with the haul, k3s, modules and firmware; mounted read-only on the node.
    Haul,
    /// ext4 made by a node on first boot if its configuration asks for it; never in an image.
    State,
}

impl Partition {
    /// The partitions that the builder writes, in the order of the table.
    pub const IN_IMAGE: [Partition; 3] = [Partition::Config, Partition::Esp, Partition::Haul];

    /// Number in the partition table, from 1.
    pub const fn number(self) -> u32 {
        match self {
            Partition::Config => 1,
            Partition::Esp => 2,
            Partition::Haul => 3,
            Partition::State => 4,
        }
    }

    /// Name in the table, and label of the file system.
    pub const fn name(self) -> &'static str {
        match self {
            Partition::Config => "HAULCFG",
            Partition::Esp => "ESP",
            Partition::Haul => "HAUL",
            Partition::State => "STATE",
        }
    }

    /// Type GUID. HAUL and STATE have types of their own, so that no desktop offers to format them.
    pub const fn type_guid(self) -> Uuid {
        match self {
            // Microsoft basic data
            Partition::Config => Uuid::from_u128(0xebd0a0a2_b9e5_4433_87c0_68b6b72699c7),
            // EFI system partition
            Partition::Esp => Uuid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b),
            Partition::Haul => Uuid::from_u128(0x4841554c_b007_4e5a_9d1c_2f6a8c3e7b10),
            Partition::State => Uuid::from_u128(0x4841554c_b007_4e5a_9d1c_2f6a8c3e7b11),
        }
    }
}

/// The GUIDs of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guids {
    /// Of the disk.
    pub disk: Uuid,
    /// Of the partition HAULCFG.
    pub config: Uuid,
    /// Of the ESP.
    pub esp: Uuid,
    /// Of the partition HAUL.
    pub haul: Uuid,
}

impl Guids {
    /// GUIDs that follow from the contents: the same `seed` gives the same four.
    ///
    /// They are version 8 UUIDs (RFC 9562, 5.8) made of SHA-256 over the seed and a name, so that
    /// two images differ in all of them as soon as they differ in one input.
    pub fn derive(seed: &Digest) -> Guids {
        let guid = |name: &str| {
            let mut hasher = Hasher::sha256();
            hasher.update(b"haulboot guid v1\n");
            hasher.update(seed.to_string().as_bytes());
            hasher.update(b"\n");
            hasher.update(name.as_bytes());
            let mut bytes = [0; 16];
            if let Digest::Sha256(hash) = hasher.finish() {
                bytes.copy_from_slice(&hash[..16]);
            }
            uuid::Builder::from_custom_bytes(bytes).into_uuid()
        };
        Guids {
            disk: guid("disk"),
            config: guid("HAULCFG"),
            esp: guid("ESP"),
            haul: guid("HAUL"),
        }
    }

    /// The GUID of one partition; STATE has none before a node makes it.
    pub const fn of(&self, partition: Partition) -> Option<Uuid> {
        match partition {
            Partition::Config => Some(self.config),
            Partition::Esp => Some(self.esp),
            Partition::Haul => Some(self.haul),
            Partition::State => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_contents_give_the_same_guids_and_others_give_others() {
        let one = Guids::derive(&Digest::sha256_of(b"one"));
        assert_eq!(one, Guids::derive(&Digest::sha256_of(b"one")));
        let two = Guids::derive(&Digest::sha256_of(b"two"));
        let all = [
            one.disk, one.config, one.esp, one.haul, two.disk, two.config, two.esp, two.haul,
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(all.iter().all(|guid| guid.get_version_num() == 8));
    }
}
