//! Hauls that are damaged, incomplete or hostile: one error that names the thing and the place,
//! and nothing left behind.

// the helpers of tests may fail as tests do
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use builder::haul::{self, HaulError};
use builder::progress::Silent;
use common::{Haul, Heard, fixtures, fixtures_named, tree};
use image_layout::Digest;
use image_layout::catalog::CatalogError;
use proptest::prelude::*;

/// Loads and extracts, sees that both fail alike and leave nothing, and returns the error.
fn refused(path: &Path) -> HaulError {
    let directory = tempfile::tempdir().unwrap();
    let given = directory.path().join("given");
    fs::create_dir(&given).unwrap();
    let new = directory.path().join("new");
    let inputs = [path.to_owned()];
    let error = haul::load(&inputs, &given, &Silent).expect_err("load took it");
    haul::load(&inputs, &new, &Silent).expect_err("load took it");
    let extracted = haul::extract(&inputs, &new, &Silent).expect_err("extract took it");
    let inspected = haul::inspect(&inputs, &Silent).expect_err("inspect took it");
    assert_eq!(extracted.to_string(), error.to_string());
    assert_eq!(inspected.to_string(), error.to_string());
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(fs::read_dir(&given).unwrap().count(), 0);
    assert!(!error.help().is_empty());
    error
}

/// Writes `bytes` to a file in a directory of its own and has it refused.
fn refused_bytes(bytes: &[u8]) -> HaulError {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("haul.tar.zst");
    fs::write(&path, bytes).unwrap();
    refused(&path)
}

#[test]
fn every_bad_fixture_is_refused_for_what_is_wrong_with_it() {
    const LAYER: &str = "e3be9672bd984e6ff12de8b4e3546bc9a9362cde1fa52fc79ad99883ea5fd3c9";
    for (path, _) in fixtures_named("bad-") {
        let case = path.file_name().unwrap().to_str().unwrap().to_owned();
        let error = refused(&path);
        let text = error.to_string();
        assert!(text.contains(&case), "{text}");
        let right = match case.trim_end_matches(".tar.zst") {
            "bad-layer-bitflip" => {
                matches!(error, HaulError::WrongDigest { .. }) && text.contains(LAYER)
            }
            "bad-layer-missing" => text.contains(LAYER) && text.contains("is not in the haul"),
            "bad-manifest-bitflip" => {
                matches!(error, HaulError::WrongDigest { .. }) && text.contains("b94d09e820f5")
            }
            "bad-no-index" => matches!(error, HaulError::NoIndex { .. }),
            "bad-symlink" => matches!(error, HaulError::NotAFile { .. }),
            "bad-traversal" => matches!(error, HaulError::Escapes(_)),
            "bad-truncated-archive" | "bad-truncated-tail" => {
                matches!(error, HaulError::Truncated(_))
            }
            other => panic!("no expectation for {other}"),
        };
        assert!(right, "{case}: {error:?}");
    }
}

#[test]
fn nothing_is_written_outside_of_the_layout() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("a/b/c");
    fs::create_dir_all(&deep).unwrap();
    for case in ["bad-symlink", "bad-traversal"] {
        let path = fixtures().join(format!("{case}.tar.zst"));
        haul::load(&[path], &deep.join("layout"), &Silent).unwrap_err();
    }
    assert!(tree(directory.path()).is_empty());
    assert!(!Path::new("/evil-absolute.txt").exists());
}

#[test]
fn what_is_no_haul_is_called_by_what_it_is() {
    assert!(matches!(refused_bytes(b""), HaulError::Empty { .. }));
    for (bytes, said) in [
        (&b"\x7fELF\x02\x01\x01"[..], "a program"),
        (b"PK\x03\x04", "a zip archive"),
        (b"{\"a\":1}", "JSON"),
        (b"hello, this is only text", "no tar archive"),
        (&[0; 2048], "zeros"),
    ] {
        let error = refused_bytes(bytes).to_string();
        assert!(error.contains(said), "{error}");
    }
    for (bytes, program) in [
        (&b"\xfd7zXZ\0\0\0"[..], "xz -dc"),
        (b"BZh91AY", "bzip2 -dc"),
        (b"\x04\x22\x4d\x18....", "lz4 -dc"),
    ] {
        let error = refused_bytes(bytes);
        assert!(matches!(error, HaulError::Compression { .. }), "{error}");
        assert!(error.help().contains(program), "{:?}", error.help());
    }
    let error = refused(Path::new("/no/such/haul.tar.zst"));
    assert!(matches!(error, HaulError::Open { .. }), "{error}");
}

