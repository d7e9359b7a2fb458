//! What can be wrong with a haul, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use image_layout::catalog::CatalogError;
use image_layout::text::printable;
use image_layout::{Digest, limits};

/// A place in a haul: which file or directory, and which entry of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The haul: a file, the first of its chunks, or a directory.
    pub haul: PathBuf,
    /// The entry that was being read, as its archive names it.
    pub entry: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.haul.to_string_lossy()))?;
        match &self.entry {
            Some(entry) => write!(f, ", entry {}", printable(entry)),
            None => Ok(()),
        }
    }
}

/// Why a haul can't be read.
#[derive(Debug, thiserror::Error)]
pub enum HaulError {
    /// There is no such file or directory, or it may not be read.
    #[error("opening haul {}: {source}", path.display())]
    Open {
        /// What was to be opened.
        path: PathBuf,
        /// Why it wasn't.
        source: io::Error,
    },
    /// The disk or pipe with the haul failed.
    #[error("reading haul {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file without a byte.
    #[error("haul {} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Neither a tar archive nor anything that could hold one.
    #[error("{} is no haul: it is {what}", path.display())]
    NotAnArchive {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        what: &'static str,
    },
    /// Packed by a program whose format is not read.
    #[error("haul {} is compressed with {program}, which is not read", path.display())]
    Compression {
        /// The file.
        path: PathBuf,
        /// The program that unpacks it.
        program: &'static str,
    },
    /// Unpacking needs more memory than is given.
    #[error("haul {} was compressed with a window of more than 128 MiB", path.display())]
    Window {
        /// The file.
        path: PathBuf,
    },
    /// The file ends too early.
    #[error("haul {0} is truncated: it ends in the middle")]
    Truncated(Place),
    /// The compressed stream is damaged.
    #[error("haul {place} is damaged: {source}")]
    Damaged {
        /// Where.
        place: Place,
        /// What the decoder says.
        source: io::Error,
    },
    /// The archive's structure is damaged.
    #[error("haul {place} is damaged: {what} at byte {offset} of the unpacked archive")]
    Structure {
        /// Where.
        place: Place,
        /// What is wrong.
        what: &'static str,
        /// Bytes from the start of the unpacked archive.
        offset: u64,
    },
    /// One chunk of a haul is not there.
    #[error("haul {name} lacks its chunk {}", missing.display())]
    ChunkMissing {
        /// Name of the haul that the chunks make.
        name: String,
        /// The file that should be there.
        missing: PathBuf,
    },
    /// An entry would lie outside of the haul.
    #[error("haul {0} points out of the haul")]
    Escapes(Place),
    /// An entry is neither file nor directory.
    #[error("haul {place} is {what}; hauls have files and directories only")]
    NotAFile {
        /// Where.
        place: Place,
        /// What it is.
        what: &'static str,
    },
    /// An entry that is read into memory is too large.
    #[error("haul {place} has {size} bytes; at most {max} are read")]
    TooLarge {
        /// Where.
        place: Place,
        /// Its bytes.
        size: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// More blobs or entries than any haul has.
    #[error("haul {} has more than {max} blobs", path.display(), max = limits::BLOBS)]
    TooMany {
        /// The haul.
        path: PathBuf,
    },
    /// A blob is not what its name says.
    #[error("haul {place} is damaged: its digest is {actual}")]
    WrongDigest {
        /// Where.
        place: Place,
        /// The digest of what is there.
        actual: Digest,
    },
    /// There is no `index.json`.
    #[error("{} is no haul: it has no index.json", path.display())]
    NoIndex {
        /// The haul.
        path: PathBuf,
        /// Whether it is an archive of `docker save` in its old form that was unpacked.
        docker: bool,
    },
    /// An archive of `docker save` that is not complete or contradicts itself.
    #[error("haul {place}: {what}")]
    Docker {
        /// Where.
        place: Place,
        /// What is wrong there.
        what: String,
    },
    /// What the haul names is not there or can't be understood.
    #[error("haul {haul}: {source}")]
    Catalog {
        /// The haul, or several.
        haul: String,
        /// What is wrong.
        source: Box<CatalogError>,
    },
    /// The hauls together have a longer index than a node reads.
    #[error(
        "the hauls together name more artifacts than one image can carry: index.json would have {0} bytes"
    )]
    IndexTooLarge(u64),
    /// No haul was named.
    #[error("no haul was given")]
    NoInput,
    /// The directory to write to exists and has something in it.
    #[error("{} exists already", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// Writing the layout failed.
    #[error("writing {}: {source}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

