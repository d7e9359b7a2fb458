//! Why a haul can't be served.

use std::path::PathBuf;

use image_layout::catalog::{self, CatalogError};

/// Why a directory can't be served.
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
    pub(in crate::registry) fn help(&self) -> &'static str {
        match self {
            LayoutError::Open { .. } | LayoutError::Read { .. } => {
                "name a directory that this user can read"
            }
            LayoutError::NoLayout { .. } => {
                "unpack a haul with `builder haul extract HAUL DIR`, or name Hauler's store directory"
            }
            LayoutError::CatalogFormat { .. } => "use the agent that came with that builder",
            LayoutError::CatalogJson { .. } | LayoutError::TooLarge { .. } => {
                "unpack the haul anew with `builder haul extract HAUL DIR`"
            }
            LayoutError::Contents { .. } => {
                "get the haul anew and check it with `builder haul info HAUL`"
            }
        }
    }
}
