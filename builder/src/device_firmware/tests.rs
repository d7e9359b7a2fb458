use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// The files alone.
fn collect(sources: &[PathBuf]) -> Result<BTreeMap<String, Vec<u8>>, FirmwareError> {
    super::collect(sources).map(|collected| collected.files)
}

fn write(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn names(firmware: &BTreeMap<String, Vec<u8>>) -> Vec<&str> {
    firmware.keys().map(String::as_str).collect()
}

/// A tar archive of a package: paths and contents, and links.
fn data(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Past the checks of the crate, which writes no name with `..`.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    for (path, target) in links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, path, target).unwrap();
    }
    archive.into_inner().unwrap()
}

fn package(directory: &TempDir, member: &str, data: &[u8]) -> PathBuf {
    let path = directory.path().join("firmware.deb");
    let mut archive = ar::Builder::new(fs::File::create(&path).unwrap());
    for (name, bytes) in [
        ("debian-binary", &b"2.0\n"[..]),
        ("control.tar.xz", b"not read"),
        (member, data),
    ] {
        let header = ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64);
        archive.append(&header, bytes).unwrap();
    }
    path
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut writer =
        lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(6)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

#[test]
fn a_tree_is_taken_with_its_links_and_without_what_is_hidden() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), "rtl_nic/rtl8168h-2.fw", b"realtek");
    write(directory.path(), ".git/config", b"no firmware");
    symlink("rtl8168h-2.fw", directory.path().join("rtl_nic/alias.fw")).unwrap();
    symlink("rtl_nic", directory.path().join("other")).unwrap();
    let firmware = collect(&[directory.path().to_owned()]).unwrap();
    assert_eq!(
        names(&firmware),
        [
            "other/alias.fw",
            "other/rtl8168h-2.fw",
            "rtl_nic/alias.fw",
            "rtl_nic/rtl8168h-2.fw"
        ]
    );
    assert_eq!(firmware["other/alias.fw"], b"realtek");
}

#[test]
fn a_root_file_system_gives_what_is_in_its_firmware_directory() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), "usr/lib/firmware/bnx2/a.fw.xz", b"a");
    write(directory.path(), "etc/passwd", b"no firmware");
    let firmware = collect(&[directory.path().to_owned()]).unwrap();
    assert_eq!(names(&firmware), ["bnx2/a.fw.xz"]);
}

#[test]
fn a_link_out_of_the_tree_is_not_followed() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), "secret", b"secret");
    write(directory.path(), "tree/a.fw", b"a");
    symlink("../secret", directory.path().join("tree/b.fw")).unwrap();
    symlink("/nowhere", directory.path().join("tree/c.fw")).unwrap();
    let firmware = collect(&[directory.path().join("tree")]).unwrap();
    assert_eq!(names(&firmware), ["a.fw"]);
}

#[test]
fn directories_that_link_to_each_other_end_in_an_error() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), "a/a.fw", b"a");
    write(directory.path(), "b/b.fw", b"b");
    symlink("../b", directory.path().join("a/other")).unwrap();
    symlink("../a", directory.path().join("b/other")).unwrap();
    let error = collect(&[directory.path().to_owned()]).unwrap_err();
    assert!(matches!(error, FirmwareError::TooDeep { .. }), "{error}");
}

#[test]
fn a_package_is_read_whatever_compresses_it() {
    let tar = data(
        &[
            ("./usr/lib/firmware/amd/x.bin", b"amd"),
            ("./usr/share/doc/readme", b"no firmware"),
        ],
        &[
            ("./usr/lib/firmware/amd/y.bin", "x.bin"),
            ("./usr/lib/firmware/z", "amd"),
            ("./usr/lib/firmware/out.bin", "../../../etc/passwd"),
        ],
    );
    let compressed = [
        ("data.tar", tar.clone()),
        ("data.tar.gz", gz(&tar)),
        ("data.tar.xz", xz(&tar)),
        ("data.tar.zst", zstd::encode_all(tar.as_slice(), 3).unwrap()),
    ];
    for (member, bytes) in compressed {
        let directory = TempDir::new().unwrap();
        let firmware = collect(&[package(&directory, member, &bytes)]).unwrap();
        assert_eq!(
            names(&firmware),
            ["amd/x.bin", "amd/y.bin", "z/x.bin", "z/y.bin"],
            "{member}"
        );
        assert_eq!(firmware["z/y.bin"], b"amd");
    }
}

#[test]
fn a_name_that_leaves_the_firmware_directory_is_refused() {
    for name in [
        "./lib/firmware/../../etc/passwd",
        "lib/firmware//etc/passwd",
    ] {
        let directory = TempDir::new().unwrap();
        let deb = package(&directory, "data.tar", &data(&[(name, b"evil")], &[]));
        let error = collect(&[deb]).unwrap_err();
        assert!(
            matches!(error, FirmwareError::Name { .. }),
            "{name}: {error}"
        );
    }
}

#[test]
fn what_is_no_package_or_has_no_firmware_is_refused_with_its_name() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), "x.deb", b"not a package");
    let error = collect(&[directory.path().join("x.deb")]).unwrap_err();
    assert!(
        matches!(error, FirmwareError::NotAPackage { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("x.deb"));

    let deb = package(
        &directory,
        "data.tar",
        &data(&[("./usr/bin/true", b"x")], &[]),
    );
    let error = collect(&[deb]).unwrap_err();
    assert!(matches!(error, FirmwareError::Empty { .. }), "{error}");

    let error = collect(&[directory.path().join("nothing")]).unwrap_err();
    assert!(matches!(error, FirmwareError::Read { .. }), "{error}");
}

#[test]
fn a_truncated_package_is_an_error() {
    let directory = TempDir::new().unwrap();
    let tar = data(&[("./lib/firmware/a.bin", &[7; 100_000])], &[]);
    let mut bytes = zstd::encode_all(tar.as_slice(), 3).unwrap();
    bytes.truncate(bytes.len() / 2);
    let error = collect(&[package(&directory, "data.tar.zst", &bytes)]).unwrap_err();
    assert!(matches!(error, FirmwareError::Damaged { .. }), "{error}");
}

#[test]
fn of_one_name_in_two_sources_the_last_counts() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), "one/a.fw", b"old");
    write(directory.path(), "two/a.fw", b"new");
    let firmware = collect(&[directory.path().join("one"), directory.path().join("two")]).unwrap();
    assert_eq!(firmware["a.fw"], b"new");
}

#[test]
fn a_package_with_one_altered_bit_is_refused_in_every_packing() {
    // nothing to compress, so that only checksums tell
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(100_000)
    .collect();
    let plain = data(&[("usr/lib/firmware/card.bin", &noise)], &[]);
    let zstd = {
        let mut writer = zstd::Encoder::new(Vec::new(), 1).unwrap();
        writer.include_checksum(true).unwrap();
        writer.write_all(&plain).unwrap();
        writer.finish().unwrap()
    };
    for (member, packed) in [
        ("data.tar.gz", gz(&plain)),
        ("data.tar.xz", xz(&plain)),
        ("data.tar.zst", zstd),
    ] {
        let directory = tempfile::tempdir().unwrap();
        assert!(
            collect(&[package(&directory, member, &packed)]).is_ok(),
            "{member}"
        );
        let mut altered = packed;
        let middle = altered.len() / 2;
        altered[middle] ^= 1;
        assert!(
            collect(&[package(&directory, member, &altered)]).is_err(),
            "{member}"
        );
    }
}
