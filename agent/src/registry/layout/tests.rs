use std::fs::File;
use std::io::Write as _;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::archive::{Archive, ArchiveError};
use super::*;

/// How the programs that write hauls differ.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Ustar,
    Gnu,
    /// With an extended header before each entry.
    Pax,
}

/// An entry of a random archive.
#[derive(Clone, Debug)]
enum Entry {
    Blob(Vec<u8>),
    /// A blob's name with other bytes, which a later entry of the name replaces.
    Replaced(Index, Vec<u8>),
    Stray(String, Vec<u8>),
    Directory(String),
    Link(String),
    Index(Vec<u8>),
}

fn entry() -> impl Strategy<Value = Entry> {
    let data = || proptest::collection::vec(any::<u8>(), 0..1500);
    prop_oneof![
        4 => data().prop_map(Entry::Blob),
        1 => (any::<Index>(), data()).prop_map(|(of, data)| Entry::Replaced(of, data)),
        1 => ("[a-z]{1,9}(/[a-z][a-z.]{0,89}){0,3}", data()).prop_map(|(n, d)| Entry::Stray(n, d)),
        1 => "[a-z]{1,9}".prop_map(Entry::Directory),
        1 => "[a-z]{1,9}".prop_map(Entry::Link),
        1 => data().prop_map(Entry::Index),
    ]
}

fn add(tar: &mut tar::Builder<Vec<u8>>, form: Form, kind: tar::EntryType, name: &str, data: &[u8]) {
    if form == Form::Pax {
        let records = [("comment", &b"a\nb"[..]), ("mtime", b"1700000000.25")];
        tar.append_pax_extensions(records).unwrap();
    }
    let mut header = match form {
        Form::Gnu => tar::Header::new_gnu(),
        Form::Ustar | Form::Pax => tar::Header::new_ustar(),
    };
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    if kind == tar::EntryType::Symlink {
        header.set_link_name("/etc/passwd").unwrap();
    }
    header.set_size(data.len() as u64);
    match form {
        Form::Gnu => tar.append_data(&mut header, name, data).unwrap(),
        Form::Ustar | Form::Pax if header.set_path(name).is_ok() => {
            header.set_cksum();
            tar.append(&header, data).unwrap();
        }
        // ustar has no name for it
        Form::Ustar | Form::Pax => {}
    }
}

fn write(form: Form, dot: bool, entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let name = |name: &str| match dot {
        true => format!("./{name}"),
        false => name.to_owned(),
    };
    let blobs: Vec<&Vec<u8>> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Blob(data) => Some(data),
            _ => None,
        })
        .collect();
    for entry in entries {
        if let Entry::Replaced(of, data) = entry
            && !blobs.is_empty()
        {
            let replaced: &&Vec<u8> = of.get(&blobs);
            let path = Digest::sha256_of(replaced).blob_path();
            add(&mut tar, form, tar::EntryType::Regular, &name(&path), data);
        }
    }
    for entry in entries {
        let (kind, path, data) = match entry {
            Entry::Blob(data) => (
                tar::EntryType::Regular,
                Digest::sha256_of(data).blob_path(),
                &data[..],
            ),
            Entry::Stray(path, data) => (tar::EntryType::Regular, path.clone(), &data[..]),
            Entry::Directory(path) => (tar::EntryType::Directory, path.clone(), &[][..]),
            Entry::Link(path) => (tar::EntryType::Symlink, path.clone(), &[][..]),
            Entry::Index(data) => (tar::EntryType::Regular, "index.json".into(), &data[..]),
            Entry::Replaced(..) => continue,
        };
        add(&mut tar, form, kind, &name(&path), data);
    }
    tar.into_inner().unwrap()
}

fn open(bytes: &[u8]) -> Result<Archive, ArchiveError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    Archive::open(file)
}

fn read(archive: &Archive, digest: &Digest) -> Vec<u8> {
    let size = archive.size(digest).unwrap();
    let blob = archive.open_blob(digest, size).unwrap();
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    blob.file.read_exact_at(&mut bytes, blob.start).unwrap();
    bytes
}

