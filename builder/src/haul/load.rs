//! From paths to a complete OCI layout with its catalog.

use std::fs;
use std::path::{Path, PathBuf};

use image_layout::catalog::Catalog;
use image_layout::image::{BlobTotals, HaulInfo};
use image_layout::{hauler, limits, paths};

use super::error::{HaulError, Place};
use super::input::Input;
use super::merge::Merged;
use super::store::{Keep, Store, UNNAMED};
use super::{Era, archive, directory};
use crate::progress::Progress;
use crate::staging::{self, Staging};

/// What hauls contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What is in them, under which names.
    pub catalog: Catalog,
    /// The hauls in the order given, chunks joined.
    pub hauls: Vec<HaulInfo>,
    /// Who wrote each of them.
    pub eras: Vec<Era>,
    /// Newest modification time recorded in them that is not in the future, in seconds since 1970;
    /// 0 if there is none.
    pub newest: u64,
    /// Blobs that nothing in the hauls needs; they were left out.
    pub unneeded: BlobTotals,
}

/// Reads hauls into the directory `layout`, which must not exist or be empty.
///
/// Afterwards it holds a complete OCI layout: `oci-layout`, `index.json`, `blobs/`, and
/// `catalog.json` beside them; nothing else. Every blob was hashed while it was written. Of two
/// hauls with the same name for different contents the later wins. All warnings, those of the
/// catalog too, go to `progress`. On an error nothing stays behind.
pub fn load(
    inputs: &[PathBuf],
    layout: &Path,
    progress: &dyn Progress,
) -> Result<Loaded, HaulError> {
    let inputs = Input::resolve(inputs)?;
    let made = prepare(layout)?;
    let outcome = read(&inputs, layout, Keep::All, progress)
        .and_then(|(loaded, index)| write(layout, &index, &loaded.catalog).map(|()| loaded));
    match outcome {
        Ok(loaded) => {
            for warning in &loaded.catalog.warnings {
                progress.warn(warning);
            }
            Ok(loaded)
        }
        Err(error) => {
            clear(layout, made);
            Err(error)
        }
    }
}

/// Reads hauls to their ends and checks every digest, as [`load`] does, and keeps nothing.
/// Warnings about contents are in the catalog, and only there.
pub fn inspect(inputs: &[PathBuf], progress: &dyn Progress) -> Result<Loaded, HaulError> {
    let inputs = Input::resolve(inputs)?;
    let place = staging::scratch_place();
    let scratch = Staging::new(&place, "haulboot.partial-", "", 0o700).map_err(|source| {
        HaulError::Write {
            path: place.clone(),
            source,
        }
    })?;
    read(&inputs, scratch.path(), Keep::Manifests, progress).map(|(loaded, _)| loaded)
}

/// Makes the directory if it is not there; returns whether it made it.
fn prepare(layout: &Path) -> Result<bool, HaulError> {
    let path = || layout.to_owned();
    match fs::read_dir(layout) {
        Ok(mut entries) => match entries.next() {
            None => Ok(false),
            Some(_) => Err(HaulError::Exists { path: path() }),
        },
        Err(_) if fs::symlink_metadata(layout).is_ok() => Err(HaulError::Exists { path: path() }),
        Err(_) => staging::create_dir_all(layout)
            .map(|()| true)
            .map_err(|source| HaulError::Write {
                path: path(),
                source,
            }),
    }
}

/// Removes what [`load`] wrote; what can't be removed is not worth a second error.
fn clear(layout: &Path, made: bool) {
    if made {
        let _ = fs::remove_dir_all(layout);
        return;
    }
    for directory in ["blobs", UNNAMED] {
        let _ = fs::remove_dir_all(layout.join(directory));
    }
    for file in [hauler::INDEX, hauler::OCI_LAYOUT, paths::haul::CATALOG] {
        let _ = fs::remove_file(layout.join(file));
    }
}

