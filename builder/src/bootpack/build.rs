//! Making a boot pack out of fetched packages, module lists and the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use image_layout::{Arch, digest::Digest};

use super::list::{ListError, ModuleList};
use super::manifest::{FORMAT, FileEntry, Manifest, path};
use super::modules::{KernelModules, Tables};
use super::packages::{Fetched, PackagesError};
use super::{options, programs, tools};

/// How hard zstd tries. Most of a pack is compressed already; the rest gains little above this.
const LEVEL: i32 = 15;

/// What to make a pack of.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What it shall boot.
    pub arch: Arch,
    /// What `firmware/fetch.sh` filled: `packages.tsv` and `root/`.
    pub packages: &'a Path,
    /// The agent's binary.
    pub agent: &'a Path,
    /// A directory with `initramfs.list`, `haul.list` and `kernel.options`.
    pub lists: &'a Path,
    /// The pack to write; replaced only when the new one is complete.
    pub output: &'a Path,
}

/// A pack that was written.
#[derive(Debug)]
pub struct Built {
    /// What is in it.
    pub manifest: Manifest,
    /// Its size in bytes.
    pub size: u64,
    /// Lines of the lists that select nothing.
    pub warnings: Vec<String>,
}

/// A pack could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The list of packages.
    #[error(transparent)]
    Packages(#[from] PackagesError),
    /// A module list.
    #[error(transparent)]
    List(#[from] ListError),
    /// A file can't be read.
    #[error("reading {}", .path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what a pack needs.
    #[error("{} {why}", .path.display())]
    Unfit {
        /// The file or directory.
        path: PathBuf,
        /// The end of the sentence.
        why: String,
    },
    /// The pack can't be written.
    #[error("writing {}", .path.display())]
    Write {
        /// The pack.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl BuildError {
    /// What a person can do about it, one line.
    pub fn help(&self) -> &'static str {
        match self {
            BuildError::Packages(_) => "run firmware/fetch.sh first",
            BuildError::List(_) => "mend the line; docs/drivers.md has the syntax",
            BuildError::Read { .. } | BuildError::Unfit { .. } => {
                "run firmware/fetch.sh --refresh, and build the agent for this architecture"
            }
            BuildError::Write { .. } => "check the directory and the free space",
        }
    }
}

/// Makes a pack. Same inputs, same bytes.
pub fn build(request: &Request<'_>) -> Result<Built, BuildError> {
    let fetched = Fetched::read(request.packages)?;
    let root = request.packages.join("root");
    let modules_dir = modules_directory(&root)?;
    let kernel_release = modules_dir
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    check_options(
        request,
        &root.join("boot").join(format!("config-{kernel_release}")),
    )?;
    let tables = read_tables(&modules_dir)?;
    let kernel = KernelModules::parse(&tables);
    let chosen = choose(request, &kernel)?;

    let mut files = BTreeMap::new();
    for (name, text) in tables.reduced(&chosen.all).files() {
        files.insert(format!("{}{name}", path::MODULES), text.as_bytes().to_vec());
    }
    for module in &chosen.all {
        files.insert(
            format!("{}{module}", path::MODULES),
            read(&modules_dir.join(module))?,
        );
    }
    for package in &fetched.packages {
        let copyright = root
            .join("usr/share/doc")
            .join(&package.name)
            .join("copyright");
        files.insert(package.licence.clone(), read(&copyright)?);
    }
    for (name, _, bytes) in tools::collect(&root, request.arch)? {
        files.insert(format!("{}{name}", path::TOOLS), bytes);
    }
    let programs: [(&str, PathBuf, Check); 3] = [
        (
            path::KERNEL,
            root.join("boot").join(format!("vmlinuz-{kernel_release}")),
            programs::check_efi,
        ),
        (
            path::BOOT_LOADER,
            root.join(boot_loader(request.arch)),
            programs::check_efi,
        ),
        (
            path::AGENT,
            request.agent.to_owned(),
            programs::check_static_elf,
        ),
    ];
    for (name, from, check) in programs {
        let bytes = read(&from)?;
        check(&bytes, request.arch).map_err(|why| BuildError::Unfit { path: from, why })?;
        files.insert(name.to_owned(), bytes);
    }

    let manifest = Manifest {
        format: FORMAT,
        arch: request.arch,
        kernel_release,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        timestamp: fetched.newest,
        packages: fetched.packages,
        initramfs_modules: chosen.initramfs.into_iter().collect(),
        files: files
            .iter()
            .map(|(path, bytes)| FileEntry {
                path: path.clone(),
                size: bytes.len() as u64,
                sha256: Digest::sha256_of(bytes),
            })
            .collect(),
    };
    let size = write(request.output, &manifest, &files).map_err(|source| BuildError::Write {
        path: request.output.to_owned(),
        source,
    })?;
    Ok(Built {
        manifest,
        size,
        warnings: chosen.warnings,
    })
}

type Check = fn(&[u8], Arch) -> Result<(), String>;

/// Where the package systemd-boot-efi puts the boot loader.
fn boot_loader(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
        Arch::Arm64 => "usr/lib/systemd/boot/efi/systemd-bootaa64.efi",
    }
}

