//! Partition tables (GPT), by the `gpt` crate: what is in one, and STATE added to the stick's.
//!
//! How the table of the stick is written, so that power may fail at any time:
//!
//! - STATE's file system is made first, the table is written last. Until then the stick is as it
//!   was, and the next boot begins anew.
//! - The crate writes into memory. From there the backup table goes to the end of the stick first,
//!   and is on the flash before the primary one is touched: a primary table torn in the middle
//!   has a whole copy that firmware falls back to (UEFI 2.10, 5.3.2).
//! - The primary header and all entries go in one write of 17 KiB at an even address, which flash
//!   drives mostly take as a whole.
//! - What lies between the ends is not read and can't be written: neither HAULCFG, ESP nor HAUL.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use gpt::disk::LogicalBlockSize;
use gpt::partition_types::{OperatingSystem, Type};
use image_layout::partitions::{ALIGNMENT, Partition};
use uuid::Uuid;

use super::ext4::Contents;
use super::signature::END;

/// The image is made for blocks of this size.
const SECTOR: u64 = 512;
/// Blocks of a backup table: 128 entries of 128 bytes and the header.
const BACKUP: u64 = 33;

/// The ends of a disk in memory.
#[derive(Debug)]
struct Edges {
    bytes: u64,
    position: u64,
    first: Vec<u8>,
    last: Vec<u8>,
}

impl Edges {
    fn read(disk: &File, bytes: u64) -> io::Result<Edges> {
        let read = |offset: u64| {
            let mut buffer = vec![0; END as usize];
            disk.read_exact_at(&mut buffer, offset)?;
            Ok::<_, io::Error>(buffer)
        };
        if bytes < 2 * END || !bytes.is_multiple_of(SECTOR) {
            return Err(io::Error::other("it has an impossible size"));
        }
        Ok(Edges {
            bytes,
            position: 0,
            first: read(0)?,
            last: read(bytes - END)?,
        })
    }

    /// The bytes from the position on to the end of their edge.
    fn here(&mut self) -> io::Result<&mut [u8]> {
        let (edge, start) = match self.position {
            position if position < END => (&mut self.first, position),
            position => match position.checked_sub(self.bytes - END) {
                Some(start) => (&mut self.last, start),
                None => return Err(io::Error::other("it is outside the partition table")),
            },
        };
        let start = usize::try_from(start).map_err(io::Error::other)?;
        Ok(edge.get_mut(start..).unwrap_or_default())
    }
}

