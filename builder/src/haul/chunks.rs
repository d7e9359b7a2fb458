//! Hauls that were split into pieces to fit on media.
//!
//! Hauler splits the finished archive after so many bytes and does no more: no count, no checksum.
//! - since 2.1: `haul.tar.zst.001`, `.002` ... (`%03d`, so `.1000` follows `.999`)
//! - 2.0: `haul_0.tar.zst`, `haul_1.tar.zst` ...
//!
//! Any of the pieces names the haul; all must lie in one directory. That the last one is there
//! shows when the archive ends where it should.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{HaulError, ReadFailed};

/// How the pieces of one haul are named.
#[derive(Debug, PartialEq, Eq)]
enum Scheme {
    /// `PREFIX.NNN`, from 1.
    Suffix { prefix: String },
    /// `PREFIX_N.EXTENSION`, from 0.
    Infix { prefix: String, extension: String },
}

impl Scheme {
    /// Splits a file's name into scheme and number.
    fn of(name: &str) -> Option<(Scheme, u32)> {
        Self::suffix(name).or_else(|| Self::infix(name))
    }

    fn suffix(name: &str) -> Option<(Scheme, u32)> {
        let (prefix, digits) = name.rsplit_once('.')?;
        let number: u32 = parse_digits(digits)?;
        let written_so = format!("{number:03}") == digits;
        (!prefix.is_empty() && written_so && number >= 1).then(|| {
            let prefix = prefix.to_owned();
            (Scheme::Suffix { prefix }, number)
        })
    }

    fn infix(name: &str) -> Option<(Scheme, u32)> {
        let (stem, extension) = name.split_once('.')?;
        let (prefix, digits) = stem.rsplit_once('_')?;
        let number: u32 = parse_digits(digits)?;
        let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
        let parts: Vec<&str> = extension.split('.').collect();
        let known = parts.len() <= 2 && parts.iter().all(|part| word(part));
        (!prefix.is_empty() && number.to_string() == digits && known).then(|| {
            let (prefix, extension) = (prefix.to_owned(), extension.to_owned());
            (Scheme::Infix { prefix, extension }, number)
        })
    }

    const fn first(&self) -> u32 {
        match self {
            Scheme::Suffix { .. } => 1,
            Scheme::Infix { .. } => 0,
        }
    }

    fn file(&self, number: u32) -> String {
        match self {
            Scheme::Suffix { prefix } => format!("{prefix}.{number:03}"),
            Scheme::Infix { prefix, extension } => format!("{prefix}_{number}.{extension}"),
        }
    }

    /// The name of the haul that was split.
    fn whole(&self) -> String {
        match self {
            Scheme::Suffix { prefix } => prefix.clone(),
            Scheme::Infix { prefix, extension } => format!("{prefix}.{extension}"),
        }
    }
}

fn parse_digits(digits: &str) -> Option<u32> {
    let only_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    only_digits.then(|| digits.parse().ok()).flatten()
}

/// The pieces of one haul, in order, and the haul's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    pub(super) name: String,
    pub(super) files: Vec<PathBuf>,
}

/// Finds the pieces of the haul that `path` is a piece of; `None` if it is a haul on its own.
///
/// `site_1.tar.zst` may just as well be a haul of its own: then it begins as compressed files do,
/// which the second and later pieces of a haul don't.
pub(super) fn find(path: &Path) -> Result<Option<Chunks>, HaulError> {
    let Some((scheme, number)) = path
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(Scheme::of)
    else {
        return Ok(None);
    };
    if number > scheme.first() && begins_compressed(path)? {
        return Ok(None);
    }
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut numbers = Vec::new();
    let listing = |source| HaulError::Open {
        path: directory.to_owned(),
        source,
    };
    for file in fs::read_dir(directory).map_err(listing)? {
        let name = file.map_err(listing)?.file_name();
        if let Some((other, number)) = name.to_str().and_then(Scheme::of)
            && other == scheme
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    let mut files = Vec::new();
    for (expected, number) in (scheme.first()..).zip(numbers) {
        let file = directory.join(scheme.file(number));
        if number > scheme.first() && begins_compressed(&file)? {
            // a haul of its own, and so is all that follows
            break;
        }
        if number != expected {
            return Err(HaulError::ChunkMissing {
                name: scheme.whole(),
                missing: directory.join(scheme.file(expected)),
            });
        }
        files.push(file);
    }
    let alone = files.len() <= 1 && number == scheme.first();
    if alone && matches!(scheme, Scheme::Infix { .. }) {
        return Ok(None);
    }
    Ok(Some(Chunks {
        name: scheme.whole(),
        files,
    }))
}

fn begins_compressed(path: &Path) -> Result<bool, HaulError> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(|source| HaulError::Open {
        path: path.to_owned(),
        source,
    })?;
    file.take(8)
        .read_to_end(&mut start)
        .map_err(|source| HaulError::Read {
            path: path.to_owned(),
            source,
        })?;
    Ok(super::compression::is_compressed(&start))
}

