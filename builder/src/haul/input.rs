//! What the paths that a person gave are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::chunks;
use super::error::HaulError;

/// One haul to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A directory with an OCI layout.
    Directory(PathBuf),
    /// An archive in one or more files.
    Archive {
        /// Its name without directory, and without the number of a chunk.
        name: String,
        /// Its files in order; at least one.
        files: Vec<PathBuf>,
    },
}

/// Every file that is read for the hauls that `paths` name, all chunks included.
///
/// # Errors
/// When one of them is not there, or chunks are missing.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, HaulError> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let inputs = Input::resolve(paths)?.into_iter();
    Ok(inputs
        .flat_map(|input| match input {
            Input::Directory(path) => vec![path],
            Input::Archive { files, .. } => files,
        })
        .collect())
}

impl Input {
    /// The hauls that `paths` name, in that order, each once: all chunks may be given, or one.
    pub(super) fn resolve(paths: &[PathBuf]) -> Result<Vec<Input>, HaulError> {
        if paths.is_empty() {
            return Err(HaulError::NoInput);
        }
        let mut seen = BTreeSet::new();
        let mut inputs = Vec::new();
        for path in paths {
            let failed = |source| HaulError::Open {
                path: path.clone(),
                source,
            };
            let input = if fs::metadata(path).map_err(failed)?.is_dir() {
                Input::Directory(path.clone())
            } else if let Some(found) = chunks::find(path)? {
                Input::Archive {
                    name: found.name,
                    files: found.files,
                }
            } else {
                Input::Archive {
                    name: file_name(path),
                    files: vec![path.clone()],
                }
            };
            if seen.insert(fs::canonicalize(input.path()).map_err(failed)?) {
                inputs.push(input);
            }
        }
        Ok(inputs)
    }

    /// The file or directory that stands for the haul in messages.
    pub(super) fn path(&self) -> &Path {
        match self {
            Input::Directory(path) => path,
            Input::Archive { files, .. } => files.first().map_or(Path::new(""), PathBuf::as_path),
        }
    }

    /// The haul's name without directory.
    pub(super) fn name(&self) -> String {
        match self {
            Input::Directory(path) => file_name(path),
            Input::Archive { name, .. } => name.clone(),
        }
    }

    /// Bytes there are to read, where that is known.
    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Input::Directory(path) => Some(super::directory::size(path)),
            Input::Archive { files, .. } => files
                .iter()
                .map(|file| Some(fs::metadata(file).ok().filter(fs::Metadata::is_file)?.len()))
                .sum(),
        }
    }
}

/// The last part of a path; of `.` and the like, the one it stands for.
fn file_name(path: &Path) -> String {
    let named = path.file_name().map(ToOwned::to_owned);
    let found = || Some(fs::canonicalize(path).ok()?.file_name()?.to_owned());
    named.or_else(found).map_or_else(
        || "haul".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
