//! Images as the command line writes them, read back by other programs and by the builder.

#![allow(clippy::unwrap_used, clippy::panic)]

mod workshop;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use image_layout::bootargs::BootArgs;
use image_layout::catalog::Catalog;
use image_layout::image::ImageInfo;
use image_layout::{Arch, Digest, paths};
use serde_json::Value;
use workshop::{RELEASE, Workshop, elf, fixture};

const HAUL: &str = "hauler-1.2.5-mixed-v1.tar.zst";

/// Start and bytes of a partition, as sgdisk tells.
fn partition(image: &Path, number: u32) -> (u64, u64) {
    let said = tool("sgdisk", &[&format!("-i{number}"), image.to_str().unwrap()]);
    let sectors = |key: &str| -> u64 {
        let line = said.lines().find(|line| line.starts_with(key)).unwrap();
        line.split([':', ' '])
            .find_map(|word| word.parse().ok())
            .unwrap()
    };
    let (first, last) = (sectors("First sector"), sectors("Last sector"));
    (first * 512, (last + 1 - first) * 512)
}

fn tool(name: &str, arguments: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = Command::new(name)
        .args(arguments)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| {
            panic!("{name}: {error}; apt-get install gdisk dosfstools e2fsprogs")
        });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {said}");
    said
}

/// Copies a partition into a file of its own.
fn cut(image: &Path, number: u32, to: &Path) {
    let (start, bytes) = partition(image, number);
    let image = File::open(image).unwrap();
    let to = File::create(to).unwrap();
    let mut chunk = vec![0; 1 << 20];
    for offset in (0..bytes).step_by(1 << 20) {
        image.read_exact_at(&mut chunk, start + offset).unwrap();
        to.write_all_at(&chunk, offset).unwrap();
    }
}

fn fat(path: &Path) -> fatfs::FileSystem<File> {
    let file = File::options().read(true).write(true).open(path).unwrap();
    fatfs::FileSystem::new(file, fatfs::FsOptions::new()).unwrap()
}

