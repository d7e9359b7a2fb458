//! Firmware in a Debian package: an `ar` archive with `debian-binary`, `control.tar.*` and
//! `data.tar.*` (Debian: deb(5)).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use lzma_rust2::XzReader;

use super::{FILE_BYTES, Firmware, FirmwareError, PLACES, TOTAL_BYTES};
use crate::bootpack::is_plain_path;

/// Memory for xz's dictionary, in KiB; `xz -9`, the most dpkg-deb writes, needs 64 MiB.
const XZ_MEMORY_KIB: u32 = 128 << 10;

/// How many links may lead from one to the next.
const LINKS: usize = 8;

/// Takes the firmware of the package `source`.
pub(super) fn read(source: &Path, firmware: &mut Firmware) -> Result<(), FirmwareError> {
    let file = File::open(source).map_err(|error| FirmwareError::Read {
        path: source.to_owned(),
        source: error,
    })?;
    let no_package = |why: &str| FirmwareError::NotAPackage {
        path: source.to_owned(),
        why: why.to_owned(),
    };
    let mut package = ar::Archive::new(BufReader::new(file));
    let mut first = true;
    while let Some(member) = package.next_entry() {
        let member = match member {
            Ok(member) => member,
            Err(error) if first => return Err(no_package(&error.to_string())),
            Err(error) => return Err(damaged(source, error)),
        };
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        if first && name != "debian-binary" {
            return Err(no_package("it does not begin with debian-binary"));
        }
        first = false;
        let data: Box<dyn Read + '_> = match name.as_str() {
            "data.tar" => Box::new(member),
            "data.tar.gz" => Box::new(GzDecoder::new(member)),
            "data.tar.xz" => Box::new(XzReader::new_mem_limit(member, true, XZ_MEMORY_KIB)),
            "data.tar.zst" => {
                Box::new(zstd::Decoder::new(member).map_err(|error| damaged(source, error))?)
            }
            other if other.starts_with("data.tar") => {
                return Err(no_package(&format!("nothing here reads its {other}")));
            }
            _ => continue,
        };
        return read_data(source, data, firmware);
    }
    Err(no_package("it has no data.tar"))
}

fn read_data(source: &Path, data: impl Read, firmware: &mut Firmware) -> Result<(), FirmwareError> {
    let mut files = BTreeMap::new();
    let mut links = BTreeMap::new();
    let mut archive = tar::Archive::new(data.take(TOTAL_BYTES));
    for entry in archive.entries().map_err(|error| damaged(source, error))? {
        let mut entry = entry.map_err(|error| damaged(source, error))?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(name) = below_firmware(&path) else {
            continue;
        };
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        if !is_plain_path(name) {
            return Err(FirmwareError::Name {
                path: source.to_owned(),
                name: name.to_owned(),
            });
        }
        if kind.is_symlink() || kind.is_hard_link() {
            let target = entry.link_name_bytes().unwrap_or_default();
            let target = String::from_utf8_lossy(&target).into_owned();
            let from = if kind.is_symlink() { path.as_str() } else { "" };
            if let Some(target) = link_target(from, &target) {
                links.insert(name.to_owned(), target);
            }
        } else if kind.is_file() {
            firmware.reserve(source, name, entry.size())?;
            let mut bytes = Vec::new();
            let read = (&mut entry).take(FILE_BYTES).read_to_end(&mut bytes);
            read.map_err(|error| damaged(source, error))?;
            files.insert(name.to_owned(), bytes);
        }
    }
    // decoders compare checksums only at their end, which lies behind the last entry
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| damaged(source, error))?;
    follow(source, &links, &mut files, firmware)?;
    firmware.files.append(&mut files);
    Ok(())
}

/// Gives each link the contents it leads to. Links to what the package does not have stay out.
fn follow(
    source: &Path,
    links: &BTreeMap<String, String>,
    files: &mut BTreeMap<String, Vec<u8>>,
    firmware: &mut Firmware,
) -> Result<(), FirmwareError> {
    for _ in 0..LINKS {
        let mut new = BTreeMap::new();
        for (link, target) in links {
            let directory = format!("{target}/");
            let found = files.iter().filter_map(|(name, bytes)| {
                let rest = if name == target {
                    ""
                } else {
                    name.strip_prefix(&directory)?
                };
                let separator = if name == target { "" } else { "/" };
                Some((format!("{link}{separator}{rest}"), bytes))
            });
            for (name, bytes) in found.filter(|(name, _)| !files.contains_key(name)) {
                firmware.reserve(source, &name, bytes.len() as u64)?;
                new.insert(name, bytes.clone());
            }
        }
        if new.is_empty() {
            break;
        }
        files.append(&mut new);
    }
    Ok(())
}

/// The name below the firmware directory.
fn below_firmware(path: &str) -> Option<&str> {
    let path = path.strip_prefix("./").unwrap_or(path);
    PLACES
        .iter()
        .find_map(|place| path.strip_prefix(place)?.strip_prefix('/'))
}

/// Where a link at `from` leads, as a name below the firmware directory; `None` if elsewhere.
fn link_target(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    if !target.starts_with('/') {
        parts.extend(from.split('/').filter(|part| !matches!(*part, "" | ".")));
        parts.pop();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    below_firmware(&path)
        .filter(|name| is_plain_path(name))
        .map(str::to_owned)
}

fn damaged(source: &Path, error: std::io::Error) -> FirmwareError {
    FirmwareError::Damaged {
        path: source.to_owned(),
        source: error,
    }
}
