//! k3s's data laid down at build time, so that its launcher has nothing to unpack.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::archive::{self, NoArchive};
use super::binary::K3sBinary;
use super::pause;
use super::unpack::{UnpackError, unpack};

/// What came of looking for a binary's archive.
#[derive(Debug)]
pub enum Data {
    /// It lies unpacked.
    InPlace(InPlace),
    /// The launcher unpacks it itself; why.
    LeftAlone(Why),
}

/// An archive that was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InPlace {
    /// The launcher's name for the directory.
    pub hash: String,
    /// The pause image that k3s was built with, `rancher/mirrored-pause:3.6`, if it is found.
    pub pause_image: Option<String>,
}

/// Why k3s is left to unpack itself, in words that complete a sentence about the file.
#[derive(Debug)]
pub struct Why(String);

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The disk that was written to failed. What is wrong with a binary's archive is no error.
#[derive(Debug, thiserror::Error)]
#[error("writing {}", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl K3sBinary {
    /// Unpacks what the launcher would unpack into `PARENT/HASH` and checks it as the launcher
    /// does. Anything unusual about the archive leaves nothing behind, and k3s to itself.
    ///
    /// # Errors
    /// If the directory can't be written.
    pub fn unpack_into(&self, parent: &Path) -> Result<Data, WriteError> {
        let left_alone = |why: &dyn fmt::Display| Ok(Data::LeftAlone(Why(why.to_string())));
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) => return left_alone(&NoArchive::Read(error)),
        };
        let archive = match archive::find(&file, self.size) {
            Ok(archive) => archive,
            Err(why) => return left_alone(&why),
        };
        let to = parent.join(&archive.hash);
        let remove = || match fs::remove_dir_all(&to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(WriteError {
                path: to.clone(),
                source: error,
            }),
            _ => Ok(()),
        };
        match unpack(&file, &archive, &to) {
            Ok(pause_image) => Ok(Data::InPlace(InPlace {
                hash: archive.hash,
                pause_image,
            })),
            Err(UnpackError::Shape(why)) => {
                remove()?;
                left_alone(&why)
            }
            Err(UnpackError::Write { path, source }) => Err(WriteError { path, source }),
        }
    }

    /// The pause image that the file itself names: for one that is the main program, not a
    /// launcher with the main program packed in it.
    pub fn pause_image(&self) -> Option<String> {
        pause::of(&self.path).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use image_layout::{Arch, Digest};
    use tar::{EntryType, Header};

    use super::*;

    /// A member of an archive: path, kind, contents or target, permissions.
    #[derive(Clone)]
    struct Member(&'static str, EntryType, Vec<u8>, u32);

    fn file(path: &'static str, contents: &[u8]) -> Member {
        Member(path, EntryType::Regular, contents.to_vec(), 0o755)
    }

    fn link(path: &'static str, target: &str) -> Member {
        Member(path, EntryType::Symlink, target.as_bytes().to_vec(), 0o777)
    }

    const MAIN: &[u8] = b"main program rancher/mirrored-pause:3.6 of k3s";

    fn sums() -> Member {
        let sum =
            |name: &str, contents: &[u8]| format!("{} {name}\n", Digest::sha256_of(contents).hex());
        let text = sum(" cni", b"cni") + &sum("k3s", MAIN) + &sum("aux/detect.sh", b"#!");
        Member(
            "./bin/.sha256sums",
            EntryType::Regular,
            text.into_bytes(),
            0o644,
        )
    }

    fn links() -> Member {
        let text = b"aux/iptables detect.sh\naux/mount ../cni\nk3s-server k3s\n";
        Member("./bin/.links", EntryType::Regular, text.to_vec(), 0o664)
    }

    /// An archive as k3s has it.
    fn members() -> Vec<Member> {
        vec![
            Member("./bin/", EntryType::Directory, Vec::new(), 0o755),
            file("./bin/k3s", MAIN),
            file("./bin/cni", b"cni"),
            link("./bin/k3s-server", "k3s"),
            Member("./bin/aux/", EntryType::Directory, Vec::new(), 0o700),
            file("./bin/aux/detect.sh", b"#!"),
            link("./bin/aux/iptables", "detect.sh"),
            link("./bin/aux/mount", "../cni"),
            sums(),
            links(),
            Member("./etc/conf", EntryType::Regular, b"conf".to_vec(), 0o600),
        ]
    }

    fn tar(members: &[Member]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for Member(path, kind, contents, mode) in members {
            let mut header = Header::new_ustar();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            let mut data = contents.as_slice();
            if *kind != EntryType::Regular {
                header.as_mut_bytes()[157..157 + data.len()].copy_from_slice(data);
                data = &[];
            }
            header.set_size(data.len() as u64);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(data);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.extend_from_slice(&[0; 1024]);
        bytes
    }

    /// The outcome for a launcher with this archive, and the directory it was unpacked to.
    fn outcome(tar: &[u8]) -> (Data, tempfile::TempDir) {
        let archive = zstd::encode_all(tar, 1).unwrap();
        let hash = Digest::sha256_of(&archive).hex();
        let bytes = [b"\x7fELF", &archive[..], hash.as_bytes(), b".tar.zst"].concat();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k3s");
        fs::write(&path, &bytes).unwrap();
        let binary = K3sBinary {
            path,
            arch: Arch::X86_64,
            version: None,
            size: bytes.len() as u64,
            digest: Digest::sha256_of(&bytes),
        };
        let data = binary.unpack_into(&directory.path().join("data")).unwrap();
        (data, directory)
    }

    fn left_alone(members: &[Member]) -> String {
        let (data, directory) = outcome(&tar(members));
        let left = fs::read_dir(directory.path().join("data"));
        assert_eq!(
            left.map_or(0, Iterator::count),
            0,
            "something is left behind"
        );
        match data {
            Data::LeftAlone(why) => why.to_string(),
            Data::InPlace(_) => panic!("it was unpacked"),
        }
    }

    #[test]
    fn the_tree_is_what_the_launcher_would_have_made() {
        let (data, directory) = outcome(&tar(&members()));
        let Data::InPlace(data) = data else {
            panic!("{data:?}")
        };
        assert_eq!(
            data.pause_image.as_deref(),
            Some("rancher/mirrored-pause:3.6")
        );
        let root = directory.path().join("data").join(&data.hash);
        assert_eq!(fs::read(root.join("bin/k3s")).unwrap(), MAIN);
        assert_eq!(
            fs::read_link(root.join("bin/aux/mount")).unwrap(),
            Path::new("../cni")
        );
        for (path, mode) in [
            ("bin/k3s", 0o755),
            ("bin/.links", 0o644),
            ("etc/conf", 0o644),
        ] {
            let metadata = fs::metadata(root.join(path)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{path}");
        }
    }

    #[test]
    fn what_does_not_agree_with_its_lists_is_left_alone() {
        let without = |path: &str| {
            let mut members = members();
            members.retain(|member| member.0 != path);
            members
        };
        let with = |member: Member| {
            let mut members = members();
            let place = members.iter_mut().find(|there| there.0 == member.0);
            *place.unwrap() = member;
            members
        };
        for (members, said) in [
            (without("./bin/.sha256sums"), "no bin/.sha256sums"),
            (without("./bin/.links"), "no bin/.links"),
            (without("./bin/cni"), "is missing"),
            (without("./bin/k3s-server"), "not the link"),
            (with(file("./bin/cni", b"other")), "not what"),
            (with(link("./bin/k3s-server", "cni")), "not the link"),
            (with(link("./bin/cni", "k3s")), "names the link"),
            (with(file("./bin/.sha256sums", b"")), "empty or malformed"),
            (
                with(file("./bin/.sha256sums", b"k3s\n")),
                "empty or malformed",
            ),
            (with(file("./bin/.links", b"\n\n")), "empty or malformed"),
            (with(file("./bin/.links", b"\xff a\n")), "no text"),
            (
                with(Member(
                    "./bin/k3s",
                    EntryType::Regular,
                    MAIN.to_vec(),
                    0o644,
                )),
                "no program",
            ),
        ] {
            let why = left_alone(&members);
            assert!(why.contains(said), "{said}: {why}");
        }
    }

    #[test]
    fn members_that_no_k3s_has_are_left_alone() {
        for (member, said) in [
            (file("/bin/x", b""), "no name"),
            (file("bin/../../x", b""), "no name"),
            (file("..", b""), "no name"),
            (file("bin\\x", b""), "no name"),
            (file("bin/\x1bx", b""), "no name"),
            (file("bin//k3s", b""), "twice"),
            (link("bin/k3s", "cni"), "twice"),
            (file("bin/cni/x", b""), "no directory"),
            (file("bin/k3s-server/x", b""), "no directory"),
            (link("bin/x", "/etc/passwd"), "leads out"),
            (link("bin/x", "../../x"), "leads out"),
            (link("bin/x", "../bin/../../x"), "leads out"),
            (link("bin/x", ""), "leads out"),
            (
                Member("bin/x", EntryType::Link, b"bin/k3s".to_vec(), 0),
                "neither",
            ),
            (Member("bin/x", EntryType::Char, Vec::new(), 0), "neither"),
            (Member("bin/x", EntryType::Fifo, Vec::new(), 0), "neither"),
        ] {
            let shown = member.0;
            let mut members = members();
            members.push(member);
            let why = left_alone(&members);
            assert!(why.contains(said), "{shown:?}: {why}");
        }
    }

    #[test]
    fn an_archive_that_is_too_large_or_cut_off_is_left_alone() {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..1].copy_from_slice(b"x");
        header.set_size((1 << 30) + 1);
        header.set_cksum();
        let whole = tar(&members());
        for (bytes, said) in [
            (header.as_bytes().to_vec(), "larger than any k3s"),
            (whole[..whole.len() - 1024].to_vec(), "damaged"),
            (whole[..1000].to_vec(), "damaged"),
            (vec![b'x'; 5000], "no valid tar header"),
        ] {
            match outcome(&bytes).0 {
                Data::LeftAlone(why) => assert!(why.to_string().contains(said), "{why}"),
                Data::InPlace(_) => panic!("it was unpacked"),
            }
        }
    }
}
