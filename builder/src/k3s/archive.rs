//! Finding, in a k3s binary, the archive that its launcher unpacks.
//!
//! The launcher carries a file `HASH.tar.zst`, embedded as it is, and HASH is the SHA-256 of that
//! file (k3s: scripts/package-cli, pkg/data). So there is nothing to guess:
//!
//! - Go over the binary once; note every name `64 hexadecimal digits.tar.zst`, and every place
//!   where a zstd frame may begin.
//! - Follow the frame that begins there to its end, and those right behind it; hash them.
//! - Where the hash is one of the names, there lies the archive, whole and intact.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;

use image_layout::digest::{Digest, Hasher};
use memchr::memmem::Finder;

use super::frame::{self, MAGIC, NoFrame, Source};

/// What follows the digits of the archive's name.
const SUFFIX: &[u8] = b".tar.zst";
/// Digits of the name.
const DIGITS: usize = 64;
/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// Names and beginnings of frames that are followed. k3s has one name, and few beginnings by chance.
const CANDIDATES: usize = 4096;
/// Blocks of zstd frames that are passed; an archive of 1 GiB has 8,192.
const BLOCKS: u64 = 1 << 18;
/// How many times the size of the binary is hashed at most.
const HASHED: u64 = 4;

/// Where the archive lies in the binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Archive {
    /// SHA-256 of its bytes, 64 hexadecimal digits: the directory that the launcher unpacks it to.
    pub(super) hash: String,
    /// Bytes before it.
    pub(super) offset: u64,
    /// Its bytes.
    pub(super) length: u64,
}

/// Why the archive was not found.
#[derive(Debug)]
pub(super) enum NoArchive {
    /// No name of an archive is in the binary.
    NoName,
    /// None of the zstd frames in the binary has the hash that a name says.
    NoMatch,
    /// There are several, and which one the launcher takes is not known.
    Several,
    /// More names, frames or blocks than any k3s has.
    TooMany,
    /// Reading failed.
    Read(io::Error),
}

impl fmt::Display for NoArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoArchive::NoName => f.write_str("no archive is named in it"),
            NoArchive::NoMatch => f.write_str("the archive named in it is not there or is damaged"),
            NoArchive::Several => f.write_str("more than one archive is in it"),
            NoArchive::TooMany => f.write_str("it has more beginnings of archives than k3s has"),
            NoArchive::Read(error) => write!(f, "reading it: {error}"),
        }
    }
}

impl From<NoFrame> for NoArchive {
    fn from(error: NoFrame) -> NoArchive {
        match error {
            NoFrame::Malformed => NoArchive::NoMatch,
            NoFrame::Budget => NoArchive::TooMany,
            NoFrame::Read(error) => NoArchive::Read(error),
        }
    }
}

/// Finds the archive in a binary of `size` bytes.
pub(super) fn find(file: &File, size: u64) -> Result<Archive, NoArchive> {
    find_in(file, size)
}

fn find_in<S: Source + ?Sized>(source: &S, size: u64) -> Result<Archive, NoArchive> {
    let candidates = Candidates::of(source, size)?;
    if candidates.names.is_empty() {
        return Err(NoArchive::NoName);
    }
    let mut search = Search {
        source,
        names: &candidates.names,
        blocks: BLOCKS,
        bytes: size.saturating_mul(HASHED),
    };
    let mut found: Option<Archive> = None;
    let mut passed = 0;
    for start in candidates.frames {
        // what lies within an archive that was found is part of it
        if start < passed {
            continue;
        }
        if let Some(archive) = search.at(start)? {
            passed = archive.offset.saturating_add(archive.length);
            if found.replace(archive).is_some() {
                return Err(NoArchive::Several);
            }
        }
    }
    found.ok_or(NoArchive::NoMatch)
}

/// Names of archives, and places where a frame may begin.
struct Candidates {
    names: BTreeSet<Digest>,
    frames: Vec<u64>,
}

