//! Device firmware from directories and Debian packages.
//!
//! A directory is a tree as linux-firmware's, or has one in `lib/firmware` or
//! `usr/lib/firmware`; a package has it there. Contents go along as they are: the kernel reads
//! `.xz` and `.zst` itself (kernel: CONFIG_FW_LOADER_COMPRESS).

mod deb;
mod error;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use error::FirmwareError;

/// The largest firmware file in bytes. The largest of linux-firmware has some 30 MB.
const FILE_BYTES: u64 = 128 << 20;
/// The most that is taken together, in bytes: more than all of linux-firmware.
const TOTAL_BYTES: u64 = 2 << 30;

/// Where a file system has firmware; on a merged one both are one place.
const PLACES: [&str; 2] = ["usr/lib/firmware", "lib/firmware"];

/// Reads all firmware of the sources: name below the firmware directory, and contents. Of one
/// name in several sources the last counts. Links are followed as far as they stay inside.
///
/// # Errors
/// If a source can't be read, is too large, or has no firmware.
pub fn collect(sources: &[PathBuf]) -> Result<Collected, FirmwareError> {
    let mut firmware = Firmware::default();
    for source in sources {
        let before = firmware.taken;
        if source.is_dir() {
            tree::read(source, &mut firmware)?;
        } else {
            deb::read(source, &mut firmware)?;
        }
        if firmware.taken == before {
            return Err(FirmwareError::Empty {
                path: source.clone(),
            });
        }
    }
    let mut warnings = Vec::new();
    if let Some((link, count)) = firmware.outside {
        let others = match count {
            1 => String::new(),
            _ => format!(", and {} more", count - 1),
        };
        warnings.push(format!(
            "left out links that lead out of the firmware directory: {}{others}",
            link.display()
        ));
    }
    Ok(Collected {
        files: firmware.files,
        warnings,
    })
}

/// What sources of firmware have.
#[derive(Debug, Default)]
pub struct Collected {
    /// Names below the firmware directory, and contents.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What a person should know of.
    pub warnings: Vec<String>,
}

/// What was read so far.
#[derive(Default)]
struct Firmware {
    files: BTreeMap<String, Vec<u8>>,
    taken: u64,
    /// The first link that leads out of a directory, and how many there are.
    outside: Option<(PathBuf, u64)>,
}

impl Firmware {
    /// Makes room for a file of `size` bytes, or refuses.
    fn reserve(&mut self, source: &Path, name: &str, size: u64) -> Result<(), FirmwareError> {
        self.taken = self.taken.saturating_add(size.max(1));
        if size > FILE_BYTES || self.taken > TOTAL_BYTES {
            return Err(FirmwareError::TooLarge {
                path: source.to_owned(),
                name: name.to_owned(),
                size,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