const COPY_AGAIN: &str =
    "copy the haul again from where it was made, and compare the sha256 of both files";

impl HaulError {
    /// What a person can do about it: one line.
    pub fn help(&self) -> String {
        match self {
            HaulError::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the path; a haul is what `hauler store save` writes".into()
            }
            HaulError::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "check that this user may read it".into()
            }
            HaulError::Open { .. } => "check that this user may read it".into(),
            HaulError::Read { .. } => "check the disk or stick that it lies on".into(),
            HaulError::Empty { .. } | HaulError::Damaged { .. } | HaulError::Structure { .. } => {
                COPY_AGAIN.into()
            }
            HaulError::WrongDigest { .. } => {
                format!("{COPY_AGAIN}; if they are the same, make the haul anew")
            }
            HaulError::Truncated(_) => {
                format!("{COPY_AGAIN}; of a haul in chunks, check that the last one is there")
            }
            HaulError::NotAnArchive { .. } => {
                "give a .tar.zst, .tar.gz or .tar that `hauler store save` wrote, one of its \
                 chunks, or a directory with an OCI layout"
                    .into()
            }
            HaulError::Compression { path, program } => {
                let name = path.file_name().unwrap_or(path.as_os_str()).display();
                format!("unpack it first: {program} -dc {name} > haul.tar")
            }
            HaulError::Window { path } => {
                let name = path.file_name().unwrap_or(path.as_os_str()).display();
                format!("unpack it first: zstd -d --long=31 {name} -o haul.tar")
            }
            HaulError::ChunkMissing { .. } => {
                "put all chunks of the haul into one directory, under the names they were saved with"
                    .into()
            }
            HaulError::Escapes(_) | HaulError::NotAFile { .. } => {
                "Hauler writes no such entries: somebody changed this haul; get it anew from where \
                 it was made"
                    .into()
            }
            HaulError::TooLarge { .. } | HaulError::TooMany { .. } => {
                "no Hauler writes such a haul; if it is really meant, split it into several".into()
            }
            HaulError::NoIndex { docker: true, .. } => {
                "this looks like an archive of `docker save`, unpacked; give the archive itself".into()
            }
            HaulError::Docker { .. } => {
                "save it anew with `docker save`; of k3s's own archives, compare the sha256 with the \
                 one of its release"
                    .into()
            }
            HaulError::NoIndex { .. } => {
                "index.json and blobs/ must lie at the top of the archive or directory".into()
            }
            HaulError::Catalog { source, .. } => match &**source {
                CatalogError::MissingBlob { .. } => {
                    "the haul is not complete; save it anew with `hauler store save`, from a store \
                     that `hauler store info` shows without errors"
                        .into()
                }
                CatalogError::Read { .. } => "check the disk that the directory is on".into(),
                _ => "make the haul anew; if it comes so from Hauler, tell us".into(),
            },
            HaulError::IndexTooLarge(_) => "write fewer hauls onto one image".into(),
            HaulError::NoInput => "name at least one haul".into(),
            HaulError::Exists { .. } => "name a directory that does not exist yet".into(),
            HaulError::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space, or choose another disk: a haul needs about its own size".into()
            }
            HaulError::Write { .. } => "check that this user may write there".into(),
        }
    }
}

/// An error of a file that a haul is read from; carried through decoders, which know
/// [`io::Error`] only.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub(super) struct ReadFailed {
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

impl Place {
    /// Tells apart why reading at this place failed: the disk, an early end, or damage.
    pub(super) fn read_error(&self, error: io::Error) -> HaulError {
        if error
            .get_ref()
            .is_some_and(|inner| inner.is::<ReadFailed>())
        {
            return match error.downcast::<ReadFailed>() {
                Ok(ReadFailed { path, source }) => HaulError::Read { path, source },
                Err(source) => HaulError::Read {
                    path: self.haul.clone(),
                    source,
                },
            };
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return HaulError::Truncated(self.clone());
        }
        // zstd: lib/common/error_private.c, frameParameter_windowTooLarge
        if error.to_string().contains("requires too much memory") {
            return HaulError::Window {
                path: self.haul.clone(),
            };
        }
        HaulError::Damaged {
            place: self.clone(),
            source: error,
        }
    }

    /// The place without an entry.
    pub(super) fn of(haul: &std::path::Path) -> Place {
        Place {
            haul: haul.to_owned(),
            entry: None,
        }
    }
}
