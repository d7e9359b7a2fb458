//! Which program wrote a haul.

use std::fmt;

use image_layout::hauler;
use image_layout::oci::{Descriptor, annotation};
use serde::Deserialize;

/// The writer of a haul, as far as it can be told from the haul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Era {
    /// Hauler 1: kinds begin with `dev.cosignproject.cosign/`.
    Hauler1,
    /// Hauler 2.0: kinds begin with `dev.hauler/`.
    Hauler2,
    /// Hauler 2.1 and later: entries say where they came from; the release, where it is recorded.
    Hauler21(Option<String>),
    /// No kinds: some other tool's OCI layout, such as an archive of Docker or podman.
    OciLayout,
    /// `docker save` before Docker 25: `manifest.json` and no layout.
    DockerArchive,
}

impl Era {
    /// Judges by the entries of the index and by `store.json`.
    pub(super) fn of(entries: &[Descriptor], store_json: Option<&[u8]>) -> Era {
        #[derive(Deserialize)]
        struct StoreJson {
            #[serde(rename = "hauler-version")]
            version: String,
        }
        let store = store_json.and_then(|json| serde_json::from_slice::<StoreJson>(json).ok());
        // a build between releases calls itself by its branch
        let release = store.as_ref().and_then(|store| {
            let release = store.version.trim_start_matches('v');
            let numbered = release.starts_with(|c: char| c.is_ascii_digit());
            numbered.then(|| image_layout::text::printable(release))
        });
        let kind = |prefix: &str| {
            entries.iter().any(|entry| {
                entry
                    .annotation(annotation::KIND)
                    .is_some_and(|kind| kind.starts_with(prefix))
            })
        };
        if store.is_some()
            || entries
                .iter()
                .any(|e| e.annotation(hauler::ORIGINAL_REF).is_some())
        {
            Era::Hauler21(release)
        } else if kind("dev.hauler/") {
            Era::Hauler2
        } else if kind("dev.cosignproject.cosign/") {
            Era::Hauler1
        } else {
            Era::OciLayout
        }
    }
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Era::Hauler1 => f.write_str("Hauler 1"),
            Era::Hauler2 => f.write_str("Hauler 2.0"),
            Era::Hauler21(Some(version)) => write!(f, "Hauler {version}"),
            Era::Hauler21(None) => f.write_str("Hauler 2.1 or later"),
            Era::OciLayout => f.write_str("OCI layout"),
            Era::DockerArchive => f.write_str("docker save"),
        }
    }
}
