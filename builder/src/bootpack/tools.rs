//! Programs that make and check file systems on the node, with all that they need to start there.
//!
//! A node has no shared libraries and no dynamic linker of its own, so both lie beside the
//! programs, and every library that any of them names is in the pack: a look at the dynamic
//! section of each, as `readelf -d` shows it, tells.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use image_layout::Arch;
use image_layout::paths::tools;
use object::Endianness;
use object::elf::{DT_NEEDED, DT_STRSZ, DT_STRTAB, FileHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use super::build::BuildError;

/// Where e2fsprogs has its programs.
const PROGRAMS: [&str; 2] = [tools::MKE2FS, tools::E2FSCK];

/// Files below [`super::manifest::path::TOOLS`] with where they come from.
pub(super) fn collect(
    root: &Path,
    arch: Arch,
) -> Result<Vec<(String, PathBuf, Vec<u8>)>, BuildError> {
    let (triplet, linker) = match arch {
        Arch::X86_64 => ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
        Arch::Arm64 => ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
    };
    let libraries = root.join("usr/lib").join(triplet);
    let mut files = Vec::new();
    let mut wanted = Vec::new();
    let mut add = |name: String, path: PathBuf| -> Result<Vec<String>, BuildError> {
        let bytes = super::build::read(&path)?;
        let needed = needed(&bytes, arch).map_err(|why| BuildError::Unfit {
            path: path.clone(),
            why,
        })?;
        files.push((name, path, bytes));
        Ok(needed)
    };
    add(tools::LINKER.to_owned(), libraries.join(linker))?;
    for program in PROGRAMS {
        wanted.extend(add(
            program.to_owned(),
            root.join("usr/sbin").join(program),
        )?);
    }
    // the linker in the place of the library is itself, loaded already
    let mut seen = BTreeSet::from([linker.to_owned()]);
    while let Some(library) = wanted.pop() {
        if seen.insert(library.clone()) {
            let name = format!("{}/{library}", tools::LIBRARIES);
            wanted.extend(add(name, libraries.join(&library))?);
        }
    }
    Ok(files)
}

/// The libraries that a program or library names. Fails with the end of a sentence.
fn needed(bytes: &[u8], arch: Arch) -> Result<Vec<String>, String> {
    let no_elf = |_: object::Error| "is no 64-bit ELF file".to_owned();
    let header = FileHeader64::<Endianness>::parse(bytes).map_err(no_elf)?;
    let endian = header.endian().map_err(no_elf)?;
    let machine = header.e_machine.get(endian);
    if machine.0 != arch.elf_machine() {
        return Err(format!("is for ELF machine {}, not for {arch}", machine.0));
    }
    let segments = header.program_headers(endian, bytes).map_err(no_elf)?;
    let mut entries = Vec::new();
    for segment in segments {
        if let Some(dynamic) = segment.dynamic(endian, bytes).map_err(no_elf)? {
            entries.extend_from_slice(dynamic);
        }
    }
    let value = |tag| entries.iter().find(|entry| entry.d_tag.get(endian) == tag);
    let (Some(table), Some(size)) = (value(DT_STRTAB), value(DT_STRSZ)) else {
        return Ok(Vec::new());
    };
    // an address in memory, to be found in a segment of the file
    let (address, size) = (table.d_val.get(endian), size.d_val.get(endian));
    let strings = segments
        .iter()
        .find_map(|segment| segment.data_range(endian, bytes, address, size).ok()?)
        .ok_or("has a dynamic section without names")?;
    let names = entries
        .iter()
        .filter(|entry| entry.d_tag.get(endian) == DT_NEEDED);
    names
        .map(|entry| {
            let start = usize::try_from(entry.d_val.get(endian)).ok();
            let name = start.and_then(|start| strings.get(start..)?.split(|&b| b == 0).next());
            let name = name.and_then(|name| std::str::from_utf8(name).ok());
            match name.filter(|name| !name.is_empty() && !name.contains('/')) {
                Some(name) => Ok(name.to_owned()),
                None => Err("names a library in a way that can't be followed".to_owned()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::programs::tests::elf;
    use super::*;

    #[test]
    fn the_libraries_of_a_program_are_read_from_the_program() {
        // this very test: linked to the C library, whatever else
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needed = needed(&bytes, Arch::current()).unwrap();
        assert!(needed.contains(&"libc.so.6".to_owned()), "{needed:?}");
    }

    #[test]
    fn a_static_program_needs_none_and_one_for_another_machine_is_refused() {
        assert_eq!(needed(&elf(62, 1), Arch::X86_64), Ok(Vec::new()));
        assert!(needed(&elf(183, 1), Arch::X86_64).is_err());
        assert!(needed(b"#!/bin/sh\n", Arch::X86_64).is_err());
    }
}
