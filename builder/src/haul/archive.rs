//! Reading a haul that is an archive, in one piece or in chunks.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use image_layout::limits;

use super::chunks::Joined;
use super::compression;
use super::docker;
use super::error::{HaulError, Place};
use super::members::{Contents, Member};
use super::read_ahead::ReadAhead;
use super::store::Store;
use super::{EntryKind, TarError, TarReader};
use crate::progress::Progress;

/// Entries of one archive; a haul has few more than it has blobs.
const ENTRIES: usize = 2 * limits::BLOBS;
/// Layers and configurations of one archive of `docker save`.
const PARTS: usize = 100_000;
/// Bytes of `store.json`.
const STORE_JSON_BYTES: u64 = 64 << 10;

/// Reads the archive that `files` make together: blobs go into `store`, the rest is returned.
pub(super) fn read(
    files: Vec<PathBuf>,
    store: &mut Store,
    progress: &dyn Progress,
) -> Result<Contents, HaulError> {
    let Some(path) = files.first().cloned() else {
        return Err(HaulError::NoInput);
    };
    let count = Arc::new(AtomicU64::new(0));
    let unpacked = compression::open(Joined::new(files, Arc::clone(&count)), &path)?;
    let source = ReadAhead::new(unpacked).map_err(|source| HaulError::Read {
        path: path.clone(),
        source,
    })?;
    let mut reported = 0;
    let mut tick = || {
        let now = count.load(Ordering::Relaxed);
        progress.advance(now.saturating_sub(reported));
        reported = now;
    };
    let contents = entries(TarReader::new(source), &path, store, &mut tick)?;
    tick();
    Ok(contents)
}

fn entries(
    mut archive: TarReader<ReadAhead>,
    path: &Path,
    store: &mut Store,
    tick: &mut dyn FnMut(),
) -> Result<Contents, HaulError> {
    let mut place = Place::of(path);
    let mut contents = Contents::default();
    for _ in 0..ENTRIES {
        let next = archive.next();
        if archive.ended() {
            place.entry = None;
        }
        let entry = match next {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(contents),
            Err(TarError::Io(error)) => return Err(place.read_error(error)),
            Err(TarError::Structure(what, offset)) => {
                return Err(HaulError::Structure {
                    place,
                    what,
                    offset,
                });
            }
        };
        place.entry = Some(entry.name.clone());
        let Ok(member) = Member::of(&entry.name) else {
            return Err(HaulError::Escapes(place));
        };
        let is_part = member == Member::Stray && docker::is_part(&entry.name);
        let what = match entry.kind {
            EntryKind::File => None,
            // it is refused later, unless this is an archive of `docker save`
            EntryKind::Symlink | EntryKind::Link if is_part => {
                let target = String::from_utf8_lossy(&entry.link);
                match entry.kind {
                    EntryKind::Symlink => contents.parts.link(&entry.name, &target),
                    _ => contents.parts.hard_link(&entry.name, &target),
                }
                continue;
            }
            EntryKind::Directory => continue,
            EntryKind::Symlink | EntryKind::Link => Some("a link"),
            EntryKind::Special => Some("a device, FIFO or sparse file"),
            EntryKind::Unknown => {
                contents.saw_stray(&entry.name);
                continue;
            }
        };
        if let Some(what) = what {
            return Err(HaulError::NotAFile { place, what });
        }
        contents.saw_time(entry.mtime);
        match member {
            Member::Blob(digest) => {
                store.take(&digest, entry.size, &mut archive, &place, tick)?;
                contents.blobs += 1;
                contents.bytes = contents.bytes.saturating_add(entry.size);
            }
            Member::Stray if is_part => {
                if contents.parts.len() >= PARTS {
                    return Err(HaulError::TooMany {
                        path: path.to_owned(),
                    });
                }
                let stored = store.take_unnamed(entry.size, &mut archive, &place, tick)?;
                contents.parts.file(&entry.name, stored);
                contents.blobs += 1;
                contents.bytes = contents.bytes.saturating_add(entry.size);
            }
            other => contents.take(other, &entry.name, entry.size, &mut archive, &place)?,
        }
    }
    Err(HaulError::TooMany {
        path: path.to_owned(),
    })
}

impl Contents {
    /// Takes a file that is no blob.
    pub(super) fn take(
        &mut self,
        member: Member,
        name: &str,
        size: u64,
        source: &mut dyn Read,
        place: &Place,
    ) -> Result<(), HaulError> {
        let mut index = || read_bounded(source, size, limits::INDEX_JSON_BYTES, place);
        match member {
            Member::Index => self.index = Some(index()?),
            Member::HaulerIndex => self.hauler_index = Some(index()?),
            Member::StoreJson if size <= STORE_JSON_BYTES => {
                self.store_json = Some(read_bounded(source, size, STORE_JSON_BYTES, place)?);
            }
            Member::DockerManifest if size <= limits::INDEX_JSON_BYTES => {
                self.docker_manifest = Some(index()?);
            }
            Member::Stray => self.saw_stray(name),
            Member::DockerManifest | Member::StoreJson | Member::Ignored | Member::Blob(_) => {}
        }
        Ok(())
    }
}

fn read_bounded(
    source: &mut dyn Read,
    size: u64,
    max: u64,
    place: &Place,
) -> Result<Vec<u8>, HaulError> {
    if size > max {
        return Err(HaulError::TooLarge {
            place: place.clone(),
            size,
            max,
        });
    }
    // grows as bytes arrive: the size is only what the archive says
    let mut bytes = Vec::new();
    source
        .take(size)
        .read_to_end(&mut bytes)
        .map_err(|error| place.read_error(error))?;
    if (bytes.len() as u64) < size {
        return Err(HaulError::Truncated(place.clone()));
    }
    Ok(bytes)
}
