//! The initramfs: the agent as `/init`, and what it takes to reach the stick.
//!
//! A cpio archive in the "newc" format (kernel: Documentation/driver-api/early-userspace/
//! buffer-format.rst), compressed by zstd.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use cpio::NewcBuilder;
use cpio::newc::{ModeFileType, trailer};
use image_layout::paths;

use super::error::BootPackError;
use super::manifest::is_plain_path;
use super::modules::Tables;
use super::open::BootPack;

/// How hard zstd tries. Modules are compressed already; what is left is mostly the agent.
const LEVEL: i32 = 15;

/// What PID 1 mounts upon, and what the kernel needs before PID 1 runs.
const DIRECTORIES: [&str; 5] = ["dev", "proc", "run", "sbin", "sys"];

/// The kernel opens it as PID 1's standard streams before anything is mounted.
const CONSOLE: &str = "dev/console";
const NULL: &str = "dev/null";

/// One entry of the archive.
enum Node<'a> {
    Directory,
    File { mode: u32, bytes: &'a [u8] },
    Link { target: &'a str },
    CharDevice { major: u32, minor: u32 },
}

impl BootPack {
    /// The initramfs with the pack's modules for it, plus device firmware, each by its name
    /// below the firmware directory. Same inputs, same bytes.
    pub fn initramfs(
        &self,
        extra_firmware: &[(String, Vec<u8>)],
    ) -> Result<Vec<u8>, BootPackError> {
        let manifest = self.manifest();
        let modules: BTreeSet<String> = manifest.initramfs_modules.iter().cloned().collect();
        let tables = self.tables().reduced(&modules);
        let directory = paths::initramfs::modules(&manifest.kernel_release);

        let mut nodes = BTreeMap::new();
        let file = |bytes| Node::File { mode: 0o644, bytes };
        for (name, text) in tables.files() {
            nodes.insert(format!("{directory}/{name}"), file(text.as_bytes()));
        }
        for module in &modules {
            nodes.insert(
                format!("{directory}/{module}"),
                file(self.module_file(module)),
            );
        }
        for (name, bytes) in extra_firmware {
            if !is_plain_path(name) {
                return Err(BootPackError::FirmwareName { name: name.clone() });
            }
            nodes.insert(format!("lib/firmware/{name}"), file(bytes));
        }
        let init = Node::File {
            mode: 0o755,
            bytes: self.agent(),
        };
        nodes.insert(paths::initramfs::INIT.to_owned(), init);
        nodes.insert(CONSOLE.to_owned(), Node::CharDevice { major: 5, minor: 1 });
        // Where no console of the command line exists, a program's start opens this instead.
        nodes.insert(NULL.to_owned(), Node::CharDevice { major: 1, minor: 3 });
        // The kernel asks here for what a file system or an algorithm needs.
        nodes.insert("sbin/modprobe".to_owned(), Node::Link { target: "/init" });
        nodes.extend(DIRECTORIES.map(|name| (name.to_owned(), Node::Directory)));
        add_parents(&mut nodes);
        archive(&nodes, manifest.timestamp)
    }

    fn tables(&self) -> Tables {
        let [dep, alias, softdep, builtin] =
            Tables::NAMES.map(|name| String::from_utf8_lossy(self.module_file(name)).into_owned());
        Tables {
            dep,
            alias,
            softdep,
            builtin,
        }
    }
}

/// The kernel makes no directory that the archive does not name. Sorting puts it first.
fn add_parents(nodes: &mut BTreeMap<String, Node<'_>>) {
    let paths: Vec<String> = nodes.keys().cloned().collect();
    for path in paths {
        for (slash, _) in path.match_indices('/') {
            if let Some(parent) = path.get(..slash) {
                nodes.entry(parent.to_owned()).or_insert(Node::Directory);
            }
        }
    }
}

fn archive(nodes: &BTreeMap<String, Node<'_>>, timestamp: u64) -> Result<Vec<u8>, BootPackError> {
    let compress = |source| BootPackError::Compress { source };
    // The format has 32 bits for the time, until 2106.
    let time = u32::try_from(timestamp).unwrap_or(u32::MAX);
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL).map_err(compress)?;
    for (number, (path, node)) in (1_u32..).zip(nodes) {
        encoder = append(encoder, number, path, node, time)?;
    }
    trailer(encoder)
        .and_then(zstd::Encoder::finish)
        .map_err(compress)
}

fn append<W: Write>(
    archive: W,
    number: u32,
    path: &str,
    node: &Node<'_>,
    time: u32,
) -> Result<W, BootPackError> {
    let entry = NewcBuilder::new(path).ino(number).mtime(time);
    let (entry, bytes): (_, &[u8]) = match node {
        Node::Directory => (
            entry
                .mode(0o755)
                .set_mode_file_type(ModeFileType::Directory),
            &[],
        ),
        Node::File { mode, bytes } => (
            entry.mode(*mode).set_mode_file_type(ModeFileType::Regular),
            bytes,
        ),
        Node::Link { target } => (
            entry.mode(0o777).set_mode_file_type(ModeFileType::Symlink),
            target.as_bytes(),
        ),
        Node::CharDevice { major, minor } => {
            let entry = entry.mode(0o600).set_mode_file_type(ModeFileType::Char);
            (entry.rdev_major(*major).rdev_minor(*minor), &[])
        }
    };
    let size = u32::try_from(bytes.len()).map_err(|_| BootPackError::TooLarge {
        name: path.to_owned(),
        size: bytes.len() as u64,
    })?;
    let written = || -> io::Result<W> {
        let mut writer = entry.write(archive, size);
        writer.write_all(bytes)?;
        writer.finish()
    };
    written().map_err(|source| BootPackError::Compress { source })
}