/// The one directory of modules. Debian 13 has them below `usr/`, older releases do not.
fn modules_directory(root: &Path) -> Result<PathBuf, BuildError> {
    let parent = ["usr/lib/modules", "lib/modules"]
        .iter()
        .map(|path| root.join(path))
        .find(|path| path.is_dir())
        .unwrap_or_else(|| root.join("usr/lib/modules"));
    let failed = |source| BuildError::Read {
        path: parent.clone(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(&parent).map_err(failed)? {
        found.push(entry.map_err(failed)?.path());
    }
    match <[PathBuf; 1]>::try_from(found) {
        Ok([only]) => Ok(only),
        Err(found) => Err(BuildError::Unfit {
            why: format!(
                "holds the modules of {} kernels instead of one",
                found.len()
            ),
            path: parent,
        }),
    }
}

/// Refuses a kernel that lacks what Haulboot or Kubernetes can't do without.
fn check_options(request: &Request<'_>, config: &Path) -> Result<(), BuildError> {
    let required = read_text(&request.lists.join("kernel.options"))?;
    let unmet = options::unmet(&required, &read_text(config)?).join(", ");
    if unmet.is_empty() {
        return Ok(());
    }
    Err(BuildError::Unfit {
        path: config.to_owned(),
        why: format!("lacks {unmet}"),
    })
}

fn read_tables(directory: &Path) -> Result<Tables, BuildError> {
    let [dep, alias, softdep, builtin] = Tables::NAMES.map(|name| read_text(&directory.join(name)));
    Ok(Tables {
        dep: dep?,
        alias: alias?,
        softdep: softdep?,
        builtin: builtin?,
    })
}

/// The modules of a pack.
struct Chosen {
    initramfs: BTreeSet<String>,
    /// Those of the initramfs among them.
    all: BTreeSet<String>,
    warnings: Vec<String>,
}

fn choose(request: &Request<'_>, kernel: &KernelModules) -> Result<Chosen, BuildError> {
    let select = |name: &str| -> Result<_, BuildError> {
        let path = request.lists.join(name);
        let list = ModuleList::parse(&path, &read_text(&path)?)?;
        Ok(list.select(kernel, request.arch))
    };
    let first = select("initramfs.list")?;
    let second = select("haul.list")?;
    let initramfs = kernel.with_dependencies(first.paths);
    let mut all = kernel.with_dependencies(second.paths);
    all.extend(initramfs.iter().cloned());
    let warnings = first.warnings.into_iter().chain(second.warnings).collect();
    Ok(Chosen {
        initramfs,
        all,
        warnings,
    })
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(|source| BuildError::Read {
        path: path.to_owned(),
        source,
    })
}

fn read_text(path: &Path) -> Result<String, BuildError> {
    fs::read_to_string(path).map_err(|source| BuildError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Writes the archive beside its place and moves it there. Returns its size.
fn write(output: &Path, manifest: &Manifest, files: &BTreeMap<String, Vec<u8>>) -> io::Result<u64> {
    let directory = match output.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory)?;
    let file = tempfile::Builder::new()
        .prefix(".bootpack-")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(directory)?;

    let mut encoder = zstd::Encoder::new(BufWriter::new(file), LEVEL)?;
    encoder.include_checksum(true)?;
    let mut archive = tar::Builder::new(encoder);
    let mut json = serde_json::to_vec_pretty(manifest)?;
    json.push(b'\n');
    append(&mut archive, path::MANIFEST, &json, manifest.timestamp)?;
    for (path, bytes) in files {
        append(&mut archive, path, bytes, manifest.timestamp)?;
    }
    let mut writer = archive.into_inner()?.finish()?;
    writer.flush()?;
    let file = writer
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    let size = file.as_file().metadata()?.len();
    file.persist(output).map_err(|error| error.error)?;
    Ok(size)
}

/// Appends a file with nothing of this machine about it.
fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &str,
    bytes: &[u8],
    timestamp: u64,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(bytes.len() as u64);
    header.set_mode(if path == path::AGENT { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(timestamp);
    archive.append_data(&mut header, path, bytes)
}
