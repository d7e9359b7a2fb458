//! Packs of a made-up kernel, from the fetched packages to the initramfs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use image_layout::Arch;
use tempfile::TempDir;

use super::modules::tests::tables;
use super::programs::tests::{efi, elf};
use super::*;

const RELEASE: &str = "6.12.1-test";

/// What `firmware/fetch.sh` leaves, the lists and an agent.
struct Inputs {
    directory: TempDir,
}

impl Inputs {
    fn new() -> Inputs {
        let inputs = Inputs {
            directory: TempDir::new().unwrap(),
        };
        let hash = "12".repeat(32);
        inputs.write(
            "packages.tsv",
            format!(
                "#name\tversion\tarchitecture\tsource\tsize\tsha256\tnewest\n\
                 linux\t6.12.1-1\tamd64\tlinux (6)\t10\t{hash}\t1700000000\n"
            ),
        );
        inputs.write("root/usr/share/doc/linux/copyright", "GPL-2");
        inputs.write(&format!("root/boot/vmlinuz-{RELEASE}"), efi(0x8664));
        inputs.write(
            "root/usr/lib/systemd/boot/efi/systemd-bootx64.efi",
            efi(0x8664),
        );
        for name in [
            "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
            "sbin/mke2fs",
            "sbin/e2fsck",
        ] {
            inputs.write(&format!("root/usr/{name}"), elf(62, 1));
        }
        for (name, text) in tables().files() {
            inputs.write_module(name, text);
        }
        for path in KernelModules::parse(&tables()).paths() {
            inputs.write_module(path, path);
        }
        inputs.write(&format!("root/boot/config-{RELEASE}"), "CONFIG_RD_ZSTD=y\n");
        inputs.write("lists/kernel.options", "RD_ZSTD=y\n");
        inputs.write("agent", elf(62, 1));
        inputs.write("lists/initramfs.list", "ext4\nusb-storage\nvirtio_pci\n");
        inputs.write("lists/haul.list", "r8169\nghost\n");
        inputs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn write_module(&self, name: &str, bytes: &str) {
        self.write(&format!("root/usr/lib/modules/{RELEASE}/{name}"), bytes);
    }

    fn build(&self, output: &str) -> Result<Built, BuildError> {
        build(&Request {
            arch: Arch::X86_64,
            packages: self.directory.path(),
            agent: &self.path("agent"),
            lists: &self.path("lists"),
            output: &self.path(output),
        })
    }

    fn open(&self) -> BootPack {
        self.build("x86_64.bootpack").unwrap();
        BootPack::open(&self.path("x86_64.bootpack")).unwrap()
    }
}

/// Entries of a pack as they lie in it.
fn entries(pack: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(fs::File::open(pack).unwrap()).unwrap());
    let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

/// Writes a pack from entries, right or wrong.
fn write_entries(pack: &Path, entries: &[(String, Vec<u8>)]) {
    let encoder = zstd::Encoder::new(fs::File::create(pack).unwrap(), 1).unwrap();
    let mut archive = tar::Builder::new(encoder);
    for (path, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive
            .append_data(&mut header, path, bytes.as_slice())
            .unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
}

/// A pack whose entries were changed by `change`, and what opening it says.
fn open_changed(change: impl FnOnce(&mut Vec<(String, Vec<u8>)>)) -> BootPackError {
    let inputs = Inputs::new();
    let path = inputs.path("x86_64.bootpack");
    inputs.build("x86_64.bootpack").unwrap();
    let mut entries = entries(&path);
    change(&mut entries);
    write_entries(&path, &entries);
    BootPack::open(&path).unwrap_err()
}

fn replace_in_manifest(entries: &mut [(String, Vec<u8>)], from: &str, to: &str) {
    let json = String::from_utf8(entries[0].1.clone()).unwrap();
    assert!(json.contains(from), "{json}");
    entries[0].1 = json.replace(from, to).into_bytes();
}

#[test]
fn a_pack_is_read_back_as_it_was_made() {
    let inputs = Inputs::new();
    let pack = inputs.open();
    assert_eq!(pack.arch(), Arch::X86_64);
    assert_eq!(pack.kernel(), efi(0x8664));
    assert_eq!(pack.boot_loader(), efi(0x8664));
    assert_eq!(pack.agent(), elf(62, 1));
    assert_eq!(pack.manifest().kernel_release, RELEASE);
    assert_eq!(pack.manifest().timestamp, 1_700_000_000);
    assert_eq!(pack.manifest().packages[0].version, "6.12.1-1");
    assert_eq!(
        pack.licences().collect::<Vec<_>>(),
        [("licences/linux/copyright", &b"GPL-2"[..])]
    );
}

#[test]
fn haul_gets_every_packed_module_and_tables_that_speak_of_no_other() {
    let pack = Inputs::new().open();
    let files: BTreeMap<&str, &[u8]> = pack.haul_modules().collect();
    let modules: Vec<&str> = files
        .keys()
        .copied()
        .filter(|path| path.contains(".ko"))
        .collect();
    assert_eq!(
        modules,
        [
            "kernel/arch/x86/crypto/crc32c-intel.ko.xz",
            "kernel/crypto/crc32c_generic.ko.xz",
            "kernel/drivers/net/ethernet/realtek/r8169.ko.xz",
            "kernel/drivers/net/phy/libphy.ko.xz",
            "kernel/drivers/net/phy/realtek.ko.xz",
            "kernel/drivers/usb/storage/usb-storage.ko.xz",
            "kernel/fs/ext4/ext4.ko.xz",
            "kernel/fs/jbd2/jbd2.ko.xz",
            "kernel/fs/mbcache.ko.xz",
        ]
    );
    let dep = String::from_utf8_lossy(files["modules.dep"]);
    assert_eq!(dep.lines().count(), modules.len());
    assert!(!dep.contains("wifi"));
    assert_eq!(files["kernel/fs/mbcache.ko.xz"], b"kernel/fs/mbcache.ko.xz");
}

#[test]
fn two_builds_give_the_same_bytes_and_so_do_their_initramfs() {
    let first = Inputs::new();
    let second = Inputs::new();
    let packs = [first.open(), second.open()];
    let read = |inputs: &Inputs| fs::read(inputs.path("x86_64.bootpack")).unwrap();
    assert_eq!(read(&first), read(&second));
    let firmware = [("a/b.fw".to_owned(), vec![1, 2, 3])];
    let [first, second] = packs.map(|pack| pack.initramfs(&firmware).unwrap());
    assert_eq!(first, second);
}

#[test]
fn the_tools_lie_beside_their_linker_and_one_that_is_missing_makes_no_pack() {
    let inputs = Inputs::new();
    let pack = inputs.open();
    let tools: Vec<&str> = pack.tools().map(|(name, _)| name).collect();
    assert_eq!(tools, ["e2fsck", "ld.so", "mke2fs"]);
    fs::remove_file(inputs.path("root/usr/sbin/e2fsck")).unwrap();
    let error = inputs.build("x.bootpack").unwrap_err();
    assert!(matches!(&error, BuildError::Read { path, .. } if path.ends_with("e2fsck")));
}

#[test]
fn what_a_list_asks_for_in_vain_is_said_and_does_not_stop_the_build() {
    let built = Inputs::new().build("x.bootpack").unwrap();
    assert_eq!(built.warnings.len(), 1);
    assert!(
        built.warnings[0].contains("haul.list:2"),
        "{:?}",
        built.warnings
    );
}

#[test]
fn the_initramfs_has_the_agent_as_init_and_the_modules_of_its_list_only() {
    let pack = Inputs::new().open();
    let compressed = pack
        .initramfs(&[("rtl/x.fw".to_owned(), b"fw".to_vec())])
        .unwrap();
    let bytes = zstd::decode_all(compressed.as_slice()).unwrap();
    let mut nodes = Vec::new();
    let mut rest = bytes.as_slice();
    loop {
        let mut reader = cpio::NewcReader::new(rest).unwrap();
        if reader.entry().is_trailer() {
            break;
        }
        let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
        let device = (reader.entry().rdev_major(), reader.entry().rdev_minor());
        let mut contents = Vec::new();
        reader.read_to_end(&mut contents).unwrap();
        nodes.push((name, mode, device, contents));
        rest = reader.finish().unwrap();
    }
    let node = |name: &str| nodes.iter().find(|node| node.0 == name).unwrap();

    assert_eq!((node("init").1, &node("init").3), (0o100_755, &elf(62, 1)));
    assert_eq!(
        (node("dev/console").1, node("dev/console").2),
        (0o020_600, (5, 1))
    );
    assert_eq!(
        node("dev/null").2,
        (1, 3),
        "a program's start aborts without"
    );
    assert_eq!(node("sbin/modprobe").3, b"/init");
    assert_eq!(node("lib/firmware/rtl/x.fw").3, b"fw");
    for name in ["dev", "proc", "sys", "run"] {
        assert_eq!(node(name).1, 0o040_755, "{name}");
    }
    let directory = format!("lib/modules/{RELEASE}");
    let dep = String::from_utf8(node(&format!("{directory}/modules.dep")).3.clone()).unwrap();
    assert!(dep.contains("ext4") && dep.contains("crc32c") && dep.contains("usb-storage"));
    assert!(!dep.contains("r8169"));
    for line in dep.lines() {
        let (path, _) = line.split_once(':').unwrap();
        assert_eq!(node(&format!("{directory}/{path}")).3, path.as_bytes());
    }
    // The kernel makes no directories on its own: each comes before what is in it.
    for (index, (name, ..)) in nodes.iter().enumerate() {
        if let Some((parent, _)) = name.rsplit_once('/') {
            let before = nodes.iter().position(|node| node.0 == parent);
            assert!(before.is_some_and(|before| before < index), "{name}");
        }
    }
}

#[test]
fn firmware_that_would_leave_its_directory_is_refused() {
    let error = Inputs::new()
        .open()
        .initramfs(&[("../x".to_owned(), vec![])])
        .unwrap_err();
    assert!(
        matches!(error, BootPackError::FirmwareName { .. }),
        "{error}"
    );
}

#[test]
fn an_altered_file_is_named() {
    let error = open_changed(|entries| {
        let agent = entries
            .iter_mut()
            .find(|(path, _)| path == "agent")
            .unwrap();
        agent.1[20] ^= 1;
    });
    assert!(
        matches!(&error, BootPackError::Altered { file, .. } if file == "agent"),
        "{error}"
    );
    assert!(error.to_string().contains("x86_64.bootpack"));
    assert!(error.help().contains("`make`"));
}

#[test]
fn files_that_are_missing_too_many_or_of_another_size_are_named() {
    let last = |error: &BootPackError, name: &str| matches!(error, BootPackError::Altered { file, .. } if file == name);
    let error = open_changed(|entries| {
        entries.pop();
    });
    assert!(last(&error, "vmlinuz"), "{error}");
    let error = open_changed(|entries| entries.push(("zzz".to_owned(), vec![])));
    assert!(last(&error, "zzz"), "{error}");
    let error = open_changed(|entries| entries.last_mut().unwrap().1.push(0));
    assert!(last(&error, "vmlinuz"), "{error}");
    let error = open_changed(|entries| entries.swap(1, 2));
    assert!(matches!(error, BootPackError::Altered { .. }), "{error}");
}

#[test]
fn a_pack_of_another_format_is_refused_by_its_number_whatever_else_is_in_it() {
    let error = open_changed(|entries| entries[0].1 = b"{\"format\": 99}".to_vec());
    assert!(
        matches!(error, BootPackError::Format { found: 99, .. }),
        "{error}"
    );
}

#[test]
fn a_manifest_that_lacks_a_part_or_leads_out_of_the_pack_is_refused() {
    for (from, to) in [
        ("\"path\": \"agent\"", "\"path\": \"../agent\""),
        ("\"path\": \"agent\"", "\"path\": \"agent2\""),
        ("\"kernelRelease\": \"6", "\"kernelRelease\": \"../6"),
        ("modules/modules.dep", "modules/modules.abc"),
        ("tools/ld.so", "tools/ld.os"),
    ] {
        let error = open_changed(|entries| replace_in_manifest(entries, from, to));
        assert!(
            matches!(error, BootPackError::NotAPack { .. }),
            "{to}: {error}"
        );
    }
}

#[test]
fn a_pack_cut_anywhere_is_an_error_with_a_remedy() {
    let inputs = Inputs::new();
    inputs.build("x86_64.bootpack").unwrap();
    let whole = fs::read(inputs.path("x86_64.bootpack")).unwrap();
    for length in (0..whole.len()).step_by(101).chain([whole.len() - 1]) {
        inputs.write("cut.bootpack", &whole[..length]);
        let error = BootPack::open(&inputs.path("cut.bootpack")).unwrap_err();
        assert!(error.to_string().contains("cut.bootpack"), "{error}");
        assert!(!error.help().is_empty());
    }
}

#[test]
fn what_is_no_pack_or_not_there_is_refused_with_its_name() {
    let inputs = Inputs::new();
    inputs.write("text.bootpack", "no pack");
    let error = BootPack::open(&inputs.path("text.bootpack")).unwrap_err();
    assert!(error.to_string().contains("text.bootpack"), "{error}");
    let error = BootPack::open(&inputs.path("none.bootpack")).unwrap_err();
    assert!(matches!(error, BootPackError::Open { .. }), "{error}");
}

#[test]
fn of_packs_given_by_name_the_one_for_the_architecture_is_taken() {
    let inputs = Inputs::new();
    inputs.build("a.bootpack").unwrap();
    let given = [inputs.path("a.bootpack")];
    let pack = BootPack::find(Arch::X86_64, &given).unwrap();
    assert_eq!(pack.path(), given[0]);
}

#[test]
fn a_build_with_a_program_for_the_other_architecture_fails_and_keeps_the_old_pack() {
    let inputs = Inputs::new();
    inputs.build("x.bootpack").unwrap();
    let before = fs::read(inputs.path("x.bootpack")).unwrap();
    for (name, bytes) in [
        ("agent", elf(183, 1)),
        (&format!("root/boot/vmlinuz-{RELEASE}"), efi(0xaa64)),
    ] {
        let inputs = Inputs::new();
        inputs.write("x.bootpack", &before);
        inputs.write(name, bytes);
        let error = inputs.build("x.bootpack").unwrap_err();
        assert!(matches!(error, BuildError::Unfit { .. }), "{error}");
        assert_eq!(fs::read(inputs.path("x.bootpack")).unwrap(), before);
    }
}

#[test]
fn a_kernel_without_a_required_option_makes_no_pack() {
    let inputs = Inputs::new();
    inputs.write("lists/kernel.options", "RD_ZSTD=y\nVETH\n");
    let error = inputs.build("x.bootpack").unwrap_err();
    assert!(error.to_string().ends_with("lacks VETH"), "{error}");
    assert!(!inputs.path("x.bootpack").exists());
}
