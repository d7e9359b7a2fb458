//! What can go wrong before QEMU runs.

use std::io;
use std::path::PathBuf;

use image_layout::Arch;

/// Why an image can't be booted here.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// Reading the image failed.
    #[error("reading {}", path.display())]
    Read {
        /// The image.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has no partition table that can be read.
    #[error("{} has no partition table of an image: {source}", path.display())]
    NoTable {
        /// The image.
        path: PathBuf,
        /// Why.
        source: gpt::GptError,
    },
    /// A partition is missing.
    #[error("{} has no partition {name}", path.display())]
    NoPartition {
        /// The image.
        path: PathBuf,
        /// Name of the partition.
        name: &'static str,
    },
    /// A file on the ESP is missing or malformed.
    #[error("{}: {file} on its ESP: {why}", path.display())]
    BootFile {
        /// The image.
        path: PathBuf,
        /// Path on the ESP.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The image doesn't boot this architecture.
    #[error("{} does not boot {wanted}; it boots {}", path.display(), list(has))]
    WrongArch {
        /// The image.
        path: PathBuf,
        /// What was asked for.
        wanted: Arch,
        /// What it boots.
        has: Vec<Arch>,
    },
    /// The emulator isn't installed.
    #[error("{program} is not installed")]
    NoProgram {
        /// Its name.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// No UEFI firmware for virtual machines was found.
    #[error("no UEFI firmware for {arch} machines is installed")]
    NoFirmware {
        /// For which architecture.
        arch: Arch,
        /// The package that has it.
        package: &'static str,
    },
    /// A process couldn't be started or waited for.
    #[error("running {program}")]
    Run {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// QEMU ended with an error; it said why on its standard error.
    #[error("{program} ended with {status}")]
    Ended {
        /// Its name.
        program: String,
        /// How.
        status: std::process::ExitStatus,
    },
}

impl QemuError {
    /// What a person can do about it, where there is something.
    pub fn help(&self) -> Option<String> {
        match self {
            QemuError::NoProgram { package, .. } | QemuError::NoFirmware { package, .. } => Some(
                format!("install it, on Debian and Ubuntu: sudo apt-get install {package}"),
            ),
            QemuError::WrongArch { has, .. } => has.first().map(|arch| format!("--arch {arch}")),
            QemuError::NoTable { .. } | QemuError::NoPartition { .. } => {
                Some("give an image that builder wrote, or a drive that one was written to".into())
            }
            _ => None,
        }
    }
}

fn list(arches: &[Arch]) -> String {
    match arches {
        [] => "nothing".to_owned(),
        some => some
            .iter()
            .map(|a| a.name())
            .collect::<Vec<_>>()
            .join(" and "),
    }
}
