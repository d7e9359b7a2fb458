//! Disks as files: what real programs make of them, and what is made of what they made.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use image_layout::partitions::Partition;
use uuid::Uuid;

use super::ext4::{self, Contents, Target};
use super::signature::Ends;
use super::table::{self, TableError};

const MIB: u64 = 1 << 20;
/// Less than on a node, so that the files are small.
const LEAST: u64 = 64 * MIB;
const CLUSTER: Uuid = Uuid::from_u128(0x1234_5678_0000_8000_8000_0000_0000_0001);

/// A file that takes a disk's part.
struct DiskFile {
    directory: tempfile::TempDir,
    bytes: u64,
}

impl DiskFile {
    fn new(bytes: u64) -> DiskFile {
        let disk = DiskFile {
            directory: tempfile::tempdir().unwrap(),
            bytes,
        };
        File::create(disk.path()).unwrap().set_len(bytes).unwrap();
        disk
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    fn file(&self) -> File {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path())
            .unwrap()
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.file().write_all_at(bytes, at).unwrap();
    }

    /// Runs a program of this machine, which has to be there: `scripts/packages.list` names it.
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program)
            .args(arguments)
            .arg(self.path())
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{program}: {said}");
        said
    }

    fn look(&self) -> Contents {
        match ext4::look(&self.path(), self.bytes, CLUSTER).unwrap() {
            Contents::Foreign(held) => table::refine(&self.path(), 512, held),
            other => other,
        }
    }

    fn held(&self) -> Vec<String> {
        match self.look() {
            Contents::Foreign(held) => held,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_real_programs_make_is_recognised() {
    for (program, arguments, held) in [
        (
            "mke2fs",
            &["-q", "-F", "-t", "ext4", "-L", "photos"][..],
            "an ext2, ext3 or ext4 file system labelled photos",
        ),
        (
            "mke2fs",
            &["-q", "-F", "-t", "ext2"],
            "an ext2, ext3 or ext4 file system",
        ),
        ("mkfs.vfat", &["-F", "32"], "a FAT file system"),
        ("mkfs.vfat", &["-F", "16"], "a FAT file system"),
        ("mkswap", &[], "swap space"),
        ("sgdisk", &["-n", "1:0:+8M"], "a GPT with 1 partition"),
        (
            "sgdisk",
            &["-n", "1:0:+8M", "-n", "2:0:+8M", "-n", "3:0:0"],
            "a GPT with 3 partitions",
        ),
        ("sgdisk", &["-o"], "a GPT with 0 partitions"),
    ] {
        let disk = DiskFile::new(100 * MIB);
        disk.run(program, arguments);
        assert_eq!(disk.held(), [held], "{program} {arguments:?}");
    }
}

#[test]
fn signatures_of_programs_that_are_not_here_are_recognised_by_their_place() {
    let end = 100 * MIB;
    for (at, magic, held) in [
        (0, &b"XFSB"[..], "an XFS file system"),
        (0x10040, b"_BHRfS_M", "a btrfs file system"),
        (3, b"NTFS    ", "an NTFS file system"),
        (0, b"LUKS\xba\xbe\0\x02", "a LUKS volume"),
        (512, b"LABELONE", "an LVM2 physical volume"),
        (0x8001, b"CD001", "an ISO 9660 file system"),
        (0, b"hsqs", "a squashfs file system"),
        (4096, b"\xfc\x4e\x2b\xa9", "a member of an md RAID"),
        (end - 8192, b"\xfc\x4e\x2b\xa9", "a member of an md RAID"),
        (end - 65536, b"\xfc\x4e\x2b\xa9", "a member of an md RAID"),
        (end - 65536, b"\xa9\x2b\x4e\xfc", "a member of an md RAID"),
        (
            (128 << 10) + 5 * 1024,
            b"\x0c\xb1\xba\0\0\0\0\0",
            "a member of a ZFS pool",
        ),
        (
            end - (256 << 10) + (128 << 10) + 1024,
            b"\0\0\0\0\0\xba\xb1\x0c",
            "a member of a ZFS pool",
        ),
        (end - 512, b"EFI PART", "a backup GPT"),
        (5000, b"x", "data of a kind unknown to Haulboot"),
        (end - 1, b"x", "data of a kind unknown to Haulboot"),
    ] {
        let disk = DiskFile::new(end);
        assert_eq!(disk.look(), Contents::Empty);
        disk.write(at, magic);
        assert_eq!(disk.held(), [held], "at {at}");
    }
}

#[test]
fn an_mbr_counts_its_partitions_and_a_boot_sector_alone_is_held_too() {
    let disk = DiskFile::new(100 * MIB);
    disk.write(510, &[0x55, 0xaa]);
    assert_eq!(disk.held(), ["an MBR with 0 partitions"]);
    disk.write(446 + 4, &[0x83]);
    disk.write(446 + 16 + 4, &[0x07]);
    assert_eq!(disk.held(), ["an MBR with 2 partitions"]);
}

#[test]
fn a_stick_with_a_haul_is_told_from_other_disks() {
    let disk = DiskFile::new(100 * MIB);
    let kind = format!("1:{}", Partition::Haul.type_guid());
    disk.run("sgdisk", &["-n", "1:0:0", "-t", &kind]);
    assert_eq!(disk.look(), Contents::Haul);
}

#[test]
fn a_state_is_known_by_label_and_cluster() {
    for (uuid, contents) in [
        (CLUSTER, Contents::Ours),
        (Uuid::from_u128(7), Contents::OtherCluster),
    ] {
        let disk = DiskFile::new(100 * MIB);
        let uuid = uuid.to_string();
        disk.run("mke2fs", &["-q", "-F", "-L", "haulboot-state", "-U", &uuid]);
        assert_eq!(disk.look(), contents);
    }
}

/// The programs of this machine, laid out as on HAUL, so that no boot pack is needed.
fn tools_of_this_machine(directory: &Path) -> super::tools::Tools {
    let path = "/usr/sbin:/sbin:/usr/bin:/bin";
    let linked = |program: &str| {
        let program = path
            .split(':')
            .map(|directory| Path::new(directory).join(program))
            .find(|path| path.is_file())
            .unwrap_or_else(|| panic!("{program} is missing"));
        let output = Command::new("ldd").arg(&program).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let libraries: Vec<PathBuf> = said
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
            .map(PathBuf::from)
            .collect();
        (program, libraries)
    };
    fs::create_dir_all(directory.join("lib")).unwrap();
    for name in ["mke2fs", "e2fsck"] {
        let (program, libraries) = linked(name);
        fs::copy(program, directory.join(name)).unwrap();
        for library in libraries {
            let file = library.file_name().unwrap().to_str().unwrap();
            let to = match file.starts_with("ld-linux") {
                true => directory.join("ld.so"),
                false => directory.join("lib").join(file),
            };
            fs::copy(&library, to).unwrap();
        }
    }
    super::tools::Tools::at(directory.to_owned()).unwrap()
}

#[test]
fn a_file_system_is_made_found_clean_and_mended_after_damage() {
    let disk = DiskFile::new(200 * MIB);
    // what an earlier life left at both ends
    disk.run("sgdisk", &["-n", "1:0:0"]);
    let directory = tempfile::tempdir().unwrap();
    let tools = tools_of_this_machine(directory.path());
    let target = Target {
        name: "sdx".to_owned(),
        path: disk.path(),
        bytes: disk.bytes,
    };
    ext4::make(&target, CLUSTER, &tools, &|_| {}).unwrap();
    assert_eq!(disk.look(), Contents::Ours);
    assert_eq!(ext4::check(&target, &tools, &|_| {}).unwrap(), None);
    let said = disk.run("dumpe2fs", &["-h"]);
    assert!(said.contains("haulboot-state"), "{said}");
    assert!(
        said.contains("has_journal") && said.contains("metadata_csum"),
        "{said}"
    );
    // a superblock that says it was not unmounted in order and has errors
    disk.run("debugfs", &["-w", "-R", "ssv state 2"]);
    let mended = ext4::check(&target, &tools, &|_| {}).unwrap();
    assert!(mended.unwrap().contains("sdx was not clean"));
    assert_eq!(disk.look(), Contents::Ours);
}

#[test]
fn a_file_system_whose_making_was_cut_off_is_made_again() {
    let disk = DiskFile::new(200 * MIB);
    super::marker::set(&disk.file(), disk.bytes, CLUSTER).unwrap();
    disk.write(9000, b"half a file system");
    assert_eq!(disk.look(), Contents::Unfinished);
    let directory = tempfile::tempdir().unwrap();
    let tools = tools_of_this_machine(directory.path());
    let target = Target {
        name: "sdx".to_owned(),
        path: disk.path(),
        bytes: disk.bytes,
    };
    ext4::make(&target, CLUSTER, &tools, &|_| {}).unwrap();
    assert_eq!(disk.look(), Contents::Ours);
}

/// A stick of `bytes` bytes onto which an image of 100 MiB was written: its backup table lies at
/// the end of the image, not of the stick.
fn stick(bytes: u64) -> DiskFile {
    let stick = DiskFile::new(100 * MIB);
    let haul = format!("3:{}", Partition::Haul.type_guid());
    let arguments = [
        "-n",
        "1:2048:+8M",
        "-c",
        "1:HAULCFG",
        "-n",
        "2:0:+8M",
        "-t",
        "2:ef00",
        "-n",
        "3:0:+40M",
        "-t",
        &haul,
    ];
    stick.run("sgdisk", &arguments);
    stick.file().set_len(bytes).unwrap();
    for (number, byte) in [(1_u64, 0x11_u8), (9, 0x22), (17, 0x33)] {
        stick.write(number * MIB, &vec![byte; MIB as usize]);
    }
    DiskFile { bytes, ..stick }
}

#[test]
fn state_is_added_behind_the_haul_and_sgdisk_finds_nothing_wrong() {
    let stick = stick(200 * MIB + 512 * 7);
    let place = table::find(&stick.file(), stick.bytes, LEAST).unwrap();
    assert_eq!((place.number, place.is_in_table), (4, false));
    assert_eq!(place.start, 57 * MIB);
    let before = fs::read(stick.path()).unwrap();
    let guid = Uuid::from_u128(0x42);
    table::add(&stick.file(), stick.bytes, place, guid).unwrap();
    let after = fs::read(stick.path()).unwrap();
    let inside = 34 * 512..(stick.bytes - 33 * 512) as usize;
    assert!(
        before[inside.clone()] == after[inside],
        "only the ends may change"
    );
    assert!(before[..512] == after[..512], "the protective MBR stays");
    let said = stick.run("sgdisk", &["-v"]);
    assert!(said.contains("No problems found"), "{said}");
    let said = stick.run("sgdisk", &["-i", "4"]);
    assert!(said.contains("Partition name: 'STATE'"), "{said}");
    assert!(
        said.to_lowercase()
            .contains(&Partition::State.type_guid().to_string()),
        "{said}"
    );
    let said = stick.run("sgdisk", &["-i", "1"]);
    assert!(said.contains("'HAULCFG'"), "{said}");
    let found = table::find(&stick.file(), stick.bytes, LEAST).unwrap();
    assert_eq!(
        found,
        table::Place {
            is_in_table: true,
            ..place
        }
    );
}

#[test]
fn a_table_that_tore_while_it_was_written_has_a_whole_copy_at_the_end() {
    let stick = stick(200 * MIB);
    let place = table::find(&stick.file(), stick.bytes, LEAST).unwrap();
    table::add(&stick.file(), stick.bytes, place, Uuid::from_u128(0x42)).unwrap();
    stick.write(512, &[0; 512]);
    let copy = gpt::GptConfig::new().open(stick.path()).unwrap();
    assert_eq!(copy.partitions().len(), 4);
    // and nothing is added to a table of which only the copy is whole
    assert!(table::find(&stick.file(), stick.bytes, LEAST).is_err());
}

#[test]
fn a_stick_without_room_says_how_much_there_is() {
    let stick = stick(120 * MIB);
    let error = table::find(&stick.file(), stick.bytes, LEAST).unwrap_err();
    assert!(
        matches!(error, TableError::NoRoom(bytes) if bytes == 62 * MIB),
        "{error}"
    );
}

#[test]
fn a_table_with_a_gap_is_left_alone() {
    let stick = stick(200 * MIB);
    stick.run("sgdisk", &["-d", "2"]);
    let error = table::find(&stick.file(), stick.bytes, LEAST).unwrap_err();
    assert!(matches!(error, TableError::Odd(_)), "{error}");
}

#[test]
fn ends_that_can_not_be_read_are_an_error() {
    let disk = DiskFile::new(MIB / 2);
    assert!(Ends::read(&disk.path(), disk.bytes).is_err());
    assert!(Ends::read(Path::new("/nonexistent"), 4 * MIB).is_err());
}

/// Set for the process in a mount namespace of its own.
const APART: &str = "HAULBOOT_TEST_APART";

#[test]
fn state_in_memory_is_mounted_once_however_often_it_is_asked_for() {
    if std::env::var_os(APART).is_some() {
        return mount_in_memory();
    }
    // mounts want a namespace, and a namespace a process: this test again, in one
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "node::state::tests::state_in_memory_is_mounted_once_however_often_it_is_asked_for",
            "--exact",
            "--nocapture",
        ])
        .env(APART, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn mount_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let below = |path: &str| root.join(path);
    // shared, as a node's root is
    let flags = rustix::mount::MountPropagationFlags::SHARED;
    rustix::mount::mount(
        "tmpfs",
        root,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None,
    )
    .unwrap();
    rustix::mount::mount_change(root, flags).unwrap();
    fs::create_dir(below("proc")).unwrap();
    std::os::unix::fs::symlink("/proc/self", below("proc/self")).unwrap();
    fs::write(below("proc/meminfo"), "MemTotal: 2000000 kB\n").unwrap();
    let place = crate::node::Place::below(root);
    let state = image_layout::cluster::State::default();
    let first = super::prepare(&place, &state, &|_| {}).unwrap();
    fs::write(below("var/lib/rancher/k3s/kept"), "kept").unwrap();
    let targets = || {
        let mounts = super::mounts::mounted(&below("proc")).unwrap();
        let targets = mounts.into_iter().map(|mount| mount.target);
        let mut targets: Vec<PathBuf> = targets.filter(|target| target.starts_with(root)).collect();
        targets.sort();
        targets
    };
    let mounted = targets();
    assert_eq!(
        mounted,
        [
            root.to_owned(),
            below("run/haulboot/state"),
            below("var/lib/kubelet"),
            below("var/lib/rancher"),
            below("var/lib/rancher/k3s/agent/containerd"),
            below("var/log/pods"),
        ]
    );
    let again = super::prepare(&place, &state, &|_| {}).unwrap();
    assert_eq!(
        (again.status, again.detail),
        (first.status.clone(), first.detail)
    );
    assert_eq!(targets(), mounted);
    assert!(below("run/haulboot/state/rancher/k3s/kept").exists());
    let bytes = |path: &str| {
        let room = rustix::fs::statvfs(below(path)).unwrap();
        room.f_blocks * room.f_frsize
    };
    assert_eq!(bytes("var/lib/kubelet"), first.status.bytes);
    assert_eq!(bytes("var/lib/rancher"), first.status.bytes);
    let images = bytes("var/lib/rancher/k3s/agent/containerd");
    assert_eq!(images, first.status.image_store_bytes);
    for target in mounted.iter().rev() {
        rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}
