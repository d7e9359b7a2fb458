//! Reading a haul that is a directory: Hauler's store, or any OCI layout.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use image_layout::Digest;

use super::error::{HaulError, Place};
use super::members::{Contents, Member};
use super::store::Store;
use crate::progress::Progress;

/// Reads the layout at `path`: blobs go into `store`, the rest is returned.
pub(super) fn read(
    path: &Path,
    store: &mut Store,
    progress: &dyn Progress,
) -> Result<Contents, HaulError> {
    let mut contents = Contents::default();
    for name in names(path, "")? {
        if name == "blobs" {
            continue;
        }
        let place = place(path, &name);
        let member = Member::of(&name).unwrap_or(Member::Stray);
        if member == Member::Stray || member == Member::Ignored {
            contents.take(member, &name, 0, &mut std::io::empty(), &place)?;
            continue;
        }
        let (mut file, size) = open(path, &name, &mut contents)?;
        contents.take(member, &name, size, &mut file, &place)?;
        progress.advance(size);
    }
    for (name, digest) in blobs(path, &mut contents)? {
        let (mut file, size) = open(path, &name, &mut contents)?;
        let place = place(path, &name);
        store.take(&digest, size, &mut file, &place, &mut || {})?;
        progress.advance(size);
        contents.blobs += 1;
        contents.bytes = contents.bytes.saturating_add(size);
    }
    Ok(contents)
}

/// The blobs of the layout at `path`, by name relative to it, and their digests.
fn blobs(path: &Path, contents: &mut Contents) -> Result<Vec<(String, Digest)>, HaulError> {
    let mut found = Vec::new();
    for algorithm in names_if_there(path, "blobs")? {
        for file in names(path, &format!("blobs/{algorithm}"))? {
            let name = format!("blobs/{algorithm}/{file}");
            match Member::of(&name) {
                Ok(Member::Blob(digest)) => found.push((name, digest)),
                Ok(Member::Ignored) => {}
                _ => contents.saw_stray(&name),
            }
        }
    }
    Ok(found)
}

/// Bytes of the layout's blobs, for the progress bar; 0 where it can't be told.
pub(super) fn size(path: &Path) -> u64 {
    let files = blobs(path, &mut Contents::default()).unwrap_or_default();
    let sizes = files
        .iter()
        .filter_map(|(name, _)| fs::symlink_metadata(path.join(name)).ok());
    sizes.map(|metadata| metadata.len()).sum()
}

fn place(path: &Path, name: &str) -> Place {
    Place {
        haul: path.to_owned(),
        entry: Some(name.to_owned()),
    }
}

fn names_if_there(path: &Path, below: &str) -> Result<Vec<String>, HaulError> {
    if !path.join(below).exists() {
        return Ok(Vec::new());
    }
    names(path, below)
}

/// The names in a directory of the layout, sorted. The directory must not be a link, except for
/// the layout itself, which a person named.
fn names(path: &Path, below: &str) -> Result<Vec<String>, HaulError> {
    let directory: PathBuf = path.join(below);
    let failed = |source| HaulError::Open {
        path: directory.clone(),
        source,
    };
    if !below.is_empty() {
        let metadata = fs::symlink_metadata(&directory).map_err(failed)?;
        if !metadata.is_dir() {
            return Err(HaulError::NotAFile {
                place: place(path, below),
                what: "no directory",
            });
        }
    }
    let mut names = Vec::new();
    for file in fs::read_dir(&directory).map_err(failed)? {
        // names that are no UTF-8 are strays; replaced characters make them no names of blobs
        names.push(
            file.map_err(failed)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort_unstable();
    Ok(names)
}

/// Opens a regular file of the layout, and nothing else: neither a link, which could lead
/// anywhere, nor a FIFO, which would be waited for.
fn open(path: &Path, name: &str, contents: &mut Contents) -> Result<(File, u64), HaulError> {
    let file_path = path.join(name);
    let not_a_file = |what| HaulError::NotAFile {
        place: place(path, name),
        what,
    };
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(&file_path);
    let failed = |source| HaulError::Open {
        path: file_path.clone(),
        source,
    };
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(not_a_file("a link"));
        }
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(not_a_file("no regular file"));
    }
    contents.saw_time(u64::try_from(metadata.mtime()).unwrap_or(0));
    Ok((file, metadata.len()))
}
