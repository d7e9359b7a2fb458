//! Why a haul can't be served.

use std::borrow::Cow;
use std::path::PathBuf;

use image_layout::catalog::{self, CatalogError};

use super::archive::ArchiveError;

/// Why a directory or an archive can't be served.
#[derive(Debug, thiserror::Error)]
pub(in crate::registry) enum LayoutError {
    /// The directory can't be opened.
    #[error("opening {}: {error}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file that is no archive which can be served.
    #[error("serving {}: {error}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        error: Box<ArchiveError>,
    },
    /// Neither catalog nor index.
    #[error("{} has no OCI layout: it lacks index.json", path.display())]
    NoLayout {
        /// The directory.
        path: PathBuf,
    },
    /// One of the layout's own files can't be read.
    #[error("reading {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// One of the layout's own files is larger than any that a haul needs.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The largest allowed size.
        limit: u64,
    },
    /// `catalog.json` is no catalog.
    #[error("{} is damaged: {error}", path.display())]
    CatalogJson {
        /// The file.
        path: PathBuf,
        /// Why.
        error: serde_json::Error,
    },
    /// `catalog.json` has more than a haul can.
    #[error("{} has {artifacts} artifacts and {blobs} blobs; {} and {} are allowed", path.display(),
        image_layout::limits::ARTIFACTS, image_layout::limits::BLOBS)]
    CatalogSize {
        /// The file.
        path: PathBuf,
        /// How many artifacts it has.
        artifacts: usize,
        /// How many blobs.
        blobs: usize,
    },
    /// `catalog.json` is of a later builder.
    #[error("{} has format {format}; this agent reads up to {supported}", path.display(),
        supported = catalog::FORMAT)]
    CatalogFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The layout's contents contradict its index.
    #[error("the haul in {} is damaged: {error}", path.display())]
    Contents {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        error: Box<CatalogError>,
    },
}

impl LayoutError {
    /// What a person can do about it.
    pub(in crate::registry) fn help(&self) -> Cow<'static, str> {
        let what = match self {
            LayoutError::Open { .. } | LayoutError::Read { .. } => {
                "name a directory or tar archive that this user can read"
            }
            LayoutError::Archive { path, error } => match **error {
                ArchiveError::Compressed { with } => {
                    let path = path.display();
                    return format!(
                        "decompress it with `{with} {path}` and serve what that writes, or unpack \
                         it with `builder haul extract {path} DIR`"
                    )
                    .into();
                }
                ArchiveError::NoArchive => {
                    "name a haul: a .tar, a directory that `builder haul extract` wrote, or \
                     Hauler's store directory"
                }
                ArchiveError::NotAFile { .. } => "pack the haul anew, without links or --sparse",
                _ => "get the haul anew and check it with `builder haul info HAUL`",
            },
            LayoutError::NoLayout { .. } => {
                "unpack a haul with `builder haul extract HAUL DIR`, or name Hauler's store directory"
            }
            LayoutError::CatalogFormat { .. } => "use the agent that came with that builder",
            LayoutError::CatalogJson { .. }
            | LayoutError::CatalogSize { .. }
            | LayoutError::TooLarge { .. } => {
                "unpack the haul anew with `builder haul extract HAUL DIR`"
            }
            LayoutError::Contents { .. } => {
                "get the haul anew and check it with `builder haul info HAUL`"
            }
        };
        what.into()
    }
}