/// Several files read as one.
pub(super) struct Joined {
    files: std::vec::IntoIter<PathBuf>,
    current: Option<(PathBuf, File)>,
    count: Arc<AtomicU64>,
}

impl Joined {
    /// Reads `files` one after another and adds what was read to `count`.
    pub(super) fn new(files: Vec<PathBuf>, count: Arc<AtomicU64>) -> Joined {
        Joined {
            files: files.into_iter(),
            current: None,
            count,
        }
    }
}

impl Read for Joined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some((path, file)) = &mut self.current {
                let read = match file.read(buffer) {
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                    Err(source) => return Err(failed(path, source)),
                };
                if read > 0 || buffer.is_empty() {
                    self.count.fetch_add(read as u64, Ordering::Relaxed);
                    return Ok(read);
                }
            }
            let Some(path) = self.files.next() else {
                return Ok(0);
            };
            let file = File::open(&path).map_err(|source| failed(&path, source))?;
            self.current = Some((path, file));
        }
    }
}

fn failed(path: &Path, source: io::Error) -> io::Error {
    io::Error::other(ReadFailed {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_schemes_are_recognised_and_written_back() {
        for (name, number, whole) in [
            ("haul.tar.zst.001", 1, "haul.tar.zst"),
            ("haul.tar.zst.1000", 1000, "haul.tar.zst"),
            ("haul_0.tar.zst", 0, "haul.tar.zst"),
            ("my_haul_12.tar.gz", 12, "my_haul.tar.gz"),
            ("haul_3.tar", 3, "haul.tar"),
        ] {
            let (scheme, found) = Scheme::of(name).unwrap();
            assert_eq!((found, scheme.whole().as_str()), (number, whole), "{name}");
            assert_eq!(scheme.file(number), name);
        }
        for name in [
            "haul.tar.zst",
            "haul.tar.zst.000",
            "haul.tar.zst.01",
            "haul.tar.zst.0001",
            "haul_01.tar.zst",
            "haul_1",
            "_0.tar",
            ".001",
            "haul_0.tar.zst.bak",
            "haul_99999999999.tar",
            "hello-0.1.0.tgz",
        ] {
            assert_eq!(Scheme::of(name), None, "{name}");
        }
    }

    fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(directory.path().join(name), bytes).unwrap();
        }
        directory
    }

    const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0];

    #[test]
    fn all_pieces_are_found_from_any_of_them_in_numeric_order() {
        let names: Vec<String> = (0..12).map(|n| format!("haul_{n}.tar.zst")).collect();
        let files: Vec<(&str, &[u8])> = names
            .iter()
            .enumerate()
            .map(|(n, name)| (name.as_str(), if n == 0 { ZSTD } else { b"middle" }))
            .collect();
        let directory = directory(&files);
        for name in &names {
            let found = find(&directory.path().join(name)).unwrap().unwrap();
            assert_eq!(found.name, "haul.tar.zst");
            let order: Vec<_> = names
                .iter()
                .map(|name| directory.path().join(name))
                .collect();
            assert_eq!(found.files, order);
        }
    }

    #[test]
    fn a_missing_piece_is_named() {
        for (files, given, missing) in [
            (
                &["a.tar.zst.001", "a.tar.zst.003"][..],
                "a.tar.zst.001",
                "a.tar.zst.002",
            ),
            (
                &["a.tar.zst.002", "a.tar.zst.003"][..],
                "a.tar.zst.003",
                "a.tar.zst.001",
            ),
            (&["a_1.tar.zst"][..], "a_1.tar.zst", "a_0.tar.zst"),
            (
                &["a_0.tar.zst", "a_2.tar.zst"][..],
                "a_0.tar.zst",
                "a_1.tar.zst",
            ),
        ] {
            let files: Vec<(&str, &[u8])> =
                files.iter().map(|name| (*name, &b"piece"[..])).collect();
            let directory = directory(&files);
            let error = find(&directory.path().join(given)).unwrap_err();
            assert!(
                matches!(&error, HaulError::ChunkMissing { missing: m, .. } if m.ends_with(missing)),
                "{error}"
            );
        }
    }

    #[test]
    fn hauls_that_are_only_numbered_are_not_joined() {
        let directory = directory(&[
            ("site_0.tar.zst", ZSTD),
            ("site_1.tar.zst", ZSTD),
            ("site_7.tar.zst", ZSTD),
        ]);
        for name in ["site_0.tar.zst", "site_1.tar.zst", "site_7.tar.zst"] {
            assert_eq!(find(&directory.path().join(name)).unwrap(), None, "{name}");
        }
    }
}
