//! The partition table, by the `gpt` crate.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{OperatingSystem, Type};
use image_layout::partitions::{Guids, Partition};

use super::plan::{Extent, Plan, SECTOR};
use super::window::Window;

/// Why the table could not be written.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// The protective MBR.
    #[error("writing the protective MBR")]
    Mbr(#[from] gpt::mbr::MBRError),
    /// The table itself.
    #[error("writing the partition table")]
    Table(#[from] gpt::GptError),
}

/// Writes the protective MBR, the table, and its copy into the last sectors of the image.
pub(super) fn write(file: &Arc<File>, plan: &Plan, guids: &Guids) -> Result<(), GptError> {
    let image = Extent {
        start: 0,
        bytes: plan.total(),
    };
    let mut device = Window::new(file.clone(), image);
    let sectors = plan.total() / SECTOR;
    // the record of the MBR holds 32 bits; larger disks say "all of it" (UEFI 2.10, 5.2.3)
    let mbr = ProtectiveMBR::with_lb_size(u32::try_from(sectors - 1).unwrap_or(u32::MAX));
    mbr.overwrite_lba0(&mut device)?;

    let mut table = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(device, Some(guids.disk))?;
    table.update_partitions(entries(plan, guids))?;
    table.write()?;
    Ok(())
}

fn entries(plan: &Plan, guids: &Guids) -> BTreeMap<u32, gpt::partition::Partition> {
    let entry = |partition: Partition| {
        let extent = plan.of(partition)?;
        Some((
            partition.number(),
            gpt::partition::Partition {
                part_type_guid: Type {
                    guid: partition.type_guid(),
                    os: OperatingSystem::None,
                },
                part_guid: guids.of(partition)?,
                first_lba: extent.start / SECTOR,
                last_lba: extent.end() / SECTOR - 1,
                flags: 0,
                name: partition.name().to_owned(),
            },
        ))
    };
    Partition::IN_IMAGE.into_iter().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use image_layout::Digest;

    use super::*;
    use crate::image::testing::run;

    #[test]
    fn sgdisk_finds_nothing_wrong_with_the_table() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        let plan = Plan::new(1 << 20, 3 << 20);
        let guids = Guids::derive(&Digest::sha256_of(b"table"));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        file.set_len(plan.total()).unwrap();
        write(&Arc::new(file), &plan, &guids).unwrap();

        let said = run("sgdisk", ["-v".as_ref(), path.as_os_str()], "gdisk");
        assert!(said.contains("No problems found"), "{said}");
        let said = run("sgdisk", ["-i3".as_ref(), path.as_os_str()], "gdisk");
        let guid = guids.haul.to_string().to_uppercase();
        assert!(said.contains(&guid), "{guid} is not in\n{said}");
        assert!(said.contains("Partition name: 'HAUL'"), "{said}");
        assert!(
            said.contains("4841554C-B007-4E5A-9D1C-2F6A8C3E7B10"),
            "{said}"
        );
    }
}