fn read(
    inputs: &[Input],
    layout: &Path,
    keep: Keep,
    progress: &dyn Progress,
) -> Result<(Loaded, Vec<u8>), HaulError> {
    let mut store = Store::new(layout, keep);
    let mut merged = Merged::default();
    let mut eras = Vec::new();
    let mut newest = 0;
    for input in inputs {
        let name = image_layout::text::printable(&input.name());
        progress.begin(&format!("reading {name}"), input.size());
        let mut contents = match input {
            Input::Directory(path) => directory::read(path, &mut store, progress)?,
            Input::Archive { files, .. } => archive::read(files.clone(), &mut store, progress)?,
        };
        progress.end(&format!(
            "{name}: {} blobs, {}, every digest right",
            contents.blobs,
            Bytes(contents.bytes)
        ));
        newest = newest.max(contents.newest);
        let place = Place::of(input.path());
        // index.json may have been reduced for containerd; then the whole one lies beside it
        let entries = match (
            contents.hauler_index.take().or(contents.index.take()),
            input,
        ) {
            (Some(index), _) => {
                contents.refuse_parts(&place)?;
                if let Some(strays) = contents.strays() {
                    progress.warn(&format!("{name}: {strays}"));
                }
                let entries = Catalog::entries(&index).map_err(|source| HaulError::Catalog {
                    haul: name.clone(),
                    source: Box::new(source),
                })?;
                eras.push(Era::of(&entries, contents.store_json.as_deref()));
                entries
            }
            (None, Input::Archive { .. }) if contents.is_docker_archive() => {
                let manifest = contents.docker_manifest.take().unwrap_or_default();
                eras.push(Era::DockerArchive);
                contents.parts.entries(&manifest, &mut store, &place)?
            }
            (None, _) => {
                return Err(HaulError::NoIndex {
                    path: input.path().to_owned(),
                    docker: contents.docker_manifest.is_some() && contents.blobs == 0,
                });
            }
        };
        store.drop_unnamed()?;
        merged.add(name, entries, &store);
    }
    merged.join(&mut store)?;
    let index = merged.index_json().map_err(|error| HaulError::Write {
        path: layout.join(hauler::INDEX),
        source: error.into(),
    })?;
    if index.len() as u64 > limits::INDEX_JSON_BYTES {
        return Err(HaulError::IndexTooLarge(index.len() as u64));
    }
    let mut catalog = Catalog::build(&index, &store).map_err(|source| HaulError::Catalog {
        haul: merged.blame(&source),
        source: Box::new(source),
    })?;
    catalog
        .warnings
        .splice(0..0, merged.warnings().iter().cloned());
    let unneeded = store.drop_unneeded(&catalog)?;
    if unneeded.count > 0 {
        progress.warn(&format!(
            "left out {} blobs ({}) that nothing in the haul needs",
            unneeded.count,
            Bytes(unneeded.bytes)
        ));
    }
    let hauls = inputs.iter().map(|input| HaulInfo { name: input.name() });
    let loaded = Loaded {
        catalog,
        hauls: hauls.collect(),
        eras,
        newest,
        unneeded,
    };
    Ok((loaded, index))
}

fn write(layout: &Path, index: &[u8], catalog: &Catalog) -> Result<(), HaulError> {
    let catalog = serde_json::to_vec(catalog).map_err(|error| HaulError::Write {
        path: layout.join(paths::haul::CATALOG),
        source: error.into(),
    })?;
    for (name, bytes) in [
        (
            hauler::OCI_LAYOUT,
            br#"{"imageLayoutVersion":"1.0.0"}"#.as_slice(),
        ),
        (hauler::INDEX, index),
        (paths::haul::CATALOG, &catalog),
    ] {
        let path = layout.join(name);
        fs::write(&path, bytes).map_err(|source| HaulError::Write { path, source })?;
    }
    Ok(())
}

/// Bytes as a person reads them: `1.2 MiB`.
pub(crate) struct Bytes(pub(crate) u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        indicatif::HumanBytes(self.0).fmt(f)
    }
}