impl Candidates {
    fn of<S: Source + ?Sized>(source: &S, size: u64) -> Result<Candidates, NoArchive> {
        let mut candidates = Candidates {
            names: BTreeSet::new(),
            frames: Vec::new(),
        };
        let (magic, suffix) = (Finder::new(&MAGIC), Finder::new(SUFFIX));
        // the end of the previous chunk stays in front, for what lies across
        let kept = DIGITS + SUFFIX.len();
        let mut window = Vec::with_capacity(kept + CHUNK);
        let mut offset = 0;
        while offset < size {
            window.drain(..window.len().saturating_sub(kept));
            let old = window.len();
            let count = usize::try_from(size - offset).unwrap_or(CHUNK).min(CHUNK);
            window.resize(old + count, 0);
            source
                .read_exact_at(window.get_mut(old..).unwrap_or_default(), offset)
                .map_err(NoArchive::Read)?;
            let base = offset - old as u64;
            offset += count as u64;
            // what ended within the part that was kept was seen before
            let new = |at: usize, length: usize| at + length > old;
            for at in suffix
                .find_iter(&window)
                .filter(|at| new(*at, SUFFIX.len()))
            {
                let digits = at
                    .checked_sub(DIGITS)
                    .and_then(|start| window.get(start..at))
                    .and_then(|digits| std::str::from_utf8(digits).ok());
                if let Some(name) = digits.and_then(|digits| Digest::from_parts("sha256", digits)) {
                    candidates.names.insert(name);
                }
            }
            let begins = magic.find_iter(&window).filter(|at| new(*at, MAGIC.len()));
            candidates.frames.extend(begins.map(|at| base + at as u64));
            if candidates.names.len() > CANDIDATES || candidates.frames.len() > CANDIDATES {
                return Err(NoArchive::TooMany);
            }
        }
        Ok(candidates)
    }
}

struct Search<'a, S: ?Sized> {
    source: &'a S,
    names: &'a BTreeSet<Digest>,
    /// Blocks that may still be passed.
    blocks: u64,
    /// Bytes that may still be hashed.
    bytes: u64,
}

