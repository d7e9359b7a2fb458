//! UEFI firmware for virtual machines: OVMF and AAVMF, where distributions put it.

use std::path::{Path, PathBuf};

use image_layout::Arch;

use super::QemuError;

/// A firmware file and how QEMU takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// A read-only flash image (`-drive if=pflash`). Without a second one for variables the
    /// firmware keeps them in memory, which is what a first boot from a stick wants.
    Flash(PathBuf),
    /// A ROM (`-bios`).
    Rom(PathBuf),
}

// In the order in which they are preferred. None of them enforces Secure Boot.
const X86_64: [&str; 8] = [
    // Debian 11 and 12, Ubuntu 22.04
    "/usr/share/OVMF/OVMF_CODE.fd",
    // Debian 12 and later, Ubuntu 22.04 and later
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    // Fedora, RHEL
    "/usr/share/edk2/ovmf/OVMF_CODE.fd",
    "/usr/share/edk2/ovmf/OVMF_CODE_4M.fd",
    // Arch Linux
    "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
    // openSUSE
    "/usr/share/qemu/ovmf-x86_64-code.bin",
    // QEMU's own copy
    "/usr/share/qemu/edk2-x86_64-code.fd",
    "/usr/local/share/qemu/edk2-x86_64-code.fd",
];
const ARM64_ROM: [&str; 2] = [
    // Debian, Ubuntu
    "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
    // Fedora, RHEL
    "/usr/share/edk2/aarch64/QEMU_EFI.fd",
];
const ARM64_FLASH: [&str; 5] = [
    // Debian, Ubuntu
    "/usr/share/AAVMF/AAVMF_CODE.fd",
    // Fedora, RHEL
    "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw",
    // Arch Linux
    "/usr/share/edk2/aarch64/QEMU_CODE.fd",
    // QEMU's own copy
    "/usr/share/qemu/edk2-aarch64-code.fd",
    "/usr/local/share/qemu/edk2-aarch64-code.fd",
];

impl Firmware {
    /// The firmware of this machine's packages.
    ///
    /// # Errors
    /// [`QemuError::NoFirmware`] names the package to install.
    pub fn find(arch: Arch) -> Result<Firmware, QemuError> {
        Firmware::find_by(arch, |path| path.is_file()).ok_or(QemuError::NoFirmware {
            arch,
            package: match arch {
                Arch::X86_64 => "ovmf",
                Arch::Arm64 => "qemu-efi-aarch64",
            },
        })
    }

    fn find_by(arch: Arch, exists: impl Fn(&Path) -> bool) -> Option<Firmware> {
        let first = |paths: &[&str]| paths.iter().map(PathBuf::from).find(|path| exists(path));
        match arch {
            Arch::X86_64 => first(&X86_64).map(Firmware::Flash),
            Arch::Arm64 => first(&ARM64_ROM)
                .map(Firmware::Rom)
                .or_else(|| first(&ARM64_FLASH).map(Firmware::Flash)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_of_several_distributions_are_known() {
        let only = |file: &'static str| move |path: &Path| path == Path::new(file);
        for (arch, file, flash) in [
            (Arch::X86_64, "/usr/share/OVMF/OVMF_CODE_4M.fd", true),
            (Arch::X86_64, "/usr/share/edk2/ovmf/OVMF_CODE.fd", true),
            (
                Arch::Arm64,
                "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
                false,
            ),
            (
                Arch::Arm64,
                "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw",
                true,
            ),
        ] {
            let expected = if flash {
                Firmware::Flash(file.into())
            } else {
                Firmware::Rom(file.into())
            };
            assert_eq!(Firmware::find_by(arch, only(file)), Some(expected));
        }
        assert_eq!(Firmware::find_by(Arch::X86_64, |_| false), None);
    }

    #[test]
    fn missing_firmware_names_its_package() {
        let error = QemuError::NoFirmware {
            arch: Arch::X86_64,
            package: "ovmf",
        };
        assert!(error.help().unwrap().contains("apt-get install ovmf"));
    }
}
