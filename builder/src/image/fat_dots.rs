//! Mends the entries `.` and `..` of directories that `fatfs` 0.3 made.
//!
//! It gives them long names, and lets `..` point to the root directory by its cluster. Both are
//! against Microsoft's FAT specification (section 6.5: `.` and `..` are the first two entries of
//! a directory; the cluster of `..` is 0 if the parent is the root), and fsck.fat objects.

use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use super::window::Window;

/// Bytes of a directory entry.
const ENTRY: usize = 32;
/// The four entries that fatfs begins a directory with.
const START: usize = 4 * ENTRY;
/// First byte of an entry that is free.
const FREE: u8 = 0xe5;
/// Attributes of a part of a long name (offset 11).
const LONG_NAME: u8 = 0x0f;

/// Mends a FAT32 file system that holds `directories` directories and nothing else yet: every
/// cluster in use belongs to a directory, so that none can be mistaken for one.
pub(super) fn mend(window: &mut Window, directories: usize) -> io::Result<()> {
    let mut boot = [0; 512];
    window.seek(SeekFrom::Start(0))?;
    window.read_exact(&mut boot)?;
    let sector = u64::from(u16::from_le_bytes([boot[11], boot[12]]));
    let cluster = u64::from(boot[13]) * sector;
    let reserved = u64::from(u16::from_le_bytes([boot[14], boot[15]]));
    let tables = u64::from(boot[16]);
    let table = u64::from(u32::from_le_bytes([boot[36], boot[37], boot[38], boot[39]]));
    let root = [boot[44], boot[45], boot[46], boot[47]];
    let data = (reserved + tables * table) * sector;

    // directories lie one after the other behind the root; a large one takes further clusters
    let mut mended = 0;
    for index in 0..2 * directories as u64 + 8 {
        let place = data + index * cluster;
        let mut start = [0; START];
        window.seek(SeekFrom::Start(place))?;
        window.read_exact(&mut start)?;
        if let Some(start) = without_long_names(&start, root) {
            window.seek(SeekFrom::Start(place))?;
            window.write_all(&start)?;
            mended += 1;
        }
    }
    if mended != directories {
        return Err(io::Error::other(format!(
            "fatfs made {directories} directories, of which {mended} were found"
        )));
    }
    Ok(())
}

/// The start of a directory as it should be; none if this is no start of a directory.
fn without_long_names(start: &[u8; START], root: [u8; 4]) -> Option<[u8; START]> {
    let entry = |index: usize| start.get(index * ENTRY..(index + 1) * ENTRY);
    let (long_dot, dot, long_dots, dots) = (entry(0)?, entry(1)?, entry(2)?, entry(3)?);
    let expected = long_dot[11] == LONG_NAME
        && dot.starts_with(b".          ")
        && long_dots[11] == LONG_NAME
        && dots.starts_with(b"..         ");
    if !expected {
        return None;
    }
    let mut mended = [0; START];
    mended[..ENTRY].copy_from_slice(dot);
    mended[ENTRY..2 * ENTRY].copy_from_slice(dots);
    mended[2 * ENTRY] = FREE;
    mended[3 * ENTRY] = FREE;
    // the cluster's upper half is at 20, its lower at 26
    let parent = [dots[26], dots[27], dots[20], dots[21]];
    if parent == root {
        for offset in [20, 21, 26, 27] {
            mended[ENTRY + offset] = 0;
        }
    }
    Some(mended)
}
