//! Kernel, initramfs and command line of an image, read from its ESP.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use gpt::disk::LogicalBlockSize;
use image_layout::Arch;
use image_layout::partitions::Partition;
use image_layout::paths::esp;

use super::QemuError;
use crate::image::{Extent, Window};

/// No file on an ESP is larger: kernels have 10 to 15 MB, an initramfs less than 100.
const FILE_BYTES: u64 = 512 << 20;
const ENTRY_BYTES: u64 = 64 << 10;

/// What the boot loader would start for one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFiles {
    /// The kernel.
    pub kernel: Vec<u8>,
    /// The initramfs, all parts of it one after the other.
    pub initramfs: Vec<u8>,
    /// The kernel's command line.
    pub options: String,
}

impl BootFiles {
    /// Reads them from the default entry of the image's boot menu.
    ///
    /// # Errors
    /// [`QemuError::WrongArch`] when the image doesn't boot `arch`; others when it can't be read.
    pub fn extract(image: &Path, arch: Arch) -> Result<BootFiles, QemuError> {
        let has = architectures(image)?;
        if !has.contains(&arch) {
            return Err(QemuError::WrongArch {
                path: image.to_owned(),
                wanted: arch,
                has,
            });
        }
        with_partition(image, Partition::Esp, false, |esp| {
            let (file, text) = default_entry(image, &esp, arch)?;
            let entry = Entry::parse(&text);
            let missing = |what: &str| QemuError::BootFile {
                path: image.to_owned(),
                file: file.clone(),
                why: format!("it has no line {what:?}"),
            };
            let kernel = entry.linux.as_deref().ok_or_else(|| missing("linux"))?;
            if entry.initrds.is_empty() {
                return Err(missing("initrd"));
            }
            let mut initramfs = Vec::new();
            for part in &entry.initrds {
                initramfs.extend(read(image, &esp, part, FILE_BYTES)?);
            }
            Ok(BootFiles {
                kernel: read(image, &esp, kernel, FILE_BYTES)?,
                initramfs,
                options: entry.options,
            })
        })
    }
}

/// The architectures that an image boots.
///
/// # Errors
/// When it can't be read or is no image.
pub fn architectures(image: &Path) -> Result<Vec<Arch>, QemuError> {
    with_partition(image, Partition::Esp, false, |fs| {
        let boots = |arch: &Arch| fs.root_dir().open_file(&esp::boot_loader(*arch)).is_ok();
        Ok(Arch::ALL.into_iter().filter(boots).collect())
    })
}

/// Opens a FAT partition of an image and hands it to `work`.
///
/// # Errors
/// When the image can't be read or lacks the partition, and what `work` returns.
pub fn with_partition<T>(
    image: &Path,
    partition: Partition,
    writable: bool,
    work: impl FnOnce(fatfs::FileSystem<Window>) -> Result<T, QemuError>,
) -> Result<T, QemuError> {
    let read = |source| QemuError::Read {
        path: image.to_owned(),
        source,
    };
    let file = File::options()
        .read(true)
        .write(writable)
        .open(image)
        .map_err(read)?;
    let window = Window::new(Arc::new(file), locate(image, partition)?);
    let fs = fatfs::FileSystem::new(window, fatfs::FsOptions::new()).map_err(read)?;
    work(fs)
}

/// Where a partition lies, found by its name.
fn locate(image: &Path, partition: Partition) -> Result<Extent, QemuError> {
    let disk = gpt::GptConfig::new()
        .writable(false)
        .logical_block_size(LogicalBlockSize::Lb512)
        .only_valid_headers(false)
        .open(image)
        .map_err(|source| QemuError::NoTable {
            path: image.to_owned(),
            source,
        })?;
    let size = *disk.logical_block_size();
    disk.partitions()
        .values()
        .find(|entry| entry.name == partition.name())
        .and_then(|entry| {
            Some(Extent {
                start: entry.bytes_start(size).ok()?,
                bytes: entry.bytes_len(size).ok()?,
            })
        })
        .ok_or(QemuError::NoPartition {
            path: image.to_owned(),
            name: partition.name(),
        })
}

