//! Reading a boot pack.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use image_layout::{Arch, digest::Digest, paths::tools};

use super::error::BootPackError;
use super::manifest::{FORMAT, FileEntry, Manifest, is_plain_path, path};

/// The largest manifest in bytes; one has some 400 KB.
const MANIFEST_BYTES: u64 = 8 << 20;
/// The largest pack in bytes, unpacked; one has some 80 MB.
const PACK_BYTES: u64 = 1 << 30;

/// A boot pack in memory, every file compared with its digest.
#[derive(Debug)]
pub struct BootPack {
    path: PathBuf,
    manifest: Manifest,
    /// In the order of the paths.
    files: BTreeMap<String, Vec<u8>>,
}

impl BootPack {
    /// Reads a pack and checks all of it.
    pub fn open(path: &Path) -> Result<BootPack, BootPackError> {
        let mut archive = archive(path)?;
        let damaged = |source| BootPackError::Damaged {
            path: path.to_owned(),
            source,
        };
        let mut entries = archive.entries().map_err(damaged)?;
        let manifest = read_manifest(path, &mut entries)?;
        let mut expected = manifest.files.iter();
        let mut files = BTreeMap::new();
        for entry in entries {
            let mut entry = entry.map_err(damaged)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let altered = |why| BootPackError::Altered {
                path: path.to_owned(),
                file: name.clone(),
                why,
            };
            // The order is fixed, so one look tells.
            let Some(file) = expected.next().filter(|file| file.path == name) else {
                return Err(altered("is not where the manifest has it"));
            };
            if entry.size() != file.size {
                return Err(altered("does not have the size of the manifest"));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(damaged)?;
            if Digest::sha256_of(&bytes) != file.sha256 {
                return Err(altered("was altered: its digest is not the manifest's"));
            }
            files.insert(name, bytes);
        }
        if let Some(FileEntry { path: file, .. }) = expected.next() {
            return Err(BootPackError::Altered {
                path: path.to_owned(),
                file: file.clone(),
                why: "is missing",
            });
        }
        // What follows the last file, to the end of the compressed stream with its checksum.
        let mut rest = archive.into_inner().take(PACK_BYTES);
        io::copy(&mut rest, &mut io::sink()).map_err(damaged)?;
        Ok(BootPack {
            path: path.to_owned(),
            manifest,
            files,
        })
    }

    /// What the pack boots.
    pub fn arch(&self) -> Arch {
        self.manifest.arch
    }

    /// What is in the pack and where it comes from.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where the pack lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kernel, a program UEFI starts.
    pub fn kernel(&self) -> &[u8] {
        self.file(path::KERNEL)
    }

    /// `systemd-boot`.
    pub fn boot_loader(&self) -> &[u8] {
        self.file(path::BOOT_LOADER)
    }

    /// The agent's binary.
    pub fn agent(&self) -> &[u8] {
        self.file(path::AGENT)
    }

    /// All modules with depmod's tables for them; paths as below
    /// [`image_layout::paths::haul::modules`].
    pub fn haul_modules(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files
            .iter()
            .filter_map(|(path, bytes)| Some((path.strip_prefix(path::MODULES)?, bytes.as_slice())))
    }

    /// Programs that make and check file systems on the node, with what they need; paths as below
    /// [`image_layout::paths::haul::tools`].
    pub fn tools(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files
            .iter()
            .filter_map(|(path, bytes)| Some((path.strip_prefix(path::TOOLS)?, bytes.as_slice())))
    }

    /// Licences of the packages; paths as in the pack, `licences/PACKAGE/copyright`.
    pub fn licences(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.manifest
            .packages
            .iter()
            .map(|package| (package.licence.as_str(), self.file(&package.licence)))
    }

    /// A file that [`check`] found in the manifest.
    fn file(&self, path: &str) -> &[u8] {
        self.files.get(path).map_or(&[], Vec::as_slice)
    }

    /// A file below `modules/`.
    pub(super) fn module_file(&self, path: &str) -> &[u8] {
        self.file(&format!("{}{path}", path::MODULES))
    }
}

/// Reads no more than the manifest of a pack, unchecked but for its format.
pub(super) fn peek(path: &Path) -> Result<Manifest, BootPackError> {
    let mut archive = archive(path)?;
    let mut entries = archive.entries().map_err(|source| BootPackError::Damaged {
        path: path.to_owned(),
        source,
    })?;
    read_manifest(path, &mut entries)
}

type Archive = tar::Archive<io::Take<zstd::Decoder<'static, BufReader<File>>>>;

fn archive(path: &Path) -> Result<Archive, BootPackError> {
    let failed = |source| BootPackError::Open {
        path: path.to_owned(),
        source,
    };
    // before it is opened: opening a FIFO waits for somebody who writes into it
    if !fs::metadata(path).map_err(failed)?.is_file() {
        let why = io::Error::new(io::ErrorKind::InvalidInput, "it is no file");
        return Err(failed(why));
    }
    let file = File::open(path).map_err(failed)?;
    let decoder = zstd::Decoder::new(file).map_err(failed)?.single_frame();
    Ok(tar::Archive::new(decoder.take(PACK_BYTES)))
}

fn read_manifest(
    path: &Path,
    entries: &mut tar::Entries<'_, impl Read>,
) -> Result<Manifest, BootPackError> {
    let no_pack = |why: String| BootPackError::NotAPack {
        path: path.to_owned(),
        why,
    };
    let mut entry = match entries.next() {
        Some(Ok(entry)) => entry,
        Some(Err(error)) => return Err(no_pack(error.to_string())),
        None => return Err(no_pack("it is empty".to_owned())),
    };
    if *entry.path_bytes() != *path::MANIFEST.as_bytes() || entry.size() > MANIFEST_BYTES {
        return Err(no_pack(format!(
            "it does not begin with {}",
            path::MANIFEST
        )));
    }
    let mut json = Vec::new();
    entry
        .read_to_end(&mut json)
        .map_err(|source| BootPackError::Damaged {
            path: path.to_owned(),
            source,
        })?;
    // The number first: the rest of another format may have another shape.
    #[derive(serde::Deserialize)]
    struct Numbered {
        format: u32,
    }
    let malformed = |error: serde_json::Error| no_pack(format!("{}: {error}", path::MANIFEST));
    let Numbered { format } = serde_json::from_slice(&json).map_err(malformed)?;
    if format != FORMAT {
        return Err(BootPackError::Format {
            path: path.to_owned(),
            found: format,
        });
    }
    let manifest: Manifest = serde_json::from_slice(&json).map_err(malformed)?;
    check(&manifest).map_err(no_pack)?;
    Ok(manifest)
}

/// Whether everything that is asked of a pack later is in its manifest.
fn check(manifest: &Manifest) -> Result<(), String> {
    let release = &manifest.kernel_release;
    if !is_plain_path(release) || release.contains('/') {
        return Err(format!("{release:?} is no kernel release"));
    }
    if let Some(file) = manifest
        .files
        .iter()
        .find(|file| !is_plain_path(&file.path))
    {
        return Err(format!("{:?} is no path inside a pack", file.path));
    }
    let has = |path: &str| manifest.files.iter().any(|file| file.path == path);
    let tables = super::Tables::NAMES
        .iter()
        .map(|name| format!("{}{name}", path::MODULES));
    let programs = [path::KERNEL, path::BOOT_LOADER, path::AGENT].map(str::to_owned);
    let tools = [tools::LINKER, tools::MKE2FS, tools::E2FSCK];
    let tools = tools.map(|name| format!("{}{name}", path::TOOLS));
    let modules = manifest
        .initramfs_modules
        .iter()
        .map(|name| format!("{}{name}", path::MODULES));
    let licences = manifest
        .packages
        .iter()
        .map(|package| package.licence.clone());
    match programs
        .into_iter()
        .chain(tables)
        .chain(tools)
        .chain(licences)
        .chain(modules)
        .find(|path| !has(path))
    {
        Some(path) => Err(format!("its manifest has no {path}")),
        None => Ok(()),
    }
}