#[test]
fn an_unpacked_archive_of_docker_save_is_told_to_be_given_as_an_archive() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("manifest.json"), "[]").unwrap();
    let error = refused(directory.path());
    assert!(
        matches!(error, HaulError::NoIndex { docker: true, .. }),
        "{error}"
    );
    assert!(
        error.help().contains("the archive itself"),
        "{:?}",
        error.help()
    );
}

#[test]
fn a_window_of_more_than_128_mib_is_refused_without_taking_the_memory() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.include_contentsize(false).unwrap();
    // more than the window, or the frame would say a smaller one
    let zeros = vec![0; 1 << 20];
    for _ in 0..260 {
        encoder.write_all(&zeros).unwrap();
    }
    let error = refused_bytes(&encoder.finish().unwrap());
    assert!(matches!(error, HaulError::Window { .. }), "{error:?}");
}

/// An archive with one entry whose header says `size`, and no data.
fn entry_that_says(name: &str, size: u64, kind: tar::EntryType) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn sizes_that_lie_are_refused() {
    let blob = Digest::sha256_of(b"x").blob_path();
    let regular = tar::EntryType::Regular;
    let error = refused_bytes(&entry_that_says("index.json", 1 << 40, regular));
    assert!(matches!(error, HaulError::TooLarge { .. }), "{error}");
    let error = refused_bytes(&entry_that_says(&blob, 1 << 40, regular));
    assert!(matches!(error, HaulError::Truncated(_)), "{error}");
    let error = refused_bytes(&entry_that_says(&blob, u64::MAX, regular));
    assert!(matches!(error, HaulError::Structure { .. }), "{error}");
    let error = refused_bytes(&entry_that_says("x", 1 << 40, tar::EntryType::GNULongName));
    assert!(matches!(error, HaulError::Structure { .. }), "{error}");
    for kind in [
        tar::EntryType::Link,
        tar::EntryType::Symlink,
        tar::EntryType::Fifo,
    ] {
        let error = refused_bytes(&entry_that_says(&blob, 0, kind));
        assert!(matches!(error, HaulError::NotAFile { .. }), "{error}");
    }
}

#[test]
fn names_never_bring_control_characters_to_the_terminal() {
    let mut haul = Haul::default();
    haul.image("docker.io/library/a:1", b"layer");
    haul.files
        .push(("\x1b[2Jstray\u{202e}.txt".into(), b"x".to_vec()));
    let manifest = br#"{"schemaVersion":2,"layers":[]}"#;
    haul.blob(manifest);
    haul.entry(
        manifest,
        &[
            ("kind", "dev.hauler/image"),
            ("io.containerd.image.name", "x\x1b]0;\x07\r\n"),
        ],
    );
    let directory = tempfile::tempdir().unwrap();
    let path = haul.write(directory.path(), "haul.tar");
    let heard = Heard::default();
    haul::load(&[path], &directory.path().join("layout"), &heard).unwrap();
    let said = heard.0.borrow().join("");
    assert!(said.contains("stray") && said.contains("no name"), "{said}");
    assert!(
        said.chars().all(image_layout::text::is_harmless),
        "{said:?}"
    );

    let mut haul = Haul::default();
    haul.files.push(("../\x1b[31mred".into(), Vec::new()));
    // the tar crate does not write such a name
    let mut archive = entry_that_says("xxxxxxxx", 0, tar::EntryType::Regular);
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&archive);
    header.as_mut_bytes()[..8].copy_from_slice(b"../\x1b[31m");
    header.set_cksum();
    archive.copy_from_slice(header.as_bytes());
    archive.extend([0; 1024]);
    let error = refused_bytes(&archive).to_string();
    assert!(
        error.chars().all(image_layout::text::is_harmless),
        "{error:?}"
    );
}

