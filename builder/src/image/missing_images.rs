//! Finding at build time what would keep pods from starting: images that k3s needs and no haul has.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use image_layout::catalog::{ArtifactKind, BlobEntry, Catalog};
use image_layout::reference::Reference;

use super::error::ImageError;
use super::inputs::Inputs;
use super::request::Request;
use crate::k3s::K3sBinary;
use crate::k3s_images::{self, ListError, MissingImages, Needs};

/// Compares what k3s needs with what is in `catalog`; `layout` has its blobs.
///
/// # Errors
/// If images are missing and that is not allowed, or a list of them can't be read.
pub(super) fn check(
    request: &Request,
    inputs: &mut Inputs,
    catalog: &Catalog,
    layout: &Path,
) -> Result<(), ImageError> {
    if !inputs.runs_k3s() {
        return Ok(());
    }
    let charts = inputs.manifests.files.values().any(|file| has_chart(file));
    let needs = Needs::of(&inputs.cluster, charts);
    let mut missing = BTreeMap::new();
    let mut warnings = Vec::new();
    for (arch, k3s) in &inputs.k3s {
        let list = list(request, k3s, catalog, layout)?;
        let built_in = match inputs.k3s_data.get(arch) {
            Some(data) => data.pause_image.clone(),
            None => k3s.pause_image(),
        };
        if list.is_none() && built_in.is_none() {
            warnings.push(format!(
                "which images k3s for {arch} needs is not known: give the k3s-images.txt of its \
                 release with --k3s-images"
            ));
        }
        match needs.images(&list.unwrap_or_default(), built_in.as_deref()) {
            Ok(needed) => {
                let found = k3s_images::missing(&needed, *arch, catalog);
                if !found.is_empty() {
                    missing.insert(*arch, found);
                }
            }
            Err(error) => warnings.push(format!(
                "the images that `k3s:` in cluster.yaml names can't be looked for: {error}"
            )),
        }
    }
    inputs.warnings.append(&mut warnings);
    if missing.is_empty() {
        return Ok(());
    }
    if !request.allow_missing_images {
        return Err(MissingImages(missing).into());
    }
    for (arch, images) in missing {
        inputs.warnings.extend(images.iter().map(|(image, lacks)| {
            format!("k3s on {arch} needs {image}, and {lacks}: pods that use it will not start")
        }));
    }
    Ok(())
}

/// Whether a manifest has a `HelmChart`, by the group of that kind (k3s-io/helm-controller:
/// pkg/apis/helm.cattle.io).
fn has_chart(manifest: &[u8]) -> bool {
    memchr::memmem::find(manifest, b"helm.cattle.io/").is_some()
}

/// The list for a binary: the one that was named, else the one beside it, else one in the hauls.
fn list(
    request: &Request,
    k3s: &K3sBinary,
    catalog: &Catalog,
    layout: &Path,
) -> Result<Option<Vec<Reference>>, ListError> {
    if let Some(path) = &request.k3s_images {
        let not_there = || ListError::Read {
            path: path.clone(),
            source: io::ErrorKind::NotFound.into(),
        };
        return k3s_images::read(path)?.ok_or_else(not_there).map(Some);
    }
    if let Some(list) = k3s_images::read(&k3s.path.with_file_name(k3s_images::FILE))? {
        return Ok(Some(list));
    }
    let Some(blob) = in_hauls(catalog) else {
        return Ok(None);
    };
    let path = layout.join(blob.digest.blob_path());
    let text = contents(&path).map_err(|source| ListError::Read {
        path: path.clone(),
        source,
    })?;
    k3s_images::parse("k3s-images.txt of the haul", &text).map(Some)
}

/// The file of that name in the hauls.
fn in_hauls(catalog: &Catalog) -> Option<BlobEntry> {
    catalog
        .of_kind(ArtifactKind::File)
        .filter(|file| file.title.as_deref() == Some(k3s_images::FILE))
        .find_map(|file| file.content)
}

/// A blob's bytes, one more than any list has at most, so that a larger one is noticed.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?
        .take((1 << 20) + 1)
        .read_to_end(&mut text)?;
    Ok(text)
}
