//! What the files of a haul are, by their names.

use image_layout::digest::Digest;
use image_layout::{hauler, paths};

use super::docker::Parts;
use super::error::{HaulError, Place};

/// A file of a haul.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// `blobs/ALGORITHM/HEX`.
    Blob(Digest),
    /// `index.json`.
    Index,
    /// `hauler-index.json`: complete where `index.json` was reduced for containerd.
    HaulerIndex,
    /// `store.json`: which Hauler wrote it.
    StoreJson,
    /// `manifest.json` of `docker save` and of Hauler.
    DockerManifest,
    /// Known and of no use.
    Ignored,
    /// Unknown.
    Stray,
}

/// A name that leaves the haul.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Escapes;

impl Member {
    /// Looks at a name as an archive has it.
    pub(super) fn of(name: &str) -> Result<Member, Escapes> {
        if name.starts_with('/') || name.contains('\0') {
            return Err(Escapes);
        }
        let mut parts = Vec::new();
        for part in name.split('/') {
            match part {
                ".." => return Err(Escapes),
                "" | "." => {}
                part => parts.push(part),
            }
        }
        Ok(match parts.as_slice() {
            ["blobs", algorithm, file] => match Digest::from_parts(algorithm, file) {
                Some(digest) => Member::Blob(digest),
                // left behind by a Hauler that was killed between writing and renaming
                None if file.contains(".tmp-") => Member::Ignored,
                None => Member::Stray,
            },
            [hauler::INDEX] => Member::Index,
            [hauler::HAULER_INDEX] => Member::HaulerIndex,
            ["store.json"] => Member::StoreJson,
            ["manifest.json"] => Member::DockerManifest,
            [hauler::OCI_LAYOUT | paths::haul::CATALOG | "audit.log" | "repositories"] => {
                Member::Ignored
            }
            _ => Member::Stray,
        })
    }
}

/// What reading a haul found besides blobs.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// `index.json`.
    pub(super) index: Option<Vec<u8>>,
    /// `hauler-index.json`.
    pub(super) hauler_index: Option<Vec<u8>>,
    /// `store.json`.
    pub(super) store_json: Option<Vec<u8>>,
    /// `manifest.json`. Hauler writes one too, of any length, and it is needed only if there is no
    /// index: one that is too large is none.
    pub(super) docker_manifest: Option<Vec<u8>>,
    /// Files that `manifest.json` may name.
    pub(super) parts: Parts,
    /// Newest modification time that is not in the future, in seconds since 1970; 0 if none.
    pub(super) newest: u64,
    /// Blobs that were read, and their bytes.
    pub(super) blobs: u64,
    /// See `blobs`.
    pub(super) bytes: u64,
    strays: u64,
    first_stray: String,
}

impl Contents {
    /// Takes a modification time, unless it lies in the future: a bad clock must not set others.
    pub(super) fn saw_time(&mut self, seconds: u64) {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |now| now.as_secs());
        if seconds <= now {
            self.newest = self.newest.max(seconds);
        }
    }

    /// Takes note of a file that is no part of a haul.
    pub(super) fn saw_stray(&mut self, name: &str) {
        if self.strays == 0 {
            self.first_stray = image_layout::text::printable(name);
        }
        self.strays += 1;
    }

    /// Whether this is an archive of `docker save` in its old form, unless there is an index.
    pub(super) fn is_docker_archive(&self) -> bool {
        self.docker_manifest.is_some() && self.parts.len() > 0
    }

    /// Makes strays of what only `manifest.json` would name; links are refused.
    pub(super) fn refuse_parts(&mut self, place: &Place) -> Result<(), HaulError> {
        let parts = std::mem::take(&mut self.parts);
        if let Some(link) = parts.any_link() {
            return Err(HaulError::NotAFile {
                place: Place {
                    entry: Some(link.to_owned()),
                    ..place.clone()
                },
                what: "a link",
            });
        }
        for name in parts.names() {
            self.saw_stray(name);
        }
        Ok(())
    }

    /// One sentence about all strays.
    pub(super) fn strays(&self) -> Option<String> {
        match self.strays {
            0 => None,
            1 => Some(format!(
                "{} is no part of a haul and was skipped",
                self.first_stray
            )),
            n => Some(format!(
                "{} and {} other files are no part of a haul and were skipped",
                self.first_stray,
                n - 1
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_of_every_era_are_understood() {
        let blob = Member::Blob(Digest::sha256_of(b""));
        assert_eq!(Member::of(&format!("blobs/sha256/{HEX}")), Ok(blob));
        assert!(matches!(
            Member::of(&format!("./blobs//sha256/{HEX}")),
            Ok(Member::Blob(_))
        ));
        assert_eq!(Member::of("./index.json"), Ok(Member::Index));
        assert_eq!(
            Member::of(&format!("blobs/sha256/{HEX}.tmp-123")),
            Ok(Member::Ignored)
        );
        assert_eq!(
            Member::of(&format!("blobs/sha256/{}", HEX.to_uppercase())),
            Ok(Member::Stray)
        );
        assert_eq!(Member::of("haul/index.json"), Ok(Member::Stray));
    }

    #[test]
    fn names_that_leave_the_haul_are_told_apart() {
        for name in [
            "/etc/passwd",
            "../x",
            "blobs/../../x",
            "a/..",
            "index.json\0",
        ] {
            assert_eq!(Member::of(name), Err(Escapes), "{name:?}");
        }
        assert_eq!(Member::of("..x/y"), Ok(Member::Stray));
    }

    #[test]
    fn a_time_in_the_future_does_not_count() {
        let mut contents = Contents::default();
        contents.saw_time(1_700_000_000);
        contents.saw_time(u64::MAX);
        contents.saw_time(1);
        assert_eq!(contents.newest, 1_700_000_000);
    }
}
