//! Files to give to `builder --k3s` that are no k3s: the probe in the shape of k3s's launcher.
//!
//! The archive is made as k3s makes it (k3s: scripts/package-cli; k3s-root: scripts/package): the
//! same lists, links to the one program, links in `aux` that k3s replaces at run time. It has
//! [`FILLER`] bytes that no compression makes smaller, so that unpacking it to memory shows.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use image_layout::{Arch, Digest};

use crate::results::target;

/// Changes with the shape, so that files of an older one are not taken.
const SHAPE: u32 = 1;
/// Bytes in the archive that don't compress.
pub const FILLER: usize = 24 << 20;
/// What the filler is made from.
const SEED: u64 = 0x6861_756c_626f_6f74;
/// Every file's time, in seconds since 1970.
const TIME: u64 = 1_764_000_000;
/// As k3s's archive (k3s: scripts/package-cli, `--long=25`).
const WINDOW_LOG: u32 = 25;
/// The file's last bytes, by which the probe knows that an archive lies before them:
/// `tests/probe/src/launcher.rs`.
const MAGIC: &[u8; 8] = b"k3sprobe";

/// Links to the main program, which looks at its own name.
const PROGRAMS: [&str; 14] = [
    "ash",
    "containerd",
    "crictl",
    "ctr",
    "k3s-agent",
    "k3s-certificate",
    "k3s-completion",
    "k3s-etcd-snapshot",
    "k3s-secrets-encrypt",
    "k3s-server",
    "k3s-token",
    "kubectl",
    "modprobe",
    "sh",
];
/// Links to the one program of all network plugins.
const PLUGINS: [&str; 7] = [
    "bandwidth",
    "bridge",
    "firewall",
    "flannel",
    "host-local",
    "loopback",
    "portmap",
];
/// Links that k3s replaces when it knows which kind of iptables the kernel has.
const IPTABLES: [&str; 6] = [
    "ip6tables",
    "ip6tables-restore",
    "ip6tables-save",
    "iptables",
    "iptables-restore",
    "iptables-save",
];

/// The probe in the shape of k3s's launcher. Made once, and kept below `target/launchers`; the same
/// probe gives the same bytes.
///
/// # Errors
/// When the probe is not built, or the file can't be written.
pub fn launcher(arch: Arch) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let path = unknown_shape(arch)?;
    let probe = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let key = Digest::sha256_of(&probe)
        .hex()
        .chars()
        .take(16)
        .collect::<String>();
    let directory = target()
        .join("launchers")
        .join(format!("{arch}-{SHAPE}-{key}"));
    let file = directory.join("k3s");
    if file.is_file() {
        return Ok(file);
    }
    fs::create_dir_all(&directory)?;
    let mut fresh = tempfile::NamedTempFile::new_in(&directory)?;
    write(&probe, fresh.as_file_mut()).with_context(|| format!("writing {}", file.display()))?;
    executable(fresh.as_file())?;
    fresh.persist(&file)?;
    Ok(file)
}

/// The bare probe: runs in place of k3s, and has no archive that a builder could find.
///
/// # Errors
/// When it is not built.
pub fn unknown_shape(arch: Arch) -> Result<PathBuf> {
    let triple = match arch {
        Arch::X86_64 => "x86_64-unknown-linux-musl",
        Arch::Arm64 => "aarch64-unknown-linux-musl",
    };
    let path = target().join(triple).join("release/k3s-probe");
    if !path.is_file() {
        bail!("{} is not there; `make probes` builds it", path.display());
    }
    Ok(path)
}

fn executable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(fs::Permissions::from_mode(0o755))
}

/// Program, archive, and the trailer that names it.
fn write(probe: &[u8], file: &mut File) -> Result<()> {
    let archive = compress(&archive(probe)?)?;
    // somewhere within the file, not at a round number, as a linker would have it
    let padding = [0; 13];
    let offset = (probe.len() + padding.len()) as u64;
    for part in [
        probe,
        &padding,
        &archive,
        Digest::sha256_of(&archive).hex().as_bytes(),
        b".tar.zst",
        &offset.to_le_bytes(),
        &(archive.len() as u64).to_le_bytes(),
        MAGIC,
    ] {
        file.write_all(part)?;
    }
    Ok(())
}

