//! Unpacking the archive of k3s's launcher as the launcher does, and checking it.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use image_layout::digest::{Digest, Hasher};

use super::archive::Archive;
use super::{pause, verify};
use crate::haul::{EntryKind, TarError, TarReader};
use crate::staging;

/// Members of the archive; k3s has some 300.
const MEMBERS: usize = 100_000;
/// Bytes of all files together; k3s has some 250 MiB.
const BYTES: u64 = 1 << 30;
/// Bytes of a list in the archive.
const LIST_BYTES: u64 = 1 << 20;
/// Windows up to 2^27 bytes are given memory; k3s's launcher stops at 2^25 (k3s: pkg/untar).
const WINDOW_LOG_MAX: u32 = 27;
/// Bytes read at once.
const CHUNK: usize = 256 << 10;
/// The longest name and target, as Linux has it.
const PATH_BYTES: usize = 4096;

/// What was unpacked.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    /// Everything but the root, by its path.
    pub(super) entries: BTreeMap<String, Entry>,
    /// Contents of the lists that the launcher checks the rest by.
    pub(super) lists: BTreeMap<String, Vec<u8>>,
    bytes: u64,
}

/// A member of the archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Directory,
    File {
        digest: Digest,
        executable: bool,
    },
    /// A symbolic link and where it leads.
    Link(String),
}

/// Why k3s is left to unpack itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    /// The archive is not what the launcher would take, or more than k3s ever was.
    #[error("{0}")]
    Shape(String),
    /// The disk to unpack to failed; nothing about the archive.
    #[error("writing {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Unpacks `archive` of the k3s binary `file` into the directory `to`, which must not exist, and
/// checks it as the launcher does. Gives the name of the pause image that the main program has.
///
/// Files that are executable get 0755, others 0644; directories are 0755. On an error what was
/// unpacked stays, for the caller to remove.
pub(super) fn unpack(
    file: &File,
    archive: &Archive,
    to: &Path,
) -> Result<Option<String>, UnpackError> {
    let damaged = |error: io::Error| UnpackError::Shape(format!("its archive is damaged: {error}"));
    let section = Section {
        file,
        at: archive.offset,
        left: archive.length,
    };
    let mut decoder =
        zstd::Decoder::with_buffer(BufReader::with_capacity(CHUNK, section)).map_err(damaged)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(damaged)?;
    let mut tar = TarReader::new(decoder);
    let mut unpacked = Unpacked::default();
    staging::create_dir_all(to).map_err(write_error(to))?;
    loop {
        let entry = match tar.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(TarError::Io(error)) => return Err(damaged(error)),
            Err(TarError::Structure(what, at)) => {
                return Err(UnpackError::Shape(format!(
                    "its archive has {what} at byte {at}"
                )));
            }
        };
        unpacked.member(&entry, &mut tar, to)?;
    }
    verify::verify(&unpacked).map_err(UnpackError::Shape)?;
    let main = to.join(verify::MAIN);
    pause::of(&main).map_err(write_error(&main))
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> UnpackError {
    let path = path.to_owned();
    move |source| UnpackError::Write { path, source }
}

impl Unpacked {
    fn member(
        &mut self,
        entry: &crate::haul::TarEntry,
        source: &mut dyn Read,
        to: &Path,
    ) -> Result<(), UnpackError> {
        let refuse = |why: &str| {
            let name = image_layout::text::printable(&entry.name);
            Err(UnpackError::Shape(format!("{name} in its archive {why}")))
        };
        let Some(name) = path_within(&entry.name) else {
            return refuse("is no name for a file");
        };
        if name.is_empty() {
            return match entry.kind {
                EntryKind::Directory => Ok(()),
                _ => refuse("is no name for a file"),
            };
        }
        if self.entries.len() >= MEMBERS {
            return refuse("is one member too many");
        }
        // what lies in a link would lie elsewhere
        for (slash, _) in name.match_indices('/') {
            let parent = name.get(..slash).unwrap_or_default();
            let parent = self
                .entries
                .entry(parent.to_owned())
                .or_insert(Entry::Directory);
            if *parent != Entry::Directory {
                return refuse("lies in something that is no directory");
            }
        }
        match (self.entries.get(&name), entry.kind) {
            (None, _) | (Some(Entry::Directory), EntryKind::Directory) => {}
            _ => return refuse("is there twice"),
        }
        let path = to.join(&name);
        if let Some(parent) = path.parent() {
            staging::create_dir_all(parent).map_err(write_error(parent))?;
        }
        let made = match entry.kind {
            EntryKind::Directory => {
                staging::create_dir_all(&path).map_err(write_error(&path))?;
                Entry::Directory
            }
            EntryKind::File => {
                self.bytes = self.bytes.saturating_add(entry.size);
                if self.bytes > BYTES {
                    return refuse("makes it larger than any k3s");
                }
                self.file(entry, &name, source, &path)?
            }
            EntryKind::Symlink => {
                let target = String::from_utf8_lossy(&entry.link).into_owned();
                if !leads_inside(&name, &target) {
                    return refuse("is a link that leads out of it");
                }
                symlink(&target, &path).map_err(write_error(&path))?;
                Entry::Link(target)
            }
            EntryKind::Link | EntryKind::Special | EntryKind::Unknown => {
                return refuse("is neither file, directory nor symbolic link");
            }
        };
        self.entries.insert(name, made);
        Ok(())
    }

    fn file(
        &mut self,
        entry: &crate::haul::TarEntry,
        name: &str,
        source: &mut dyn Read,
        path: &Path,
    ) -> Result<Entry, UnpackError> {
        let mut file = File::create_new(path).map_err(write_error(path))?;
        let is_list = verify::is_list(name);
        let mut list = (is_list && entry.size <= LIST_BYTES).then(Vec::new);
        let mut hasher = Hasher::sha256();
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = match source.read(&mut chunk) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(UnpackError::Shape(format!(
                        "its archive is damaged: {error}"
                    )));
                }
            };
            let bytes = chunk.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            hasher.update(bytes);
            file.write_all(bytes).map_err(write_error(path))?;
            if let Some(list) = &mut list {
                list.extend_from_slice(bytes);
            }
        }
        let executable = entry.mode & 0o100 != 0;
        let mode = if executable { 0o755 } else { 0o644 };
        file.set_permissions(Permissions::from_mode(mode))
            .map_err(write_error(path))?;
        if let Some(list) = list {
            self.lists.insert(name.to_owned(), list);
        }
        Ok(Entry::File {
            digest: hasher.finish(),
            executable,
        })
    }
}

/// A member's name without dots and doubled slashes; none if it leads elsewhere.
fn path_within(name: &str) -> Option<String> {
    if name.starts_with('/') || name.contains('\\') || name.len() > PATH_BYTES {
        return None;
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            // replaced characters were no UTF-8
            part if part.contains(|c: char| c.is_control() || c == '\u{fffd}') => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Whether a link at `name` leads to a place within the archive.
fn leads_inside(name: &str, target: &str) -> bool {
    if target.is_empty()
        || target.starts_with('/')
        || target.len() > PATH_BYTES
        || target.contains(|c: char| c.is_control() || c == '\u{fffd}')
    {
        return false;
    }
    let mut depth = name.matches('/').count();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            _ => depth += 1,
        }
    }
    true
}

/// A part of a file, read from front to back.
struct Section<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = match buffer.get_mut(..most) {
            Some(buffer) => self.file.read_at(buffer, self.at)?,
            None => 0,
        };
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
