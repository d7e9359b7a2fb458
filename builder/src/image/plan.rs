//! Where each partition lies, computed before anything is written.

use image_layout::partitions::{ALIGNMENT, CONFIG_BYTES, Partition};
use serde::Serialize;

/// Bytes of a sector; sticks that say otherwise (4096) are not bootable by common firmware either.
pub(super) const SECTOR: u64 = 512;

/// The smallest ESP: FAT32 has at least 65,525 clusters of 512 bytes, and two tables.
const ESP_MIN_BYTES: u64 = 34 << 20;
/// Room on the ESP for what people add: a splash screen, an update of the boot loader.
const ESP_SPARE_BYTES: u64 = 8 << 20;

/// A range of the image in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// Its first byte, counted from the start of the image.
    pub start: u64,
    /// Its length.
    pub bytes: u64,
}

impl Extent {
    /// The byte after the last.
    pub const fn end(self) -> u64 {
        self.start + self.bytes
    }
}

/// The partitions of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// HAULCFG.
    pub config: Extent,
    /// The ESP.
    pub esp: Extent,
    /// HAUL.
    pub haul: Extent,
}

impl Plan {
    /// A plan for `esp_contents` bytes of files on the ESP and a file system of `haul` bytes.
    ///
    /// The table's first copy is in the first MiB, the second in the last.
    pub fn new(esp_contents: u64, haul: u64) -> Plan {
        let config = Extent {
            start: ALIGNMENT,
            bytes: CONFIG_BYTES,
        };
        // two FATs with four bytes for each cluster of 512, directories, half-used clusters
        let needed = esp_contents + esp_contents / 32 + ESP_SPARE_BYTES;
        let esp = Extent {
            start: config.end(),
            bytes: align(needed.max(ESP_MIN_BYTES)),
        };
        let haul = Extent {
            start: esp.end(),
            bytes: align(haul),
        };
        Plan { config, esp, haul }
    }

    /// Bytes of the whole image.
    pub const fn total(&self) -> u64 {
        self.haul.end() + ALIGNMENT
    }

    /// Where a partition lies; STATE is in no image.
    pub const fn of(&self, partition: Partition) -> Option<Extent> {
        match partition {
            Partition::Config => Some(self.config),
            Partition::Esp => Some(self.esp),
            Partition::Haul => Some(self.haul),
            Partition::State => None,
        }
    }
}

/// The next multiple of [`ALIGNMENT`].
pub(super) const fn align(bytes: u64) -> u64 {
    bytes.div_ceil(ALIGNMENT) * ALIGNMENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_aligned_adjacent_and_leave_room_for_both_tables() {
        for (esp, haul) in [(0, 1), (50_000_001, 123_456_789), (700 << 20, 5 << 40)] {
            let plan = Plan::new(esp, haul);
            assert_eq!(plan.config.start, 1 << 20);
            assert_eq!(plan.esp.start, plan.config.end());
            assert_eq!(plan.haul.start, plan.esp.end());
            for extent in [plan.config, plan.esp, plan.haul] {
                assert_eq!(extent.start % ALIGNMENT, 0);
                assert_eq!(extent.bytes % ALIGNMENT, 0);
            }
            assert!(plan.esp.bytes > esp && plan.haul.bytes >= haul);
            assert_eq!(plan.total(), plan.haul.end() + ALIGNMENT);
        }
    }
}
