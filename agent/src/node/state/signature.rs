//! Whether a disk holds something: what its first and last MiB say.
//!
//! - Every file system, volume manager, RAID and partition table that Linux or the usual other
//!   systems make leaves a magic number there; the table below names them.
//! - What has no magic number known here and is not all zero counts as held too. A disk is empty
//!   only if both ends are zero from the first to the last byte.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Bytes looked at, at either end.
pub(super) const END: u64 = 1 << 20;

/// From which end an offset counts.
#[derive(Clone, Copy, Debug)]
enum From {
    Start,
    End,
}

/// Offset in bytes, what stands there, whose it is.
type Magic = (From, u64, &'static [u8], &'static str);

/// Sources: util-linux's libblkid, and the headers of the formats themselves.
const MAGIC: &[Magic] = &[
    (From::Start, 0, b"XFSB", "an XFS file system"),
    (From::Start, 0x10040, b"_BHRfS_M", "a btrfs file system"),
    (From::Start, 3, b"NTFS    ", "an NTFS file system"),
    (From::Start, 3, b"EXFAT   ", "an exFAT file system"),
    (From::Start, 3, b"-FVE-FS-", "a BitLocker volume"),
    (From::Start, 82, b"FAT32   ", "a FAT file system"),
    (From::Start, 54, b"FAT16   ", "a FAT file system"),
    (From::Start, 54, b"FAT12   ", "a FAT file system"),
    (
        From::Start,
        1024,
        b"\x10\x20\xf5\xf2",
        "an F2FS file system",
    ),
    (From::Start, 1024, b"H+\x00", "an HFS+ file system"),
    (From::Start, 32, b"NXSB", "an APFS container"),
    (From::Start, 0x10034, b"ReIsEr", "a ReiserFS file system"),
    (From::Start, 0x8000, b"JFS1", "a JFS file system"),
    (From::Start, 0x8001, b"CD001", "an ISO 9660 file system"),
    (From::Start, 0, b"hsqs", "a squashfs file system"),
    (
        From::Start,
        1024,
        b"\xe2\xe1\xf5\xe0",
        "an EROFS file system",
    ),
    (From::Start, 0, b"LUKS\xba\xbe", "a LUKS volume"),
    (From::Start, 0, b"LABELONE", "an LVM2 physical volume"),
    (From::Start, 512, b"LABELONE", "an LVM2 physical volume"),
    (From::Start, 1024, b"LABELONE", "an LVM2 physical volume"),
    (From::Start, 1536, b"LABELONE", "an LVM2 physical volume"),
    (From::Start, 4086, b"SWAPSPACE2", "swap space"),
    (From::Start, 16374, b"SWAPSPACE2", "swap space"),
    (From::Start, 65526, b"SWAPSPACE2", "swap space"),
    (
        From::Start,
        0,
        b"\xfc\x4e\x2b\xa9",
        "a member of an md RAID",
    ),
    (
        From::Start,
        4096,
        b"\xfc\x4e\x2b\xa9",
        "a member of an md RAID",
    ),
    (
        From::Start,
        4120,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
        "a bcache device",
    ),
    (From::Start, 0, b"bluestore block device", "a Ceph OSD"),
    (From::Start, 512, b"EFI PART", "a GPT"),
    (From::Start, 4096, b"EFI PART", "a GPT"),
    (From::End, 512, b"EFI PART", "a backup GPT"),
    (From::End, 4096, b"EFI PART", "a backup GPT"),
    (
        From::End,
        1024,
        b"Intel Raid ISM Cfg Sig. ",
        "a member of an Intel RAID",
    ),
];

/// A ring of uberblocks lies in each of ZFS's four labels of 256 KiB; two are at either end, and
/// each block begins with this number in the byte order of its writer.
const ZFS: [[u8; 8]; 2] = [0x00ba_b10c_u64.to_le_bytes(), 0x00ba_b10c_u64.to_be_bytes()];
const ZFS_LABEL: u64 = 256 << 10;
const MD: [u8; 4] = 0xa92b_4efc_u32.to_le_bytes();

/// The first and last MiB of a device.
#[derive(Debug)]
pub(super) struct Ends {
    bytes: u64,
    first: Vec<u8>,
    last: Vec<u8>,
}

impl Ends {
    /// Reads them. `bytes` is the size of the device, which is at least twice [`END`].
    pub(super) fn read(path: &Path, bytes: u64) -> io::Result<Ends> {
        let file = File::open(path)?;
        let read = |offset: u64| {
            let mut buffer = vec![0; END as usize];
            file.read_exact_at(&mut buffer, offset)?;
            Ok::<_, io::Error>(buffer)
        };
        Ok(Ends {
            bytes,
            first: read(0)?,
            last: read(bytes.saturating_sub(END))?,
        })
    }

    /// `length` bytes from `offset`, if they were read.
    fn at_start(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let offset = usize::try_from(offset).ok()?;
        self.first.get(offset..offset.checked_add(length)?)
    }

