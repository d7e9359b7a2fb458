//! `bootpack.json`: what is in a boot pack and where it comes from.

use std::path::{Component, Path};

use image_layout::{Arch, digest::Digest};
use serde::{Deserialize, Serialize};

/// The format this builder writes and reads.
pub const FORMAT: u32 = 2;

/// Paths inside a pack.
pub(crate) mod path {
    pub(crate) const MANIFEST: &str = "bootpack.json";
    pub(crate) const KERNEL: &str = "vmlinuz";
    pub(crate) const BOOT_LOADER: &str = "systemd-boot.efi";
    pub(crate) const AGENT: &str = "agent";
    /// Modules and depmod's tables lie below, as below `/lib/modules/RELEASE`.
    pub(crate) const MODULES: &str = "modules/";
    /// Programs for file systems, as below `arch/ARCH/tools` of HAUL.
    pub(crate) const TOOLS: &str = "tools/";

    pub(crate) fn licence(package: &str) -> String {
        format!("licences/{package}/copyright")
    }
}

/// What is in a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The architecture the pack boots.
    pub arch: Arch,
    /// `uname -r` of the kernel; names the directory of its modules.
    pub kernel_release: String,
    /// Version of the agent.
    pub agent_version: String,
    /// The newest modification time inside the packages, in seconds since 1970.
    pub timestamp: u64,
    /// The packages that kernel, modules, boot loader and tools come from.
    pub packages: Vec<Package>,
    /// Modules that go into the initramfs, by their path below the directory of the modules.
    /// All modules of the pack go onto HAUL.
    pub initramfs_modules: Vec<String>,
    /// Every file but the manifest, in the order of the archive.
    pub files: Vec<FileEntry>,
}

/// A package of the distribution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Package {
    /// `linux-image-6.12.1-amd64`.
    pub name: String,
    /// The distribution's version.
    pub version: String,
    /// The distribution's name of the architecture.
    pub architecture: String,
    /// The source package, with its version where that differs: `linux-signed-amd64 (6.12.1+1)`.
    pub source: String,
    /// Size of the package in bytes.
    pub size: u64,
    /// Digest of the package as the distribution ships it.
    pub sha256: Digest,
    /// The file of the pack with the package's licences.
    pub licence: String,
}

/// A file of a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileEntry {
    /// Path inside the pack.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Digest of the contents.
    pub sha256: Digest,
}

/// Whether a path is relative and stays where it is: no root, no `.` and `..`, nothing empty.
pub(crate) fn is_plain_path(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\\', '\0'])
        && !path.split('/').any(|part| part.is_empty() || part == ".")
        && Path::new(path)
            .components()
            .all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_its_directory_is_not_plain() {
        for plain in ["vmlinuz", "a/b.ko.xz", "a/..b", "x y"] {
            assert!(is_plain_path(plain), "{plain}");
        }
        for other in [
            "", "/a", "a//b", "a/", "../a", "a/../b", "./a", "a/.", "..\\a", "a\0",
        ] {
            assert!(!is_plain_path(other), "{other:?}");
        }
    }
}