fn read(fat: &fatfs::FileSystem<File>, path: &str) -> String {
    let mut text = String::new();
    let mut file = fat
        .root_dir()
        .open_file(path)
        .unwrap_or_else(|e| panic!("{path}: {e}"));
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn an_image_holds_what_it_was_given_and_other_programs_find_nothing_wrong() {
    let workshop = Workshop::new();
    workshop.write("k3s", &elf(62, b"\0v1.34.1+k3s1\0"));
    workshop.write("k3s-arm64", &elf(183, b"\0v1.34.1+k3s1\0"));
    let yaml = b"\xef\xbb\xbfapiVersion: haulboot.dev/v1\r\nkind: Cluster\r\nname: edge\r\n\
                 nodes:\r\n  - {name: cp-1, match: any, role: server, address: 192.168.0.2/24}\r\n";
    workshop.write("cluster.yaml", yaml);
    fs::create_dir_all(workshop.path("firmware/rtl_nic")).unwrap();
    workshop.write("firmware/rtl_nic/rtl8168g-2.fw", b"firmware");
    let haul = fixture(HAUL);
    let summary = workshop.done(&[
        "--haul",
        &haul,
        "--k3s",
        "k3s",
        "--k3s",
        "k3s-arm64",
        "--config",
        "cluster.yaml",
        "--arch",
        "arm64",
        "--arch",
        "amd64",
        "--firmware",
        "firmware",
        "--append",
        "nomodeset",
        "-o",
        "edge.img",
    ]);
    for said in [
        "edge.img",
        "k3s v1.34.1+k3s1",
        "edge, 1 node, from cluster.yaml",
        "dd if=edge.img",
    ] {
        assert!(summary.contains(said), "{said} is not in\n{summary}");
    }
    let image = workshop.path("edge.img");

    let said = tool("sgdisk", &["-v", image.to_str().unwrap()]);
    assert!(said.contains("No problems found"), "{said}");
    for number in [1, 2, 3] {
        let part = workshop.path(&format!("part{number}"));
        cut(&image, number, &part);
        match number {
            3 => tool("e2fsck", &["-fn", part.to_str().unwrap()]),
            _ => tool("fsck.fat", &["-n", part.to_str().unwrap()]),
        };
    }

    let config = fat(&workshop.path("part1"));
    assert_eq!(config.volume_label(), "HAULCFG");
    assert_eq!(read(&config, "cluster.yaml").as_bytes(), yaml);
    assert!(
        read(&config, "README.txt").contains("cluster.yaml\r\n")
            || read(&config, "README.txt").contains("\r\n")
    );

    let inspected: Value =
        serde_json::from_str(&workshop.done(&["inspect", "edge.img", "--json"])).unwrap();
    assert_eq!(inspected["boots"], serde_json::json!(["x86_64", "arm64"]));
    assert_eq!(
        inspected["cluster"]["nodes"][0]["address"],
        "192.168.0.2/24"
    );
    assert_eq!(inspected["warnings"], serde_json::json!([]));
    let guid = |index: usize| {
        inspected["partitions"][index]["guid"]
            .as_str()
            .unwrap()
            .to_owned()
    };

    let esp = fat(&workshop.path("part2"));
    for arch in Arch::ALL {
        assert_eq!(
            read(&esp, &paths::esp::boot_loader(arch)),
            format!("MZ{arch}")
        );
        let entry = read(&esp, &paths::esp::menu_entry(arch, "configured"));
        let options = entry
            .lines()
            .find_map(|line| line.strip_prefix("options "))
            .unwrap();
        let args = BootArgs::parse(options).args;
        assert_eq!(
            args.disk.unwrap().to_string(),
            inspected["disk"].as_str().unwrap()
        );
        assert_eq!(args.config.unwrap().to_string(), guid(0));
        assert_eq!(args.haul.unwrap().to_string(), guid(2));
        assert_eq!(args.role, None);
        assert!(options.ends_with(" nomodeset"), "{options}");
        assert!(read(&esp, &paths::esp::menu_entry(arch, "agent")).contains("haulboot.role=agent"));
    }

    let ext4 = ext4_view::Ext4::load(Box::new(fs::read(workshop.path("part3")).unwrap())).unwrap();
    assert_eq!(hyphenated(ext4.uuid().as_bytes()), guid(2));
    let info: ImageInfo = serde_json::from_slice(&ext4.read("/haulboot.json").unwrap()).unwrap();
    assert_eq!(info.cluster, "edge");
    assert_eq!(info.arches[&Arch::Arm64].boot_loader_package, "257.1-1");
    assert_eq!(
        info.arches[&Arch::X86_64].k3s.as_ref().unwrap().size,
        64 + 14
    );
    let catalog: Catalog =
        serde_json::from_slice(&ext4.read("/haul/catalog.json").unwrap()).unwrap();
    assert!(!catalog.blobs.is_empty());
    for blob in &catalog.blobs {
        let contents = ext4
            .read(&format!("/haul/{}", blob.digest.blob_path()))
            .unwrap();
        assert_eq!(Digest::sha256_of(&contents), blob.digest);
    }
    for arch in Arch::ALL {
        let k3s = format!("/{}", paths::haul::k3s(arch));
        assert_eq!(
            ext4.read(&k3s).unwrap(),
            elf(arch.elf_machine(), b"\0v1.34.1+k3s1\0")
        );
        let modules = paths::haul::modules(arch, RELEASE);
        assert_eq!(
            ext4.read(&format!("/{modules}/kernel/drivers/usb/storage/uas.ko.xz"))
                .unwrap(),
            [3; 5000]
        );
        let firmware = paths::haul::firmware(arch);
        assert_eq!(
            ext4.read(&format!("/{firmware}/rtl_nic/rtl8168g-2.fw"))
                .unwrap(),
            b"firmware"
        );
    }
    owned_by_root(&ext4, "/");
}

fn hyphenated(bytes: &[u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// Every file and directory belongs to root, only k3s and the tools' linker are programs, and
/// secrets are root's alone.
fn owned_by_root(ext4: &ext4_view::Ext4, directory: &str) {
    for entry in ext4.read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.to_str().unwrap().to_owned();
        if name.ends_with("/.") || name.ends_with("/..") || name == "/lost+found" {
            continue;
        }
        let metadata = ext4.metadata(name.as_str()).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{name}");
        let secret = name.starts_with("/secrets");
        if metadata.is_dir() {
            let mode = if secret { 0o700 } else { 0o755 };
            assert_eq!(metadata.mode() & 0o7777, mode, "{name}");
            owned_by_root(ext4, &name);
        } else {
            let mode = match name.ends_with("/k3s") || name.ends_with("/tools/ld.so") {
                true => 0o755,
                false if secret => 0o600,
                false => 0o644,
            };
            assert_eq!(metadata.mode() & 0o7777, mode, "{name}");
        }
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes_and_any_other_input_gives_other_guids() {
    let workshop = Workshop::new();
    let haul = fixture(HAUL);
    let write = |name: &str, more: &[&str]| {
        let mut arguments = vec!["--haul", &haul, "--arch", "x86_64", "-q", "-o", name];
        arguments.extend(more);
        assert_eq!(workshop.done(&arguments), "");
        Digest::sha256_of(&fs::read(workshop.path(name)).unwrap())
    };
    let first = write("a.img", &[]);
    // elsewhere, later, with another umask and another order of files on the host
    fs::create_dir(workshop.path("elsewhere")).unwrap();
    assert_eq!(first, write("elsewhere/b.img", &[]));
    assert_eq!(first, write("c.img", &[]));
    assert_ne!(first, write("d.img", &["--append", "quiet"]));
    assert_ne!(first, write("e.img", &["--random-guids"]));

    let guids = |name: &str| {
        let text = workshop.done(&["inspect", name, "--json"]);
        let json: Value = serde_json::from_str(&text).unwrap();
        (
            json["disk"].clone(),
            json["partitions"][2]["guid"].clone(),
            json["image"]["built"].clone(),
        )
    };
    let (disk, partition, built) = guids("a.img");
    let (other_disk, other_partition, _) = guids("d.img");
    assert_ne!(disk, other_disk);
    assert_ne!(partition, other_partition);
    assert!(built.as_u64().unwrap() >= 1_700_000_000);

    let mut dated = workshop.builder(&["--haul", &haul, "--arch", "x86_64", "-q", "-o", "f.img"]);
    assert_eq!(
        workshop::said(dated.env("SOURCE_DATE_EPOCH", "1600000000")).code,
        Some(0)
    );
    assert_eq!(guids("f.img").2, 1_600_000_000);
}

#[test]
fn an_image_is_sparse_streams_whole_and_is_read_from_a_larger_drive() {
    let workshop = Workshop::new();
    let haul = fixture(HAUL);
    let arguments = ["--haul", &haul, "--arch", "x86_64", "-o"];
    workshop.done(&[&arguments[..], &["file.img"]].concat());
    let metadata = fs::metadata(workshop.path("file.img")).unwrap();
    assert!(metadata.blocks() * 512 < metadata.len() / 2, "{metadata:?}");

    let streamed = workshop.run(&[&arguments[..], &["-"]].concat());
    assert_eq!(streamed.code, Some(0), "{}", streamed.stderr);
    assert!(streamed.stdout == fs::read(workshop.path("file.img")).unwrap());
    assert!(
        streamed.stderr.contains("Secure Boot off"),
        "{}",
        streamed.stderr
    );

    let drive = workshop.write("drive", &streamed.stdout);
    let drive = File::options().write(true).open(drive).unwrap();
    drive.set_len(metadata.len() + (100 << 20)).unwrap();
    let text = workshop.done(&["inspect", "drive"]);
    for said in [
        "HAULCFG",
        "x86_64: kernel 6.12.1-test",
        "Images",
        "Cluster haulboot",
        "DHCP",
    ] {
        assert!(text.contains(said), "{said} is not in\n{text}");
    }
    assert_eq!(workshop.left(), ["drive", "file.img"]);
}

#[test]
fn the_template_makes_a_registry_without_k3s_and_a_server_with_it() {
    let workshop = Workshop::new();
    workshop.write("k3s", &elf(62, b""));
    for (more, role) in [(&[][..], "registry"), (&["--k3s", "k3s"][..], "server")] {
        let haul = fixture(HAUL);
        let arguments = ["--haul", &haul, "--arch", "x86_64", "-o", "image"];
        workshop.done(&[&arguments[..], more].concat());
        let text = workshop.done(&["inspect", "image", "--json"]);
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["cluster"]["nodes"][0]["role"], role);
    }
}

#[test]
fn damage_and_strangers_are_told_apart_by_inspect() {
    let workshop = Workshop::new();
    let haul = fixture(HAUL);
    workshop.done(&["--haul", &haul, "--arch", "x86_64", "-o", "good.img"]);
    let good = fs::read(workshop.path("good.img")).unwrap();
    let refused = |contents: &[u8], reason: &str| {
        workshop.write("bad", contents);
        let said = workshop.run(&["inspect", "bad"]);
        assert_eq!(said.code, Some(1));
        assert!(said.stdout.is_empty());
        assert!(said.stderr.starts_with("error: bad "), "{}", said.stderr);
        assert!(said.stderr.contains(reason), "{reason}: {}", said.stderr);
        assert!(said.stderr.contains("\n  help: "), "{}", said.stderr);
    };
    refused(b"", "no Haulboot image");
    refused(&[7; 100_000], "no Haulboot image");
    refused(&good[..good.len() - 1], "cut off");
    refused(&good[..good.len() / 2], "cut off");
    refused(&good[..4096], "cut off");

    let spoilt = |offset: usize| {
        let mut contents = good.clone();
        contents[offset] ^= 0xff;
        contents
    };
    // an entry of the first table, then both tables
    let mut both = spoilt(1024 + 60);
    let end = both.len();
    both[end - 512 + 20] ^= 0xff;
    refused(&both, "CRC mismatch");
    // the superblock of HAUL
    let (start, _) = partition(&workshop.path("good.img"), 3);
    refused(&spoilt(start as usize + 1024 + 0x38), "HAUL");

    workshop.write("copy-damaged", &spoilt(good.len() - 512 + 20));
    let text = workshop.done(&["inspect", "copy-damaged"]);
    assert!(text.contains("copy of the partition table"), "{text}");
    workshop.write("first-damaged", &spoilt(512 + 20));
    let text = workshop.done(&["inspect", "first-damaged"]);
    assert!(text.contains("its copy at the end is intact"), "{text}");

    let missing = workshop.run(&["inspect", "nowhere"]);
    assert_eq!(missing.code, Some(1));
}
