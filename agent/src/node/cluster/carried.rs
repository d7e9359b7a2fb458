//! What the stick carries for this machine's k3s.

use std::collections::BTreeSet;
use std::path::Path;

use image_layout::image::{ImageInfo, K3sInfo};
use image_layout::limits;
use image_layout::paths::haul;
use serde::Deserialize;

use super::screens::{self, Failure};
use super::{files, machine};
use crate::node::read_bounded;

/// k3s for this machine, as `haulboot.json` has it; none where the stick carries none at all, since
/// it was built to serve its haul. One for other architectures alone is a failure.
pub(super) fn k3s(image_json: &Path) -> Result<Option<K3sInfo>, Failure> {
    let unreadable = |error: &dyn std::error::Error| screens::no_image(&error.to_string());
    let bytes = read_bounded(image_json, limits::IMAGE_JSON_BYTES);
    let bytes = bytes.map_err(|error| unreadable(&error))?;
    let image: ImageInfo = serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))?;
    if image.arches.values().all(|info| info.k3s.is_none()) {
        return Ok(None);
    }
    match files::carried_k3s(Some(&image)) {
        Ok(k3s) => Ok(Some(k3s)),
        Err(error) => Err(machine::of_files(&error)),
    }
}

/// Bytes of a catalog that are taken in.
const CATALOG_BYTES: u64 = 256 << 20;

/// What counts of a catalog here.
#[derive(Deserialize)]
struct Names {
    artifacts: Vec<Name>,
}

#[derive(Deserialize)]
struct Name {
    #[serde(default)]
    host: Option<String>,
}

/// The registries that the haul's images come from; an error says in words why they can't be read.
pub(super) fn hosts(on_haul: &Path) -> Result<Vec<String>, String> {
    let path = on_haul.join(haul::LAYOUT).join(haul::CATALOG);
    let bytes = read_bounded(&path, CATALOG_BYTES).map_err(|error| error.to_string())?;
    let names: Names = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let hosts: BTreeSet<String> = names.artifacts.into_iter().filter_map(|n| n.host).collect();
    Ok(hosts.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_listed_once_and_charts_have_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(hosts(dir.path()).is_err());
        std::fs::create_dir(dir.path().join(haul::LAYOUT)).unwrap();
        std::fs::write(
            dir.path().join(haul::LAYOUT).join(haul::CATALOG),
            r#"{"format":1,"artifacts":[{"kind":"image","host":"quay.io"},{"kind":"chart"},
               {"kind":"image","host":"docker.io"},{"kind":"image","host":"quay.io"}]}"#,
        )
        .unwrap();
        assert_eq!(hosts(dir.path()).unwrap(), ["docker.io", "quay.io"]);
    }
}
