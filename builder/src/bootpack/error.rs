//! Why a boot pack can't be used.

use std::io;
use std::path::PathBuf;

use image_layout::Arch;

use super::manifest::FORMAT;

/// A boot pack was not found, or is not what it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootPackError {
    /// No pack for this architecture in any of the places.
    #[error("found no boot pack for {arch}; looked at {}", list(.looked))]
    NotFound {
        /// The architecture asked for.
        arch: Arch,
        /// Files that were looked for.
        looked: Vec<PathBuf>,
    },
    /// The file can't be opened.
    #[error("opening boot pack {}", .path.display())]
    Open {
        /// The pack.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive ends early or its compression is damaged.
    #[error("boot pack {} is truncated or damaged", .path.display())]
    Damaged {
        /// The pack.
        path: PathBuf,
        /// What the reader said.
        source: io::Error,
    },
    /// Not an archive that begins with `bootpack.json`.
    #[error("{} is no boot pack: {why}", .path.display())]
    NotAPack {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        why: String,
    },
    /// Written by another version.
    #[error(
        "boot pack {} has format {found}, this builder reads format {FORMAT}",
        .path.display()
    )]
    Format {
        /// The pack.
        path: PathBuf,
        /// The number it carries.
        found: u32,
    },
    /// The pack in the place of one architecture is for the other.
    #[error("boot pack {} is for {found}, not for {wanted}", .path.display())]
    WrongArch {
        /// The pack.
        path: PathBuf,
        /// What it is for.
        found: Arch,
        /// What its place or name says.
        wanted: Arch,
    },
    /// A file is not what the manifest says.
    #[error("{file} in boot pack {} {why}", .path.display())]
    Altered {
        /// The pack.
        path: PathBuf,
        /// The file inside.
        file: String,
        /// What is wrong with it, as the end of the sentence.
        why: &'static str,
    },
    /// A name that firmware can't have in the initramfs.
    #[error("device firmware can't be named {name:?}")]
    FirmwareName {
        /// The name.
        name: String,
    },
    /// A file too large for an initramfs.
    #[error("{name} is too large for an initramfs: {size} bytes")]
    TooLarge {
        /// The file.
        name: String,
        /// Its size in bytes.
        size: u64,
    },
    /// Compression failed.
    #[error("compressing the initramfs")]
    Compress {
        /// Why.
        source: io::Error,
    },
}

impl BootPackError {
    /// What a person can do about it, one line.
    pub fn help(&self) -> String {
        match self {
            BootPackError::NotFound { arch, .. } => {
                format!("run `make`, or name one: --boot-pack {arch}.bootpack")
            }
            BootPackError::Open { .. } => "check the path and its permissions".to_owned(),
            BootPackError::Damaged { path, .. } | BootPackError::Altered { path, .. } => {
                format!("copy it anew, or delete {} and run `make`", path.display())
            }
            BootPackError::NotAPack { .. } | BootPackError::WrongArch { .. } => {
                "give a file that `builder bootpack` made for this architecture".to_owned()
            }
            BootPackError::Format { .. } => {
                "use the boot packs that came with this builder, or run `make`".to_owned()
            }
            BootPackError::FirmwareName { .. } => {
                "name it by a path below the firmware directory, without `..`".to_owned()
            }
            BootPackError::TooLarge { .. } => "leave it out of --firmware".to_owned(),
            BootPackError::Compress { .. } => "free some memory and try again".to_owned(),
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    shown.join(", ")
}
