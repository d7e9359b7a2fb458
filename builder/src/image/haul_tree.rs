//! Laying out on disk what becomes the partition HAUL.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use image_layout::catalog::{self, Catalog};
use image_layout::image::{BlobTotals, ImageInfo};
use image_layout::paths::{haul, tools};
use image_layout::{digest::Hasher, hauler};

use super::error::ImageError;
use super::ext4::Tree;
use super::inputs::Inputs;
use crate::haul::Loaded;
use crate::k3s::K3sBinary;
use crate::staging;

/// An OCI layout with nothing in it: the registry of an image without a haul.
pub(super) fn no_haul(layout: &Path) -> Result<Loaded, ImageError> {
    let catalog = Catalog {
        format: catalog::FORMAT,
        ..Catalog::default()
    };
    put(
        layout,
        hauler::OCI_LAYOUT,
        b"{\"imageLayoutVersion\":\"1.0.0\"}\n",
    )?;
    put(
        layout,
        hauler::INDEX,
        b"{\"schemaVersion\":2,\"manifests\":[]}\n",
    )?;
    put(layout, haul::CATALOG, &json(&catalog, haul::CATALOG)?)?;
    staging::create_dir_all(&layout.join("blobs/sha256"))
        .map_err(ImageError::io("making", layout))?;
    Ok(Loaded {
        catalog,
        hauls: Vec::new(),
        eras: Vec::new(),
        newest: 0,
        unneeded: BlobTotals::default(),
    })
}

/// A value as a file of JSON; `name` is the file's, for an error.
pub(super) fn json(value: &impl serde::Serialize, name: &str) -> Result<Vec<u8>, ImageError> {
    let mut json = serde_json::to_vec_pretty(value)
        .map_err(|error| ImageError::io("writing", Path::new(name))(error.into()))?;
    json.push(b'\n');
    Ok(json)
}

/// Lays everything of HAUL but the haul itself into `root`.
pub(super) fn lay_out(root: &Path, inputs: &Inputs, info: &ImageInfo) -> Result<(), ImageError> {
    put(root, haul::IMAGE_JSON, &json(info, haul::IMAGE_JSON)?)?;
    for (name, contents) in inputs.secrets() {
        put_secret(&root.join(haul::SECRETS).join(name), &contents)?;
    }
    for (name, contents) in &inputs.manifests.files {
        put(root, &format!("{}/{name}", haul::MANIFESTS), contents)?;
    }
    for pack in &inputs.packs {
        let arch = pack.arch();
        let modules = haul::modules(arch, &pack.manifest().kernel_release);
        for (name, contents) in pack.haul_modules() {
            put(root, &format!("{modules}/{name}"), contents)?;
        }
        let tools = haul::tools(arch);
        for (name, contents) in pack.tools() {
            put(root, &format!("{tools}/{name}"), contents)?;
        }
        let firmware = haul::firmware(arch);
        for (name, contents) in &inputs.firmware {
            put(root, &format!("{firmware}/{name}"), contents)?;
        }
        if let Some(k3s) = inputs.k3s.get(&arch) {
            copy_k3s(k3s, &root.join(haul::k3s(arch)))?;
        }
    }
    Ok(())
}

fn put(root: &Path, name: &str, contents: &[u8]) -> Result<(), ImageError> {
    let path = root.join(name);
    if let Some(parent) = path.parent() {
        staging::create_dir_all(parent).map_err(ImageError::io("making", parent))?;
    }
    fs::write(&path, contents).map_err(ImageError::io("writing", &path))
}

/// Lays down a secret for its owner alone, from the first byte on.
fn put_secret(path: &Path, contents: &[u8]) -> Result<(), ImageError> {
    if let Some(parent) = path.parent() {
        staging::create_private_dir_all(parent).map_err(ImageError::io("making", parent))?;
    }
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(contents))
        .map_err(ImageError::io("writing", path))
}

/// Copies k3s and makes sure that what arrives is what was looked at.
fn copy_k3s(k3s: &K3sBinary, to: &Path) -> Result<(), ImageError> {
    if let Some(parent) = to.parent() {
        staging::create_dir_all(parent).map_err(ImageError::io("making", parent))?;
    }
    let reading = || ImageError::io("reading", &k3s.path);
    let mut from = File::open(&k3s.path).map_err(reading())?.take(k3s.size + 1);
    let mut file = File::create(to).map_err(ImageError::io("writing", to))?;
    let mut hasher = Hasher::sha256();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = from.read(&mut chunk).map_err(reading())?;
        let bytes = chunk.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        file.write_all(bytes)
            .map_err(ImageError::io("writing", to))?;
    }
    if hasher.finish() != k3s.digest {
        return Err(ImageError::Changed(k3s.path.clone()));
    }
    Ok(())
}

/// Permissions on HAUL don't depend on the umask: k3s, what it brings, and the dynamic linker of the
/// tools are programs; secrets are root's alone; nothing else is either.
pub(super) fn set_modes(root: &Path, tree: &Tree, inputs: &Inputs) -> Result<(), ImageError> {
    let mut programs: BTreeSet<String> = inputs.k3s.keys().map(|arch| haul::k3s(*arch)).collect();
    let linkers = inputs.packs.iter().map(|pack| pack.arch());
    programs.extend(linkers.map(|arch| format!("{}/{}", haul::tools(arch), tools::LINKER)));
    for name in tree.files() {
        // set when it was unpacked
        if inputs.is_k3s_data(name) {
            continue;
        }
        let mode = if programs.contains(name) {
            0o755
        } else if is_secret(name) {
            0o600
        } else {
            0o644
        };
        let path = root.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(ImageError::io("setting the permissions of", &path))?;
    }
    Ok(())
}

/// Whether a path on HAUL is root's alone: secrets, and manifests, which may hold some.
pub(super) fn is_secret(path: &str) -> bool {
    let top = path.split('/').next().unwrap_or_default();
    [haul::SECRETS, haul::MANIFESTS].contains(&top)
}