proptest! {
    #[test]
    fn every_blob_of_any_archive_comes_back(
        form in select(vec![Form::Ustar, Form::Gnu, Form::Pax]),
        dot in any::<bool>(),
        mut entries in proptest::collection::vec(entry(), 0..20),
    ) {
        // an archive of nothing is no haul
        entries.push(Entry::Blob(b"last".to_vec()));
        let archive = open(&write(form, dot, &entries)).unwrap();
        let mut index = None;
        for entry in &entries {
            match entry {
                Entry::Blob(data) => {
                    prop_assert_eq!(&read(&archive, &Digest::sha256_of(data)), data);
                }
                Entry::Index(data) => index = Some(data.clone()),
                _ => {}
            }
        }
        prop_assert_eq!(archive.read("index.json", 5000).unwrap(), index);
    }

    #[test]
    fn no_bytes_panic_and_no_blob_lies_outside_the_file(
        form in select(vec![Form::Ustar, Form::Gnu, Form::Pax]),
        entries in proptest::collection::vec(entry(), 1..8),
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..12),
        length in any::<Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = write(form, false, &entries);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        if let Ok(archive) = open(&bytes) {
            for entry in &entries {
                if let Entry::Blob(data) = entry
                    && archive.size(&Digest::sha256_of(data)).is_some()
                {
                    let _ = read(&archive, &Digest::sha256_of(data));
                }
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = open(&bytes);
    }
}

#[test]
fn every_truncation_of_an_archive_is_noticed_unless_only_its_padding_is_gone() {
    let entries = [Entry::Blob(vec![1; 700]), Entry::Blob(vec![2; 100])];
    let bytes = write(Form::Gnu, false, &entries);
    let data_ends = 512 + 1024 + 512 + 100;
    for length in 1..data_ends {
        assert!(open(&bytes[..length]).is_err(), "{length}");
    }
    assert!(open(&bytes).is_ok());
}

#[test]
fn sizes_that_no_file_has_are_refused() {
    let digest = Digest::sha256_of(b"x").blob_path();
    for size in [1 << 20, 1 << 40, i64::MAX as u64, u64::MAX - 511, u64::MAX] {
        let mut header = tar::Header::new_gnu();
        header.set_path(&digest).unwrap();
        header.set_size(size);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(&[0; 2048]);
        assert!(open(&bytes).is_err(), "{size}");
    }
}

#[test]
fn what_a_layout_needs_must_be_a_file() {
    let digest = Digest::sha256_of(b"x").blob_path();
    for (kind, name) in [
        (tar::EntryType::Symlink, digest.as_str()),
        (tar::EntryType::Link, &digest),
        (tar::EntryType::Directory, &digest),
        (tar::EntryType::GNUSparse, &digest),
        (tar::EntryType::Fifo, &digest),
        (tar::EntryType::Symlink, "index.json"),
        (tar::EntryType::GNUSparse, "stray"),
    ] {
        let mut tar = tar::Builder::new(Vec::new());
        add(&mut tar, Form::Gnu, kind, name, b"");
        let found = open(&tar.into_inner().unwrap());
        assert!(
            matches!(found, Err(ArchiveError::NotAFile { .. })),
            "{kind:?} {name}"
        );
    }
}

#[test]
fn a_blob_is_what_is_named_by_a_digest_and_nothing_else() {
    let hex = Digest::sha256_of(b"x").hex();
    let mut tar = tar::Builder::new(Vec::new());
    for name in [
        format!("blobs/sha256/{}", hex.to_uppercase()),
        format!("blobs/sha256/{hex}.tmp-1"),
        format!("blobs/sha512/{hex}"),
        format!("haul/blobs/sha256/{hex}"),
        format!("blobs/sha256/x/{hex}"),
        format!("blobs/md5/{hex}"),
    ] {
        add(
            &mut tar,
            Form::Gnu,
            tar::EntryType::Regular,
            &name,
            b"wrong",
        );
    }
    let archive = open(&tar.into_inner().unwrap()).unwrap();
    assert_eq!(archive.size(&Digest::sha256_of(b"x")), None);
}

#[test]
fn compressed_archives_are_told_apart_and_the_way_out_is_named() {
    for (start, command) in [
        (&[0x28, 0xb5, 0x2f, 0xfd, 0, 0][..], "zstd -d"),
        (&[0x1f, 0x8b, 8, 0], "gzip -dk"),
        (b"\xfd7zXZ\0\0", "xz -dk"),
        (b"BZh91AY", "bzip2 -dk"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("haul.tar.x");
        std::fs::write(&path, start).unwrap();
        let error = Layout::open(&path).unwrap_err();
        let help = error.help();
        assert!(help.contains(command), "{help}");
        assert!(help.contains("haul.tar.x"), "{help}");
    }
    for nothing in [&b""[..], b"{}", &[0; 1024]] {
        assert!(matches!(open(nothing), Err(ArchiveError::NoArchive)));
    }
}

#[test]
fn a_blob_of_an_archive_that_was_changed_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("haul.tar");
    let entries = [Entry::Blob(vec![1; 700])];
    let digest = Digest::sha256_of(&[1; 700]);
    let bytes = write(Form::Gnu, false, &entries);
    std::fs::write(&path, &bytes).unwrap();
    let archive = Archive::open(File::open(&path).unwrap()).unwrap();
    assert!(archive.open_blob(&digest, 700).is_ok());
    assert!(archive.open_blob(&digest, 701).is_err());
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[9], 600).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    let error = archive.open_blob(&digest, 700).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}