impl<S: Source + ?Sized> Search<'_, S> {
    /// The archive that begins at `start`: one frame, or several in a row.
    fn at(&mut self, start: u64) -> Result<Option<Archive>, NoArchive> {
        let mut hasher = Hasher::sha256();
        let mut end = start;
        loop {
            let next = match frame::end(self.source, end, &mut self.blocks) {
                Ok(next) => next,
                Err(NoFrame::Malformed) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            self.hash(&mut hasher, end, next)?;
            end = next;
            let digest = hasher.clone().finish();
            if self.names.contains(&digest) {
                return Ok(Some(Archive {
                    hash: digest.hex(),
                    offset: start,
                    length: end - start,
                }));
            }
        }
    }

    fn hash(&mut self, hasher: &mut Hasher, from: u64, to: u64) -> Result<(), NoArchive> {
        self.bytes = self
            .bytes
            .checked_sub(to - from)
            .ok_or(NoArchive::TooMany)?;
        let mut chunk = vec![0; CHUNK];
        let mut at = from;
        while at < to {
            let count = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
            let part = chunk.get_mut(..count).unwrap_or_default();
            self.source
                .read_exact_at(part, at)
                .map_err(NoArchive::Read)?;
            hasher.update(part);
            at += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(contents: &[u8]) -> Vec<u8> {
        zstd::encode_all(contents, 3).unwrap()
    }

    fn name_of(archive: &[u8]) -> Vec<u8> {
        let hex = Digest::sha256_of(archive).hex();
        format!("embed/{hex}.tar.zst").into_bytes()
    }

    fn found(bytes: &[u8]) -> Result<Archive, NoArchive> {
        find_in(bytes, bytes.len() as u64)
    }

    #[test]
    fn an_archive_is_found_wherever_it_and_its_name_lie() {
        let archive = packed(b"contents");
        let name = name_of(&archive);
        // also across the border of two reads
        for before in [0, 5, CHUNK - 100, CHUNK - 3, CHUNK - 1, CHUNK] {
            for name_first in [true, false] {
                let mut bytes = vec![b'.'; before];
                let (offset, parts) = match name_first {
                    true => (before + name.len(), [&name, &archive]),
                    false => (before, [&archive, &name]),
                };
                bytes.extend(parts.into_iter().flatten());
                bytes.extend_from_slice(b"more");
                let archive = Archive {
                    hash: Digest::sha256_of(&archive).hex(),
                    offset: offset as u64,
                    length: archive.len() as u64,
                };
                assert_eq!(found(&bytes).unwrap(), archive, "{before} {name_first}");
            }
        }
    }

    #[test]
    fn an_archive_of_several_frames_is_found_among_frames_that_are_none() {
        let archive = [packed(b"one"), packed(b"two"), packed(b"")].concat();
        let decoys = [&MAGIC[..], b"....", &packed(b"other"), b"-"].concat();
        let bytes = [&decoys[..], &archive, &name_of(&archive), &decoys].concat();
        let archive = found(&bytes).unwrap();
        assert_eq!(archive.offset, decoys.len() as u64);
    }

    #[test]
    fn any_mismatch_leaves_k3s_to_itself() {
        let archive = packed(b"contents");
        let name = name_of(&archive);
        let whole = [&archive[..], &name].concat();
        assert!(found(&whole).is_ok());

        assert!(matches!(found(b""), Err(NoArchive::NoName)));
        assert!(matches!(found(&archive), Err(NoArchive::NoName)));
        assert!(matches!(found(&name), Err(NoArchive::NoMatch)));
        let cut = [&archive[..archive.len() - 1], &name].concat();
        assert!(matches!(found(&cut), Err(NoArchive::NoMatch)));
        let mut spoilt = whole.clone();
        spoilt[10] ^= 1;
        assert!(matches!(found(&spoilt), Err(NoArchive::NoMatch)));
        let wrong_name = [&archive[..], &name_of(b"other")].concat();
        assert!(matches!(found(&wrong_name), Err(NoArchive::NoMatch)));
        let upper = String::from_utf8(name.clone()).unwrap().to_uppercase();
        let upper = [
            &archive[..],
            upper.replace(".TAR.ZST", ".tar.zst").as_bytes(),
        ]
        .concat();
        assert!(matches!(found(&upper), Err(NoArchive::NoName)));

        let second = packed(b"second");
        let two = [&whole[..], b"-", &second, &name_of(&second)].concat();
        assert!(matches!(found(&two), Err(NoArchive::Several)));
    }

    #[test]
    fn files_made_to_take_long_are_given_up_soon() {
        let name = name_of(b"none");
        let magics = [MAGIC.repeat(200_000), name.clone()].concat();
        assert!(matches!(found(&magics), Err(NoArchive::TooMany)));
        // frames in a row, none of which is the archive: each would be hashed with all behind it
        let row = [packed(&[7; 3000]).repeat(4000), name.clone()].concat();
        assert!(matches!(found(&row), Err(NoArchive::TooMany)));
        // beginnings of frames that all lead through the same long row of empty blocks
        let begin = [&MAGIC[..], &[0x00, 0x58], &[0x30, 0, 0]].concat();
        let mut blocks = begin.repeat(1000);
        blocks.extend(std::iter::repeat_n([0, 0, 0], 200_000).flatten());
        blocks.extend_from_slice(&name);
        assert!(matches!(found(&blocks), Err(NoArchive::TooMany)));
    }

    proptest! {
        #[test]
        fn no_input_panics(
            parts in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..40),
                    Just(MAGIC.to_vec()),
                    Just(packed(b"x")),
                    Just(name_of(&packed(b"x"))),
                    Just(SUFFIX.to_vec()),
                ],
                0..12,
            )
        ) {
            let bytes = parts.concat();
            if let Ok(archive) = found(&bytes) {
                let start = archive.offset as usize;
                let archive_bytes = &bytes[start..start + archive.length as usize];
                prop_assert_eq!(Digest::sha256_of(archive_bytes).hex(), archive.hash);
            }
        }
    }
}