#[test]
fn manifests_that_name_one_another_without_end_cost_no_more_than_their_bytes() {
    // each level names the one below it 1000 times: 10^12 ways to the bottom
    let mut haul = Haul::default();
    let leaf = br#"{"schemaVersion":2,"config":{"mediaType":"x/y","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
    haul.blob(b"{}");
    haul.blob(leaf);
    let mut below = leaf.to_vec();
    for _ in 0..4 {
        let child = serde_json::json!({
            "digest": Digest::sha256_of(&below).to_string(), "size": below.len()});
        let index = serde_json::json!({"schemaVersion": 2, "manifests": vec![child; 1000]});
        below = serde_json::to_vec(&index).unwrap();
        haul.blob(&below);
    }
    for name in 0..50 {
        haul.entry(
            &below,
            &[("io.containerd.image.name", &format!("docker.io/a/b:{name}"))],
        );
    }
    let directory = tempfile::tempdir().unwrap();
    let path = haul.write(directory.path(), "haul.tar");
    let loaded = haul::inspect(&[path], &Silent).unwrap();
    assert_eq!(loaded.catalog.artifacts.len(), 50);

    let child =
        serde_json::json!({"digest": Digest::sha256_of(&below).to_string(), "size": below.len()});
    let deeper = serde_json::to_vec(&serde_json::json!({"manifests": [child]})).unwrap();
    haul.blob(&deeper);
    haul.entry(
        &deeper,
        &[("io.containerd.image.name", "docker.io/a/b:deep")],
    );
    let error = refused_bytes(&haul.tar());
    assert!(
        matches!(&error, HaulError::Catalog { source, .. } if matches!(**source, CatalogError::TooDeep(_))),
        "{error}"
    );
}

#[test]
fn a_manifest_that_is_too_large_is_refused_before_it_is_parsed() {
    let mut haul = Haul::default();
    let mut manifest = br#"{"layers":[],"annotations":{"a":""#.to_vec();
    manifest.resize(5 << 20, b'a');
    manifest.extend(br#""}}"#);
    haul.blob(&manifest);
    haul.entry(
        &manifest,
        &[("io.containerd.image.name", "docker.io/a/b:1")],
    );
    let error = refused_bytes(&haul.tar());
    assert!(
        matches!(&error, HaulError::Catalog { source, .. } if matches!(**source, CatalogError::ManifestTooLarge { .. })),
        "{error}"
    );
}

#[test]
fn directories_with_links_are_refused_too() {
    let mut haul = Haul::default();
    haul.image("docker.io/library/a:1", b"layer");
    let directory = tempfile::tempdir().unwrap();
    let packed = haul.write(directory.path(), "haul.tar");
    let made = directory.path().join("made");
    haul::extract(&[packed], &made, &Silent).unwrap();
    let blob = made.join(Digest::sha256_of(b"layer").blob_path());
    fs::remove_file(&blob).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &blob).unwrap();
    let error = refused(&made);
    assert!(
        matches!(error, HaulError::NotAFile { what: "a link", .. }),
        "{error}"
    );
    fs::remove_file(&blob).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &blob,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let error = refused(&made);
    assert!(matches!(error, HaulError::NotAFile { .. }), "{error}");
}

#[test]
fn a_directory_with_something_in_it_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mine"), b"mine").unwrap();
    let inputs = [fixtures().join("hauler-2.0.3-small.tar.zst")];
    for outcome in [
        haul::load(&inputs, directory.path(), &Silent),
        haul::extract(&inputs, directory.path(), &Silent),
        haul::extract(&inputs, &directory.path().join("mine"), &Silent),
    ] {
        assert!(
            matches!(outcome, Err(HaulError::Exists { .. })),
            "{outcome:?}"
        );
    }
    assert_eq!(
        tree(directory.path()),
        [("mine".to_owned(), b"mine".to_vec())]
    );
}

