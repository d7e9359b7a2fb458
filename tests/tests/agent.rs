//! The agent is one small static file per architecture, as `make` builds it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;

use image_layout::Arch;
use object::endian::LittleEndian;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{elf, pod};
use tests::results::repository;

/// What the agent may weigh: it is in the initramfs and in memory. TLS, by which an agent knows its
/// server, and k3s's supervision took it past six (docs/decisions/008).
const MOST_BYTES: usize = 8 << 20;

fn agent(arch: Arch) -> Vec<u8> {
    let target = match arch {
        Arch::X86_64 => "x86_64-unknown-linux-musl",
        Arch::Arm64 => "aarch64-unknown-linux-musl",
    };
    let path = repository()
        .join("target")
        .join(target)
        .join("release/agent");
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run make", path.display()))
}

#[test]
fn the_agent_weighs_at_most_eight_mebibytes() {
    for arch in Arch::ALL {
        let bytes = agent(arch).len();
        assert!(bytes <= MOST_BYTES, "{arch}: {bytes} bytes");
    }
}

#[test]
fn the_agent_needs_no_other_file_to_start() {
    for arch in Arch::ALL {
        let file = agent(arch);
        let (header, _) = pod::from_bytes::<elf::FileHeader64<LittleEndian>>(&file).unwrap();
        assert_eq!(
            header.e_machine(LittleEndian).0,
            arch.elf_machine(),
            "{arch}"
        );
        let segments = header
            .program_headers(LittleEndian, file.as_slice())
            .unwrap();
        for segment in segments {
            assert_ne!(
                segment.p_type(LittleEndian),
                elf::PT_INTERP,
                "{arch} has an interpreter"
            );
        }
    }
}