impl Read for Edges {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&*self.here()?).read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Edges {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.here()?.write(buffer)?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Edges {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

/// Says of a disk that holds something how many partitions its GPT has, and tells the stick of a
/// haul. What can't be read as a GPT stays as it is.
pub(super) fn refine(path: &Path, block: u64, mut held: Vec<String>) -> Contents {
    let block = match block {
        4096 => LogicalBlockSize::Lb4096,
        _ => LogicalBlockSize::Lb512,
    };
    let table = File::open(path).ok().and_then(|file| {
        gpt::GptConfig::new()
            .logical_block_size(block)
            .open_from_device(file)
            .ok()
    });
    let Some(table) = table else {
        return Contents::Foreign(held);
    };
    let used = || table.partitions().values().filter(|entry| entry.is_used());
    if used().any(|entry| entry.part_type_guid.guid == Partition::Haul.type_guid()) {
        return Contents::Haul;
    }
    for what in held.iter_mut().filter(|what| what.as_str() == "a GPT") {
        *what = match used().count() {
            1 => "a GPT with 1 partition".to_owned(),
            n => format!("a GPT with {n} partitions"),
        };
    }
    held.retain(|what| what != "a backup GPT" || table.primary_header().is_err());
    Contents::Foreign(held)
}

/// Why STATE can't be on the stick.
#[derive(Debug, thiserror::Error)]
pub(in crate::node) enum TableError {
    /// The device.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The table.
    #[error("its partition table: {0}")]
    Gpt(#[from] gpt::GptError),
    /// Not the table of an image.
    #[error("its partition table is not as Haulboot writes it: {0}")]
    Odd(&'static str),
    /// Not enough space behind HAUL; the bytes there are.
    #[error("only {0} bytes are free")]
    NoRoom(u64),
}

/// STATE in the table, or where it will be. In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Number in the table.
    pub(super) number: u32,
    /// First byte on the stick.
    pub(super) start: u64,
    /// Size.
    pub(super) bytes: u64,
    /// Whether the table has it already.
    pub(super) is_in_table: bool,
}

/// Looks for STATE, or for the space behind the last partition. `bytes` is the size of the stick.
pub(super) fn find(disk: &File, bytes: u64, least: u64) -> Result<Place, TableError> {
    let table = open(Edges::read(disk, bytes)?)?;
    let state = Partition::State.type_guid();
    let found = table.partitions().iter();
    if let Some((number, entry)) = found
        .filter(|(_, entry)| entry.is_used())
        .find(|(_, entry)| entry.part_type_guid.guid == state)
    {
        let blocks = (entry.last_lba + 1).saturating_sub(entry.first_lba);
        return Ok(Place {
            number: *number,
            start: entry.first_lba.saturating_mul(SECTOR),
            bytes: blocks.saturating_mul(SECTOR),
            is_in_table: true,
        });
    }
    let used = used(&table);
    // the crate writes entries one behind the other: a gap would give the others new numbers
    if !used.keys().copied().eq(1..=used.len() as u32) {
        return Err(TableError::Odd("a partition in the middle was removed"));
    }
    let last = used.values().map(|entry| entry.last_lba).max().unwrap_or(0);
    let start = ((last + 1) * SECTOR).next_multiple_of(ALIGNMENT);
    let end = bytes.saturating_sub(BACKUP * SECTOR) / ALIGNMENT * ALIGNMENT;
    let room = end.saturating_sub(start);
    if room < least {
        return Err(TableError::NoRoom(room));
    }
    Ok(Place {
        number: used.len() as u32 + 1,
        start,
        bytes: room,
        is_in_table: false,
    })
}

/// Writes STATE into the table; see the module for the order. `guid` becomes the partition's.
pub(super) fn add(disk: &File, bytes: u64, place: Place, guid: Uuid) -> Result<(), TableError> {
    let mut table = open(Edges::read(disk, bytes)?)?;
    let mut entries = used(&table);
    let first_lba = place.start / SECTOR;
    entries.insert(
        place.number,
        gpt::partition::Partition {
            part_type_guid: Type {
                guid: Partition::State.type_guid(),
                os: OperatingSystem::None,
            },
            part_guid: guid,
            first_lba,
            last_lba: first_lba + place.bytes / SECTOR - 1,
            flags: 0,
            name: Partition::State.name().to_owned(),
        },
    );
    table.update_partitions(entries)?;
    let edges = table.write()?;
    let write = |bytes: Option<&[u8]>, at: u64| match bytes {
        Some(bytes) => disk.write_all_at(bytes, at).and_then(|()| disk.sync_all()),
        None => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    };
    let backup = BACKUP * SECTOR;
    let from = (END - backup) as usize;
    write(edges.last.get(from..), bytes - backup)?;
    // blocks 1 to 33; the protective MBR in front of them stays
    let primary = SECTOR as usize..((BACKUP + 1) * SECTOR) as usize;
    write(edges.first.get(primary), SECTOR)?;
    Ok(())
}

fn open(edges: Edges) -> Result<gpt::GptDisk<Edges>, TableError> {
    let table = gpt::GptConfig::new()
        .writable(true)
        .open_from_device(edges)?;
    let header = table
        .primary_header()
        .map_err(|_| TableError::Odd("only its backup is whole"))?;
    if header.part_size != 128 || header.num_parts != 128 || header.part_start != 2 {
        return Err(TableError::Odd("its entries have another shape"));
    }
    Ok(table)
}

fn used<D: gpt::DiskDevice>(table: &gpt::GptDisk<D>) -> BTreeMap<u32, gpt::partition::Partition> {
    let entries = table.partitions().iter();
    entries
        .filter(|(_, entry)| entry.is_used())
        .map(|(number, entry)| (*number, entry.clone()))
        .collect()
}