/// The entry that boots without a choice: the one `loader.conf` names, else the first by name.
fn default_entry(
    image: &Path,
    fs: &fatfs::FileSystem<Window>,
    arch: Arch,
) -> Result<(String, String), QemuError> {
    let error = |file: &str, why: String| QemuError::BootFile {
        path: image.to_owned(),
        file: file.to_owned(),
        why,
    };
    let prefix = format!("haulboot-{arch}-");
    let directory = fs
        .root_dir()
        .open_dir("loader/entries")
        .map_err(|why| error("loader/entries", why.to_string()))?;
    let mut names: Vec<String> = directory
        .iter()
        .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
        .filter(|name| name.starts_with(&prefix) && name.ends_with(".conf"))
        .collect();
    names.sort();
    let preferred = read(image, fs, esp::LOADER_CONF, ENTRY_BYTES)
        .ok()
        .and_then(|text| default_pattern(&String::from_utf8_lossy(&text)));
    let name = names
        .iter()
        .find(|name| preferred.as_ref().is_some_and(|p| glob(p, name)))
        .or(names.first())
        .ok_or_else(|| error("loader/entries", format!("it has no entry for {arch}")))?;
    let file = format!("loader/entries/{name}");
    let text = read(image, fs, &file, ENTRY_BYTES)?;
    Ok((file, String::from_utf8_lossy(&text).into_owned()))
}

/// The value of `default` (systemd: loader.conf(5)).
fn default_pattern(text: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.trim().split_once(char::is_whitespace))
        .filter(|(key, _)| *key == "default")
        .map(|(_, value)| value.trim().to_owned())
        .next_back()
}

/// Whether `name` fits a pattern in which `*` stands for anything.
fn glob(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|tail| glob(after, tail)))
        }),
    }
}

/// An entry of the boot menu (Boot Loader Specification, type 1).
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    linux: Option<String>,
    initrds: Vec<String>,
    options: String,
}

impl Entry {
    fn parse(text: &str) -> Entry {
        let mut entry = Entry::default();
        for line in text.lines() {
            let Some((key, value)) = line.trim().split_once(char::is_whitespace) else {
                continue;
            };
            let value = value.trim().to_owned();
            match key {
                "linux" => entry.linux = Some(value),
                "initrd" => entry.initrds.push(value),
                "options" if entry.options.is_empty() => entry.options = value,
                "options" => entry.options = format!("{} {value}", entry.options),
                _ => {}
            }
        }
        entry
    }
}

fn read(
    image: &Path,
    fs: &fatfs::FileSystem<Window>,
    path: &str,
    bound: u64,
) -> Result<Vec<u8>, QemuError> {
    let error = |why: String| QemuError::BootFile {
        path: image.to_owned(),
        file: path.to_owned(),
        why,
    };
    let file = fs
        .root_dir()
        .open_file(path.trim_start_matches('/'))
        .map_err(|why| error(why.to_string()))?;
    let mut contents = Vec::new();
    file.take(bound + 1)
        .read_to_end(&mut contents)
        .map_err(|why| error(why.to_string()))?;
    if contents.len() as u64 > bound {
        return Err(error(format!("it has more than {bound} bytes")));
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_gives_kernel_initramfs_parts_and_the_whole_command_line() {
        let entry = Entry::parse(
            "title Haulboot\n# comment\nlinux   /haulboot/x86_64/vmlinuz\n\
             initrd /a\ninitrd /b\noptions console=tty0\noptions haulboot.built=1\n",
        );
        assert_eq!(
            entry,
            Entry {
                linux: Some("/haulboot/x86_64/vmlinuz".into()),
                initrds: vec!["/a".into(), "/b".into()],
                options: "console=tty0 haulboot.built=1".into(),
            }
        );
    }

    #[test]
    fn the_default_of_the_menu_is_a_pattern() {
        let pattern = default_pattern("timeout 3\ndefault haulboot-*-node.conf\n").unwrap();
        assert!(glob(&pattern, "haulboot-x86_64-node.conf"));
        assert!(!glob(&pattern, "haulboot-x86_64-registry.conf"));
        assert!(glob("*", "anything"));
        assert!(!glob("a", "ab"));
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let error = architectures(file.path()).unwrap_err();
        assert!(matches!(error, QemuError::NoTable { .. }), "{error}");
        let missing = architectures(Path::new("/nowhere/a.img")).unwrap_err();
        assert!(matches!(missing, QemuError::Read { .. }), "{missing}");
    }
}