fn compress(tar: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1)?;
    encoder.long_distance_matching(true)?;
    encoder.window_log(WINDOW_LOG)?;
    encoder.include_checksum(true)?;
    encoder.write_all(tar)?;
    encoder.finish()
}

/// The tar archive with `bin/` and `etc/`.
fn archive(probe: &[u8]) -> io::Result<Vec<u8>> {
    let filler = filler();
    let detect: &[u8] = b"#!/bin/sh\n# the probe replaces the links to this file itself\n";
    let files: BTreeMap<&str, &[u8]> = BTreeMap::from([
        ("aux/iptables-detect.sh", detect),
        ("aux/xtables-legacy-multi", b"legacy\n"),
        ("aux/xtables-nft-multi", b"nft\n"),
        ("check-config", b"#!/bin/sh\n"),
        ("cni", b"cni\n"),
        ("containerd-shim-runc-v2", &filler),
        ("k3s", probe),
        ("runc", b"runc\n"),
    ]);
    let mut links = BTreeMap::new();
    links.extend(PROGRAMS.map(|name| (name.to_owned(), "k3s")));
    links.extend(PLUGINS.map(|name| (name.to_owned(), "cni")));
    links.extend(IPTABLES.map(|name| (format!("aux/{name}"), "iptables-detect.sh")));
    links.insert("aux/modprobe".to_owned(), "../modprobe");

    let sums: String = files
        .iter()
        .map(|(name, bytes)| format!("{}  {name}\n", Digest::sha256_of(bytes).hex()))
        .collect();
    let targets: String = links
        .iter()
        .map(|(name, to)| format!("{name} {to}\n"))
        .collect();

    let mut tar = tar::Builder::new(Vec::new());
    for directory in ["./bin/", "./bin/aux/"] {
        member(&mut tar, directory, tar::EntryType::Directory, 0o755, &[])?;
    }
    for (name, bytes) in &files {
        member(
            &mut tar,
            &format!("./bin/{name}"),
            tar::EntryType::Regular,
            0o755,
            bytes,
        )?;
    }
    for (name, text) in [(".sha256sums", &sums), (".links", &targets)] {
        let path = format!("./bin/{name}");
        member(
            &mut tar,
            &path,
            tar::EntryType::Regular,
            0o644,
            text.as_bytes(),
        )?;
    }
    for (name, to) in &links {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, Path::new("./bin").join(name), to)?;
    }
    member(&mut tar, "./etc/", tar::EntryType::Directory, 0o755, &[])?;
    member(
        &mut tar,
        "./etc/rpc",
        tar::EntryType::Regular,
        0o644,
        b"portmapper 100000\n",
    )?;
    tar.into_inner()
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(TIME);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header
}

fn member(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    bytes: &[u8],
) -> io::Result<()> {
    let mut header = header(kind, mode, bytes.len() as u64);
    tar.append_data(&mut header, path, bytes)
}

/// Bytes of a xorshift generator (Marsaglia, 2003).
fn filler() -> Vec<u8> {
    let mut state = SEED;
    let mut bytes = Vec::with_capacity(FILLER);
    while bytes.len() < FILLER {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_probe_gives_the_same_archive_and_its_hash_is_its_name() {
        let mut first = tempfile::tempfile().unwrap();
        let mut second = tempfile::tempfile().unwrap();
        write(b"a probe", &mut first).unwrap();
        write(b"a probe", &mut second).unwrap();
        let [first, second] = [first, second].map(|mut file| {
            use std::io::{Read as _, Seek as _};
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        });
        assert_eq!(Digest::sha256_of(&first), Digest::sha256_of(&second));
        assert!(first.len() > FILLER);
        let trailer = &first[first.len() - 96..];
        let number = |at: usize| {
            usize::try_from(u64::from_le_bytes(trailer[at..at + 8].try_into().unwrap())).unwrap()
        };
        let archive = &first[number(72)..][..number(80)];
        assert_eq!(Digest::sha256_of(archive).hex().as_bytes(), &trailer[..64]);
        assert_eq!(&trailer[64..72], b".tar.zst");
    }
}
