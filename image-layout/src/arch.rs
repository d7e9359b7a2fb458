//! The two processor architectures Haulboot boots.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A processor architecture, named `x86_64` or `arm64` wherever Haulboot names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Arch {
    /// 64-bit x86, `amd64` to Debian, Go and OCI.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit ARM, `aarch64` to the kernel and Rust.
    #[serde(rename = "arm64")]
    Arm64,
}

impl Arch {
    /// Every architecture, in the order in which lists show them.
    pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Arm64];

    /// The architecture this code was compiled for.
    pub const fn current() -> Arch {
        if cfg!(target_arch = "aarch64") {
            Arch::Arm64
        } else {
            Arch::X86_64
        }
    }

    /// Haulboot's name: `x86_64` or `arm64`.
    pub const fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Arm64 => "arm64",
        }
    }

    /// The name in OCI platforms and Debian packages: `amd64` or `arm64`.
    pub const fn oci(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Arm64 => "arm64",
        }
    }

    /// The file that UEFI starts from removable media (UEFI specification 2.10, 3.5.1.1).
    pub const fn efi_boot_file(self) -> &'static str {
        match self {
            Arch::X86_64 => "BOOTX64.EFI",
            Arch::Arm64 => "BOOTAA64.EFI",
        }
    }

    /// The serial console of this architecture's servers and of QEMU's standard machine.
    pub const fn serial_console(self) -> &'static str {
        match self {
            Arch::X86_64 => "ttyS0,115200",
            Arch::Arm64 => "ttyAMA0,115200",
        }
    }

    /// `e_machine` of an ELF file (ELF gABI, figure 4-4): EM_X86_64 or EM_AARCH64.
    pub const fn elf_machine(self) -> u16 {
        match self {
            Arch::X86_64 => 62,
            Arch::Arm64 => 183,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no architecture Haulboot knows.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no architecture Haulboot knows; it boots x86_64 (amd64) and arm64 (aarch64)")]
pub struct UnknownArch(pub String);

impl FromStr for Arch {
    type Err = UnknownArch;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "x86_64" | "amd64" => Ok(Arch::X86_64),
            "arm64" | "aarch64" => Ok(Arch::Arm64),
            other => Err(UnknownArch(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_use_is_understood_and_one_name_is_given() {
        for (given, arch) in [
            ("x86_64", Arch::X86_64),
            ("amd64", Arch::X86_64),
            ("arm64", Arch::Arm64),
            ("aarch64", Arch::Arm64),
        ] {
            assert_eq!(given.parse(), Ok(arch));
        }
        assert_eq!(Arch::Arm64.to_string(), "arm64");
        assert!("riscv64".parse::<Arch>().is_err());
    }
}