    /// `length` bytes from the place `before_end` bytes before the end.
    pub(super) fn at_end(&self, before_end: u64, length: usize) -> Option<&[u8]> {
        let offset = usize::try_from(END.checked_sub(before_end)?).ok()?;
        self.last.get(offset..offset.checked_add(length)?)
    }

    /// The superblock of ext2, ext3 or ext4, if there is one (Linux:
    /// Documentation/filesystems/ext4/super.rst).
    pub(super) fn ext(&self) -> Option<Ext> {
        let superblock = self.at_start(1024, 1024)?;
        if superblock.get(0x38..0x3a)? != [0x53, 0xef] {
            return None;
        }
        let label = superblock.get(0x78..0x88)?;
        let label = label.split(|&byte| byte == 0).next().unwrap_or_default();
        Some(Ext {
            uuid: uuid::Uuid::from_slice(superblock.get(0x68..0x78)?).ok()?,
            label: image_layout::text::printable(&String::from_utf8_lossy(label)),
        })
    }

    /// What is on the device, in words; empty if it is empty.
    pub(super) fn held(&self) -> Vec<String> {
        let mut held = Vec::new();
        let mut add = |what: String| {
            if !held.contains(&what) {
                held.push(what);
            }
        };
        if let Some(Ext { label, .. }) = self.ext() {
            add(match label.as_str() {
                "" => "an ext2, ext3 or ext4 file system".to_owned(),
                label => format!("an ext2, ext3 or ext4 file system labelled {label}"),
            });
        }
        for (from, offset, magic, what) in MAGIC {
            let found = match from {
                From::Start => self.at_start(*offset, magic.len()),
                From::End => self.at_end(*offset, magic.len()),
            };
            if found == Some(magic) {
                add((*what).to_owned());
            }
        }
        if self.has_zfs() {
            add("a member of a ZFS pool".to_owned());
        }
        if self.has_md_at_end() {
            add("a member of an md RAID".to_owned());
        }
        if let Some(partitions) = self.mbr() {
            add(match partitions {
                1 => "an MBR with 1 partition".to_owned(),
                n => format!("an MBR with {n} partitions"),
            });
        }
        if held.is_empty() && !self.is_zero() {
            held.push("data of a kind unknown to Haulboot".to_owned());
        }
        held
    }

    fn is_zero(&self) -> bool {
        self.first.iter().chain(&self.last).all(|&byte| byte == 0)
    }

    fn has_zfs(&self) -> bool {
        let in_label = |label: u64| label + (128 << 10)..label + ZFS_LABEL;
        let is_uberblock =
            |found: Option<&[u8]>| found.is_some_and(|found| ZFS.iter().any(|m| m == found));
        let starts = [0, ZFS_LABEL].into_iter().flat_map(in_label).step_by(1024);
        let mut starts = starts.map(|offset| self.at_start(offset, 8));
        // labels at the end begin at multiples of their size
        let slack = self.bytes % ZFS_LABEL;
        let ends = [2 * ZFS_LABEL, ZFS_LABEL].into_iter();
        let ends = ends.flat_map(|label| (128_u64 << 10..ZFS_LABEL).map(move |at| (label, at)));
        let mut ends = ends
            .step_by(1024)
            .map(|(label, at)| self.at_end((label + slack).checked_sub(at)?, 8));
        starts.any(is_uberblock) || ends.any(is_uberblock)
    }

    /// Versions 0.9 and 1.0 lie at the end (Linux: include/uapi/linux/raid/md_p.h).
    fn has_md_at_end(&self) -> bool {
        let v0_9 = (self.bytes % (64 << 10)) + (64 << 10);
        let v1_0 = (self.bytes % (4 << 10)) + (8 << 10);
        // 0.9 is in the byte order of its writer
        let mut swapped = MD;
        swapped.reverse();
        [v0_9, v1_0].iter().any(|&before_end| {
            let found = self.at_end(before_end, 4);
            found == Some(&MD) || found == Some(&swapped)
        })
    }

    /// Partitions of a master boot record that is neither a FAT's boot sector nor the one that
    /// guards a GPT. Without any it may still be a boot sector.
    fn mbr(&self) -> Option<usize> {
        let sector = self.at_start(0, 512)?;
        let fat = self.at_start(0, 3)?;
        let is_fat = matches!(fat, [0xeb, _, 0x90] | [0xe9, ..]);
        if sector.get(510..)? != [0x55, 0xaa] || is_fat {
            return None;
        }
        let entries = sector.get(446..510)?.chunks(16);
        let kinds: Vec<u8> = entries.filter_map(|entry| entry.get(4).copied()).collect();
        let used = kinds.iter().filter(|&&kind| kind != 0).count();
        (!kinds.contains(&0xee)).then_some(used)
    }
}

/// What an ext superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ext {
    /// UUID of the file system.
    pub(super) uuid: uuid::Uuid,
    /// Its label.
    pub(super) label: String,
}
