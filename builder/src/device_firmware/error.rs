//! Why device firmware can't be taken.

use std::io;
use std::path::PathBuf;

/// A source of firmware can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FirmwareError {
    /// A file or directory can't be read.
    #[error("reading firmware from {}", .path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Neither a directory nor a package.
    #[error("{} is no Debian package: {why}", .path.display())]
    NotAPackage {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        why: String,
    },
    /// The package ends early or is damaged.
    #[error("package {} is truncated or damaged", .path.display())]
    Damaged {
        /// The package.
        path: PathBuf,
        /// What the reader said.
        source: io::Error,
    },
    /// A name that leaves the firmware directory, or can't be a name there.
    #[error("{} has a firmware file named {name:?}, which is no plain path", .path.display())]
    Name {
        /// The source.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// One file, or all together, are larger than firmware is.
    #[error("{name} in {} is too large: {size} bytes", .path.display())]
    TooLarge {
        /// The source.
        path: PathBuf,
        /// The file.
        name: String,
        /// Its size in bytes.
        size: u64,
    },
    /// Directories nested deeper than firmware's, or a circle of links.
    #[error("{} is nested too deeply", .path.display())]
    TooDeep {
        /// The directory.
        path: PathBuf,
    },
    /// Nothing in it.
    #[error("{} has no firmware", .path.display())]
    Empty {
        /// The source.
        path: PathBuf,
    },
}

impl FirmwareError {
    /// What a person can do about it, one line.
    pub fn help(&self) -> &'static str {
        match self {
            FirmwareError::Read { .. } => "check the path and its permissions",
            FirmwareError::NotAPackage { .. } => {
                "give a .deb, or a directory like linux-firmware's or /lib/firmware"
            }
            FirmwareError::Damaged { .. } => "fetch the package anew",
            FirmwareError::Name { .. } => "the package is not to be trusted; fetch it anew",
            FirmwareError::TooLarge { .. } | FirmwareError::TooDeep { .. } => {
                "give only the part of the tree that the machine needs"
            }
            FirmwareError::Empty { .. } => {
                "a package has firmware in lib/firmware, a directory there or directly"
            }
        }
    }
}
