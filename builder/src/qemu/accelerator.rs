//! Who runs a machine's instructions: KVM where it works, else QEMU's own emulation.
//!
//! Whether KVM works is found out by trying. `/dev/kvm` exists on hosts (nested ones above all)
//! that cannot run a stock kernel, and those hang or report an internal error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use image_layout::Arch;

use super::{BootFiles, Machine, QemuError, wait_within};

/// How long the trial boot may take; where KVM works it takes one to three seconds.
pub const CHECK_BOUND: Duration = Duration::from_secs(10);

/// Who runs a machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor, through the kernel's KVM.
    Kvm,
    /// QEMU's emulation; ten times slower.
    Tcg,
}

impl Accelerator {
    /// The value of QEMU's `-accel`.
    pub const fn argument(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg,thread=multi",
        }
    }

    /// KVM, if the kernel of `image` boots with it on this machine. The answer is kept until the
    /// next boot of this machine, in the user's cache directory.
    ///
    /// # Errors
    /// When the image can't be read. That KVM doesn't work is no error.
    pub fn detect(image: &Path, arch: Arch) -> Result<Accelerator, QemuError> {
        if arch != Arch::current() || !Path::new("/dev/kvm").exists() {
            return Ok(Accelerator::Tcg);
        }
        let cache = Cache::open();
        if let Some(known) = cache.as_ref().and_then(Cache::read) {
            return Ok(known);
        }
        let found = try_kvm(&BootFiles::extract(image, arch)?, arch)?;
        if let Some(cache) = cache {
            cache.write(found);
        }
        Ok(found)
    }
}

/// Boots the kernel with KVM; the agent powers the machine off as soon as it runs.
fn try_kvm(files: &BootFiles, arch: Arch) -> Result<Accelerator, QemuError> {
    let io = |source| QemuError::Run {
        program: Machine::program(arch).to_owned(),
        source,
    };
    let directory = tempfile::tempdir().map_err(io)?;
    let kernel = directory.path().join("kernel");
    let initramfs = directory.path().join("initramfs");
    fs::write(&kernel, &files.kernel).map_err(io)?;
    fs::write(&initramfs, &files.initramfs).map_err(io)?;
    let (machine, console) = match arch {
        Arch::X86_64 => ("q35", "ttyS0"),
        Arch::Arm64 => ("virt,gic-version=host", "ttyAMA0"),
    };
    // Without -no-reboot: a kernel that panics starts over until the bound, so that exit code 0
    // can only mean that the agent ran and powered off.
    let mut child = Command::new(Machine::program(arch))
        .args(["-accel", "kvm", "-M", machine, "-cpu", "host", "-m", "512"])
        .args([
            "-display", "none", "-serial", "null", "-monitor", "none", "-nic", "none",
        ])
        .arg("-kernel")
        .arg(&kernel)
        .arg("-initrd")
        .arg(&initramfs)
        .arg("-append")
        .arg(format!(
            "haulboot.check=poweroff console={console} panic=-1"
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(io)?;
    match wait_within(&mut child, CHECK_BOUND).map_err(io)? {
        Some(status) if status.success() => Ok(Accelerator::Kvm),
        Some(_) => Ok(Accelerator::Tcg),
        None => {
            child.kill().and_then(|()| child.wait()).map_err(io)?;
            Ok(Accelerator::Tcg)
        }
    }
}

/// One line: the boot of this machine for which it holds, and the answer.
struct Cache {
    file: PathBuf,
    boot: String,
}

impl Cache {
    fn open() -> Option<Cache> {
        let directory = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Cache {
            file: directory.join("haulboot").join("kvm"),
            boot: boot.trim().to_owned(),
        })
    }

    fn read(&self) -> Option<Accelerator> {
        let text = fs::read_to_string(&self.file).ok()?;
        match text.trim().split_once(' ')? {
            (boot, "works") if boot == self.boot => Some(Accelerator::Kvm),
            (boot, "fails") if boot == self.boot => Some(Accelerator::Tcg),
            _ => None,
        }
    }

    /// A cache that can't be written costs the next run ten seconds and nothing else.
    fn write(&self, found: Accelerator) {
        let answer = match found {
            Accelerator::Kvm => "works",
            Accelerator::Tcg => "fails",
        };
        if let Some(directory) = self.file.parent() {
            let _ = fs::create_dir_all(directory);
        }
        let _ = fs::write(&self.file, format!("{} {answer}\n", self.boot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_the_boot_it_was_found_in() {
        let directory = tempfile::tempdir().unwrap();
        let cache = |boot: &str| Cache {
            file: directory.path().join("haulboot/kvm"),
            boot: boot.to_owned(),
        };
        assert_eq!(cache("one").read(), None);
        cache("one").write(Accelerator::Tcg);
        assert_eq!(cache("one").read(), Some(Accelerator::Tcg));
        assert_eq!(cache("two").read(), None);
        cache("two").write(Accelerator::Kvm);
        assert_eq!(cache("two").read(), Some(Accelerator::Kvm));
    }

    #[test]
    fn a_foreign_architecture_is_always_emulated() {
        let foreign = match Arch::current() {
            Arch::X86_64 => Arch::Arm64,
            Arch::Arm64 => Arch::X86_64,
        };
        let found = Accelerator::detect(Path::new("/nowhere/a.img"), foreign).unwrap();
        assert_eq!(found, Accelerator::Tcg);
    }
}