#[test]
fn a_place_that_can_not_be_written_to_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    let inputs = [fixtures().join("hauler-2.0.3-small.tar.zst")];
    for error in [
        haul::load(&inputs, &file.join("layout"), &Silent).unwrap_err(),
        haul::extract(&inputs, &file.join("layout"), &Silent).unwrap_err(),
        haul::extract(&inputs, &directory.path().join("no/layout"), &Silent).unwrap_err(),
    ] {
        assert!(matches!(error, HaulError::Write { .. }), "{error:?}");
        assert!(error.to_string().contains("layout"), "{error}");
    }
    assert_eq!(tree(directory.path()).len(), 1);
}

/// The small fixture, unpacked, and what it must give.
fn small() -> (Vec<u8>, &'static haul::Loaded) {
    static SMALL: OnceLock<(Vec<u8>, haul::Loaded)> = OnceLock::new();
    let (tar, loaded) = SMALL.get_or_init(|| {
        let path = fixtures().join("hauler-2.0.3-small.tar.zst");
        let tar = zstd::decode_all(fs::File::open(&path).unwrap()).unwrap();
        (tar, haul::inspect(&[path], &Silent).unwrap())
    });
    (tar.clone(), loaded)
}

fn inspect_bytes(bytes: &[u8]) -> Result<haul::Loaded, HaulError> {
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("haul.tar");
    fs::write(&path, bytes).unwrap();
    haul::inspect(&[path], &Silent)
}

/// Whether every blob a damaged archive brought is one that the undamaged one has: what was
/// accepted must not be wrong. Names may differ: index.json itself has no digest.
fn is_right(loaded: &haul::Loaded, whole: &haul::Loaded) -> bool {
    let known = |blob| whole.catalog.blobs.binary_search(blob).is_ok();
    loaded.catalog.blobs.iter().all(known)
}

#[test]
fn a_plain_archive_cut_off_anywhere_is_refused() {
    let (tar, whole) = small();
    // the second block of zeros at the end, and padding after it, are no loss
    let end = tar
        .iter()
        .rposition(|byte| *byte != 0)
        .unwrap()
        .next_multiple_of(512)
        + 512;
    for length in (0..end).step_by(509).chain(end - 600..end) {
        let outcome = inspect_bytes(&tar[..length]);
        assert!(outcome.is_err(), "{length} of {}: {outcome:?}", tar.len());
    }
    assert_eq!(inspect_bytes(&tar[..end]).unwrap().catalog, whole.catalog);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_in_a_plain_archive_never_bring_wrong_contents(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..4)
    ) {
        let (mut tar, whole) = small();
        for (at, bit) in &flips {
            *at.get_mut(&mut tar) ^= 1 << bit;
        }
        if let Ok(loaded) = inspect_bytes(&tar) {
            prop_assert!(is_right(&loaded, whole));
        }
    }

    #[test]
    fn flipped_headers_never_bring_wrong_contents(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..512_usize, any::<u8>()), 1..6)
    ) {
        let (mut tar, whole) = small();
        let headers: Vec<usize> = (0..tar.len() / 512)
            .map(|block| block * 512)
            .filter(|at| &tar[at + 257..at + 262] == b"ustar")
            .collect();
        for (header, offset, value) in &flips {
            let at = *header.get(&headers);
            tar[at + offset] = *value;
            // with a right checksum, so that what follows is tried too
            let block: &mut [u8] = &mut tar[at..at + 512];
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(block);
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
        if let Ok(loaded) = inspect_bytes(&tar) {
            prop_assert!(is_right(&loaded, whole));
        }
    }

    #[test]
    fn flipped_bits_in_a_packed_archive_are_noticed(
        at in any::<prop::sample::Index>(), bit in 0..8_u8, cut in proptest::option::of(any::<prop::sample::Index>())
    ) {
        let (_, whole) = small();
        let mut packed = fs::read(fixtures().join("hauler-2.0.3-small.tar.zst")).unwrap();
        *at.get_mut(&mut packed) ^= 1 << bit;
        if let Some(cut) = cut {
            packed.truncate(cut.index(packed.len()));
        }
        if let Ok(loaded) = inspect_bytes(&packed) {
            prop_assert_eq!(&loaded.catalog, &whole.catalog);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        prop_assert!(inspect_bytes(&bytes).is_err());
    }
}
