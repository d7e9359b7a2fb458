//! Why an image was not written.

use std::io;
use std::path::{Path, PathBuf};

use image_layout::Arch;
use image_layout::cluster::ClusterError;

use super::ext4::Ext4Error;
use super::fleet::FleetError;
use super::gpt::GptError;
use super::manifests::ManifestError;
use crate::bootpack::BootPackError;
use crate::credentials::CredentialsError;
use crate::device_firmware::FirmwareError;
use crate::haul::HaulError;
use crate::k3s::{K3sError, WriteError};
use crate::k3s_images::{ListError, MissingImages};
use crate::size::Size;

/// Why an image was not written. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No architecture was asked for.
    #[error("no architecture to boot was given")]
    NoArch,
    /// Standard output is a terminal.
    #[error("the image would go to the terminal")]
    Terminal,
    /// A kernel argument that the boot menu can't carry.
    #[error("{0:?} is no kernel argument: it is empty or has line breaks")]
    Argument(String),
    /// The place for the image is a directory, or not to be written to.
    #[error("{} can't be written: {why}", path.display())]
    Output {
        /// The place.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The place for the image is a device in use.
    #[error("{} is in use: {why}", path.display())]
    InUse {
        /// The device.
        path: PathBuf,
        /// By what.
        why: String,
    },
    /// The device is smaller than the image.
    #[error("{} has {has} bytes; the image needs {needs}", path.display())]
    DeviceTooSmall {
        /// The device.
        path: PathBuf,
        /// Its size.
        has: u64,
        /// The image's.
        needs: u64,
    },
    /// The disk is full, or would be.
    #[error("{} has {} free; {}", path.display(), Size(*free), match needs {
        Some(needs) => format!("the image and what it is made of need {}", Size(*needs)),
        None => "that is not enough".to_owned(),
    })]
    NoSpace {
        /// A directory on the disk.
        path: PathBuf,
        /// Bytes free on it.
        free: u64,
        /// Bytes needed, where that is known.
        needs: Option<u64>,
    },
    /// `cluster.yaml` could not be read.
    #[error("reading {}", path.display())]
    ReadConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `cluster.yaml` is wrong; printed as `FILE:LINE:COLUMN: what`.
    #[error("{}", located(path, error))]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ClusterError,
    },
    /// A k3s binary is none.
    #[error(transparent)]
    K3s(#[from] K3sError),
    /// What k3s's launcher unpacks could not be written.
    #[error(transparent)]
    K3sData(#[from] WriteError),
    /// The list of images that k3s needs can't be read.
    #[error(transparent)]
    K3sImages(#[from] ListError),
    /// No haul has images that k3s needs.
    #[error(transparent)]
    MissingImages(#[from] MissingImages),
    /// Two k3s binaries for one architecture.
    #[error("{} and {} are both k3s for {arch}", first.display(), second.display())]
    TwoK3s {
        /// Which architecture.
        arch: Arch,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A k3s binary for an architecture that the image does not boot.
    #[error("{} is k3s for {arch}, which the image does not boot", path.display())]
    UnwantedK3s {
        /// The file.
        path: PathBuf,
        /// Its architecture.
        arch: Arch,
    },
    /// The cluster can't start as `cluster.yaml` describes it.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// A manifest can't go onto the image.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The cluster's credentials can't be made, read or kept.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A file changed while it was read.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    /// No boot pack, or a broken one.
    #[error(transparent)]
    BootPack(#[from] BootPackError),
    /// Device firmware can't be read.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// A haul is broken.
    #[error(transparent)]
    Haul(Box<HaulError>),
    /// Reading or writing beside the image failed.
    #[error("{doing} {}", path.display())]
    Io {
        /// `writing`, `reading`, ...
        doing: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The finished image could not be copied to a drive or a stream.
    #[error("writing the image to {}", path.display())]
    Deliver {
        /// Where to.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The FAT file system of a partition could not be written.
    #[error("writing the partition {name}")]
    Fat {
        /// Name of the partition.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The partition HAUL could not be written.
    #[error("writing the partition HAUL")]
    Ext4(#[from] Ext4Error),
    /// The partition table could not be written.
    #[error(transparent)]
    Gpt(#[from] GptError),
}

impl From<HaulError> for ImageError {
    fn from(error: HaulError) -> ImageError {
        ImageError::Haul(Box::new(error))
    }
}

impl ImageError {
    /// Wraps an I/O error with what was being done.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
        let path = path.to_owned();
        move |source| ImageError::Io {
            doing,
            path,
            source,
        }
    }

    /// Whether the disk ran full, whoever noticed.
    pub(super) fn is_no_space(&self) -> bool {
        let mut error: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(current) = error {
            let full = |error: &io::Error| {
                matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
            };
            if current.downcast_ref::<io::Error>().is_some_and(full)
                || matches!(current.downcast_ref(), Some(Ext4Error::NoSpace))
            {
                return true;
            }
            error = current.source();
        }
        false
    }

    /// What a person can do about it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            ImageError::NoArch => "name one with --arch x86_64 or --arch arm64",
            ImageError::Terminal => {
                "write to a file with -o FILE, or give the output to another program: | ssh HOST 'cat > haulboot.img'"
            }
            ImageError::Argument(_) => "give one argument each time: --append quiet --append debug",
            ImageError::Output { .. } => "name a file or a drive with -o",
            ImageError::InUse { .. } => {
                "make sure that it is the drive you mean, then unmount what is on it: umount DEVICE"
            }
            ImageError::DeviceTooSmall { .. } => {
                "take a larger drive, or leave hauls or architectures out"
            }
            ImageError::NoSpace { .. } => {
                "free some space, or write to another disk with -o. With -o - or a drive, \
                 TMPDIR says where the image is put together"
            }
            ImageError::ReadConfig { .. } => "name the cluster's configuration with --config FILE",
            ImageError::Config { .. } => {
                "mend the file. Without --config the image gets a commented template to start from"
            }
            ImageError::TwoK3s { .. } => "give --k3s once for each architecture",
            ImageError::UnwantedK3s { arch, .. } => {
                return Some(format!(
                    "add --arch {arch}, or give k3s for another architecture"
                ));
            }
            ImageError::Changed(_) => "run again when nothing writes to it",
            ImageError::Deliver { .. } => {
                "make sure that whatever takes the image has room for it and reads to its end"
            }
            ImageError::Ext4(Ext4Error::NoTool(_)) => {
                "install it, on Debian and Ubuntu: sudo apt-get install e2fsprogs"
            }
            ImageError::Io { doing, .. } if doing.starts_with("making") => {
                "check that this user may write there, or choose another place with -o. With -o - \
                 or a drive, TMPDIR says where the image is put together"
            }
            ImageError::K3s(error) => return error.help(),
            ImageError::K3sImages(_) => {
                "take the file k3s-images.txt of the k3s release: one image a line"
            }
            ImageError::MissingImages(missing) => return Some(missing.help()),
            ImageError::Fleet(error) => error.help(),
            ImageError::Manifest(error) => error.help(),
            ImageError::Credentials(error) => return Some(error.help()),
            ImageError::BootPack(error) => return Some(error.help()),
            ImageError::Firmware(error) => error.help(),
            ImageError::Haul(error) => return Some(error.help()),
            _ => return None,
        };
        Some(help.to_owned())
    }
}

/// A compiler's way to name a place: editors and terminals make a link of it.
fn located(path: &Path, error: &ClusterError) -> String {
    let (place, message) = match error {
        ClusterError::Syntax { place, message } => (place, message.clone()),
        ClusterError::Value {
            place,
            path,
            message,
        } => (place, format!("{path}: {message}")),
        other => (&None, other.to_string()),
    };
    match place {
        Some(place) => format!(
            "{}:{}:{}: {message}",
            path.display(),
            place.line,
            place.column
        ),
        None => format!("{}: {message}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_recognised_wherever_it_was_noticed() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert!(ImageError::io("writing", Path::new("x"))(full()).is_no_space());
        assert!(ImageError::Ext4(Ext4Error::NoSpace).is_no_space());
        let fat = ImageError::Fat {
            name: "ESP",
            source: full(),
        };
        assert!(fat.is_no_space());
        let other = io::Error::from(io::ErrorKind::NotFound);
        assert!(!ImageError::io("writing", Path::new("x"))(other).is_no_space());
    }

    #[test]
    fn a_wrong_cluster_yaml_is_named_with_file_line_and_column() {
        let error = image_layout::cluster::parse(
            b"apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\nregistri: {}\n",
        )
        .unwrap_err();
        let path = PathBuf::from("my/cluster.yaml");
        let said = ImageError::Config { path, error }.to_string();
        assert!(
            said.starts_with("my/cluster.yaml:4:1: unknown field"),
            "{said}"
        );
    }
}
