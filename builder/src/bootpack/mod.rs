//! Boot packs: what a machine of one architecture boots from, in one file.
//!
//! A pack is a tar archive, compressed by zstd: first `bootpack.json` ([`Manifest`]), then every
//! file the manifest names, in the order of their paths:
//!
//! | path | what |
//! |---|---|
//! | `agent` | the agent, a static binary |
//! | `licences/PACKAGE/copyright` | the licences of each package the pack is made of |
//! | `modules/modules.{dep,alias,softdep,builtin}` | depmod's tables, reduced to the packed modules |
//! | `modules/kernel/...` | kernel modules, compressed as the distribution ships them |
//! | `systemd-boot.efi` | the boot loader |
//! | `tools/{ld.so,mke2fs,e2fsck,lib/...}` | programs for file systems on the node, and all they need |
//! | `vmlinuz` | the kernel |
//!
//! Same inputs, same bytes. Opening a pack compares every file with its size and digest.

mod build;
mod error;
mod find;
mod initramfs;
mod list;
mod manifest;
mod modules;
mod open;
mod options;
mod packages;
mod programs;
mod tools;

pub use build::{BuildError, Built, Request, build};
pub use error::BootPackError;
pub use find::PACKS_VARIABLE;
pub use list::{ListError, ModuleList, Selection};
pub use manifest::{FORMAT, FileEntry, Manifest, Package};
pub use modules::{KernelModules, Tables};
pub use open::BootPack;
pub use packages::PackagesError;

pub(crate) use manifest::is_plain_path;

#[cfg(test)]
mod tests;
