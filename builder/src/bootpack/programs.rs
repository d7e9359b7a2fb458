//! Whether a program is for the architecture it is packed for, and starts without help.

use image_layout::Arch;
use object::Endianness;
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

/// Checks a kernel or boot loader, which UEFI starts as a PE image (PE format, "COFF File
/// Header"; kernel: Documentation/admin-guide/efi-stub.rst). Fails with the end of a sentence.
pub(crate) fn check_efi(bytes: &[u8], arch: Arch) -> Result<(), String> {
    let machine = efi_machine(bytes).ok_or("is no program that UEFI starts")?;
    let expected = match arch {
        Arch::X86_64 => 0x8664,
        Arch::Arm64 => 0xaa64,
    };
    if machine == expected {
        Ok(())
    } else {
        Err(format!("is for PE machine {machine:#06x}, not for {arch}"))
    }
}

fn efi_machine(bytes: &[u8]) -> Option<u16> {
    bytes.strip_prefix(b"MZ")?;
    let offset = u32::from_le_bytes(*bytes.get(0x3c..)?.first_chunk()?);
    let header = bytes
        .get(usize::try_from(offset).ok()?..)?
        .strip_prefix(b"PE\0\0")?;
    Some(u16::from_le_bytes(*header.first_chunk()?))
}

/// Checks the agent: an ELF program that needs no loader, since nothing else is on the node.
/// Fails with the end of a sentence.
pub(crate) fn check_static_elf(bytes: &[u8], arch: Arch) -> Result<(), String> {
    let no_elf = |_: object::Error| "is no 64-bit ELF program".to_owned();
    let header = FileHeader64::<Endianness>::parse(bytes).map_err(no_elf)?;
    let endian = header.endian().map_err(no_elf)?;
    let machine = header.e_machine.get(endian);
    if machine.0 != arch.elf_machine() {
        return Err(format!("is for ELF machine {}, not for {arch}", machine.0));
    }
    let segments = header.program_headers(endian, bytes).map_err(no_elf)?;
    if segments
        .iter()
        .any(|segment| segment.p_type(endian) == PT_INTERP)
    {
        return Err("is not static: it asks for a dynamic loader".to_owned());
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The smallest PE header.
    pub(crate) fn efi(machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; 0x40];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x40;
        bytes.extend_from_slice(b"PE\0\0");
        bytes.extend_from_slice(&machine.to_le_bytes());
        bytes
    }

    /// The smallest ELF program with one segment.
    pub(crate) fn elf(machine: u16, segment_type: u32) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        bytes.extend_from_slice(&2_u16.to_le_bytes()); // ET_EXEC
        bytes.extend_from_slice(&machine.to_le_bytes());
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        bytes.extend_from_slice(&0_u64.to_le_bytes());
        bytes.extend_from_slice(&64_u64.to_le_bytes()); // program headers
        bytes.extend_from_slice(&0_u64.to_le_bytes());
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        for half in [64_u16, 56, 1, 64, 0, 0] {
            bytes.extend_from_slice(&half.to_le_bytes());
        }
        bytes.extend_from_slice(&segment_type.to_le_bytes());
        bytes.resize(64 + 56, 0);
        bytes
    }

    #[test]
    fn a_kernel_for_the_other_architecture_is_refused() {
        assert_eq!(check_efi(&efi(0x8664), Arch::X86_64), Ok(()));
        assert_eq!(check_efi(&efi(0xaa64), Arch::Arm64), Ok(()));
        assert!(
            check_efi(&efi(0xaa64), Arch::X86_64)
                .unwrap_err()
                .contains("0xaa64")
        );
        for no_program in [&b""[..], b"MZ", b"\x1f\x8b", &efi(0x8664)[..0x44]] {
            assert!(check_efi(no_program, Arch::X86_64).is_err());
        }
    }

    #[test]
    fn an_agent_is_static_and_for_its_architecture() {
        assert_eq!(check_static_elf(&elf(62, 1), Arch::X86_64), Ok(()));
        assert_eq!(check_static_elf(&elf(183, 1), Arch::Arm64), Ok(()));
        let dynamic = check_static_elf(&elf(62, PT_INTERP.0), Arch::X86_64).unwrap_err();
        assert!(dynamic.contains("not static"), "{dynamic}");
        assert!(check_static_elf(&elf(62, 1), Arch::Arm64).is_err());
        assert!(check_static_elf(b"#!/bin/sh\n", Arch::X86_64).is_err());
    }
}
