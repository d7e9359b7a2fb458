//! Files of the shape of k3s's launcher, with an archive as k3s has it.

use image_layout::{Arch, Digest};
use tar::{EntryType, Header};

use super::elf;

/// The main program in the archive.
pub const MAIN: &[u8] = b"\0main program, rancher/mirrored-pause:3.6 among its strings\0";

/// Names of links in `bin/`, and where they lead.
pub const LINKS: [(&str, &str); 4] = [
    ("aux/iptables", "iptables-detect.sh"),
    ("aux/mount", "../busybox"),
    ("kubectl", "k3s"),
    ("[", "coreutils"),
];

/// Programs in `bin/`.
const PROGRAMS: [(&str, &[u8]); 4] = [
    ("k3s", MAIN),
    ("busybox", b"busybox"),
    ("coreutils", b"coreutils"),
    ("aux/iptables-detect.sh", b"#!/bin/sh\n"),
];

/// The archive, before it is packed.
pub fn archive() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: EntryType, mode: u32, contents: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        match kind {
            EntryType::Symlink => {
                header.set_size(0);
                let target = std::str::from_utf8(contents).unwrap();
                archive.append_link(&mut header, path, target).unwrap();
            }
            _ => {
                header.set_size(contents.len() as u64);
                archive.append_data(&mut header, path, contents).unwrap();
            }
        }
    };
    add("./bin/", EntryType::Directory, 0o775, b"");
    add("./bin/aux/", EntryType::Directory, 0o775, b"");
    let mut sums = String::new();
    for (name, contents) in PROGRAMS {
        add(
            &format!("./bin/{name}"),
            EntryType::Regular,
            0o775,
            contents,
        );
        sums += &format!("{}  {name}\n", Digest::sha256_of(contents).hex());
    }
    let mut links = String::new();
    for (name, target) in LINKS {
        add(
            &format!("./bin/{name}"),
            EntryType::Symlink,
            0o777,
            target.as_bytes(),
        );
        links += &format!("{name} {target}\n");
    }
    add(
        "./bin/.sha256sums",
        EntryType::Regular,
        0o664,
        sums.as_bytes(),
    );
    add("./bin/.links", EntryType::Regular, 0o664, links.as_bytes());
    add("./etc/conf", EntryType::Regular, 0o600, b"conf");
    archive.into_inner().unwrap()
}

/// A launcher with the archive in it, and the name of the directory that it unpacks to.
pub fn launcher(arch: Arch) -> (Vec<u8>, String) {
    launcher_of(arch, &archive())
}

/// A launcher with this archive in it.
pub fn launcher_of(arch: Arch, archive: &[u8]) -> (Vec<u8>, String) {
    let packed = zstd::encode_all(archive, 3).unwrap();
    let hash = Digest::sha256_of(&packed).hex();
    let name = format!("embed/embed/{hash}.tar.zst");
    let rest = [
        b"\0v1.36.3+k3s1\0",
        &packed[..],
        name.as_bytes(),
        b"more strings",
    ];
    (elf(arch.elf_machine(), &rest.concat()), hash)
}
