//! Where tests of the builder's command line work: a directory, small boot packs, k3s binaries.

// each test program uses a part of it
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::panic)]

pub mod launcher;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use builder::bootpack::{FORMAT, FileEntry, Manifest, Package};
use image_layout::{Arch, Digest};

/// `uname -r` of the kernels in the packs.
pub const RELEASE: &str = "6.12.1-test";

/// A directory with boot packs for both architectures, gone when it is dropped.
pub struct Workshop {
    directory: tempfile::TempDir,
}

/// What a run of the builder said.
pub struct Said {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Workshop {
    pub fn new() -> Workshop {
        let directory = tempfile::tempdir().unwrap();
        let workshop = Workshop { directory };
        fs::create_dir(workshop.path("packs")).unwrap();
        fs::create_dir(workshop.path("tmp")).unwrap();
        for arch in Arch::ALL {
            boot_pack(arch, &workshop.path(&format!("packs/{arch}.bootpack")));
        }
        workshop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        path
    }

    /// The builder, in this directory, with these boot packs and nothing of the host's.
    pub fn builder(&self, arguments: &[&str]) -> Command {
        self.builder_at(assert_cmd::cargo::cargo_bin!("builder"), arguments)
    }

    /// The builder halfway through: it writes to standard output, of which one byte was read, and has
    /// the whole image beside it.
    pub fn halfway(&self, arguments: &[&str]) -> std::process::Child {
        use std::io::Read;
        use std::process::{Command, Stdio};

        let mut child = Command::new(assert_cmd::cargo::cargo_bin!("builder"))
            .args(arguments)
            .current_dir(self.directory.path())
            .env("HAULBOOT_BOOT_PACKS", self.path("packs"))
            .env("TMPDIR", self.path("tmp"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = child.stdout.as_mut().unwrap();
        output.read_exact(&mut [0]).unwrap();
        child
    }

    /// The same by another copy of the program.
    pub fn builder_at(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.directory.path())
            .env("HAULBOOT_BOOT_PACKS", self.path("packs"))
            .env("TMPDIR", self.path("tmp"))
            .env_remove("SOURCE_DATE_EPOCH")
            .timeout(std::time::Duration::from_secs(120))
            .args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        said(&mut self.builder(arguments))
    }

    /// Runs what must succeed.
    pub fn done(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        String::from_utf8(said.stdout).unwrap()
    }

    /// Names of everything in the directory but what [`Workshop::new`] made, and in `tmp`.
    pub fn left(&self) -> Vec<String> {
        let names = |directory: &Path| {
            fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect::<Vec<_>>()
        };
        let mut left = names(self.directory.path());
        left.retain(|name| name != "packs" && name != "tmp");
        left.extend(names(&self.path("tmp")));
        left.sort();
        left
    }
}

/// The exit code of a child that gets a signal, `INT` or `TERM`; it ends soon.
pub fn ended_by(signal: &str, mut child: std::process::Child) -> Option<i32> {
    let pid = child.id().to_string();
    let kill = std::process::Command::new("kill")
        .args(["-s", signal, &pid])
        .status();
    assert!(kill.unwrap().success());
    let begun = std::time::Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        let bound = std::time::Duration::from_secs(20);
        assert!(begun.elapsed() < bound, "it does not end");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

pub fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    Said {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `tests/fixtures/hauls/NAME`.
pub fn fixture(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hauls");
    let path = root.join(name).canonicalize();
    path.unwrap_or_else(|error| panic!("{name}: {error}"))
        .to_str()
        .unwrap()
        .to_owned()
}

/// A 64-bit ELF program's header for `machine`, and `rest` behind it.
pub fn elf(machine: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    bytes[16] = 2;
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes[20] = 1;
    bytes.extend_from_slice(rest);
    bytes
}

/// A boot pack in the format of the real ones, whose programs do nothing.
fn boot_pack(arch: Arch, path: &Path) {
    let module = "kernel/drivers/usb/storage/uas.ko.xz";
    let files: BTreeMap<String, Vec<u8>> = [
        ("agent", elf(arch.elf_machine(), b"agent")),
        ("licences/linux-image-test/copyright", b"GPL-2".to_vec()),
        (&format!("modules/{module}"), vec![3; 5000]),
        ("modules/modules.alias", b"alias usb:v* uas\n".to_vec()),
        ("modules/modules.builtin", b"".to_vec()),
        ("modules/modules.dep", format!("{module}:\n").into_bytes()),
        ("modules/modules.softdep", b"".to_vec()),
        ("systemd-boot.efi", [b"MZ", arch.name().as_bytes()].concat()),
        ("tools/e2fsck", elf(arch.elf_machine(), b"e2fsck")),
        ("tools/ld.so", elf(arch.elf_machine(), b"ld.so")),
        ("tools/lib/libc.so.6", elf(arch.elf_machine(), b"libc")),
        ("tools/mke2fs", elf(arch.elf_machine(), b"mke2fs")),
        ("vmlinuz", vec![arch.name().len() as u8; 2_000_000]),
    ]
    .into_iter()
    .map(|(path, contents)| (path.to_owned(), contents))
    .collect();
    let package = |name: &str, version: &str| Package {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: arch.oci().to_owned(),
        source: name.to_owned(),
        size: 1,
        sha256: Digest::sha256_of(name.as_bytes()),
        licence: "licences/linux-image-test/copyright".to_owned(),
    };
    let manifest = Manifest {
        format: FORMAT,
        arch,
        kernel_release: RELEASE.to_owned(),
        agent_version: "0.1.0".to_owned(),
        timestamp: 1_700_000_000,
        packages: vec![
            package("linux-image-test", "6.12.1-1"),
            package("systemd-boot-efi", "257.1-1"),
        ],
        initramfs_modules: vec![module.to_owned()],
        files: files
            .iter()
            .map(|(path, bytes)| FileEntry {
                path: path.clone(),
                size: bytes.len() as u64,
                sha256: Digest::sha256_of(bytes),
            })
            .collect(),
    };
    let file = fs::File::create(path).unwrap();
    let mut archive = tar::Builder::new(zstd::Encoder::new(file, 1).unwrap());
    let mut add = |path: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, path, bytes).unwrap();
    };
    add("bootpack.json", &serde_json::to_vec(&manifest).unwrap());
    for (path, bytes) in &files {
        add(path, bytes);
    }
    archive.into_inner().unwrap().finish().unwrap();
}
