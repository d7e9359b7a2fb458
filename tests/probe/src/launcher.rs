//! What k3s's launcher does before k3s (k3s: cmd/k3s/main.go, pkg/dataverify).
//!
//! A file of the launcher's shape is the probe followed by the archive and a trailer of
//! [`TRAILER`] bytes: `HASH.tar.zst`, offset and length of the archive as little-endian 64-bit
//! numbers, [`MAGIC`]. The linker tells k3s where its archive is; this is how the probe knows.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::FlockOperation;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::report;

/// Last bytes of a file with an archive.
pub const MAGIC: &[u8; 8] = b"k3sprobe";
/// Length of the trailer.
pub const TRAILER: usize = 64 + 8 + 16 + 8;

/// The archive in the running program.
#[derive(Debug)]
pub struct Archive {
    file: PathBuf,
    hash: String,
    offset: u64,
    length: u64,
}

impl Archive {
    /// The one that this file ends with; `None` for the bare program.
    pub fn of(path: &Path) -> Result<Option<Archive>> {
        let mut file = File::open(path)?;
        if file.metadata()?.len() < TRAILER as u64 {
            return Ok(None);
        }
        file.seek(SeekFrom::End(-(TRAILER as i64)))?;
        let mut trailer = [0; TRAILER];
        file.read_exact(&mut trailer)?;
        let Some(rest) = trailer.strip_suffix(MAGIC) else {
            return Ok(None);
        };
        let number = |at: usize| -> Result<u64> {
            let bytes = rest.get(at..at + 8).context("the trailer is short")?;
            Ok(u64::from_le_bytes(bytes.try_into()?))
        };
        let hash = rest
            .get(..64)
            .map(<[u8]>::to_vec)
            .context("the trailer is short")?;
        Ok(Some(Archive {
            file: path.to_owned(),
            hash: String::from_utf8(hash)?,
            offset: number(72)?,
            length: number(80)?,
        }))
    }

    /// Unpacks unless it was done before, and says where it lies.
    pub fn extract(&self, data_dir: &Path) -> Result<PathBuf> {
        let data = data_dir.join("data");
        let place = data.join(&self.hash);
        if place.join("bin/k3s").exists() {
            report::event(&json!({"event": "unpacked", "bytes": 0}));
            return Ok(place);
        }
        fs::create_dir_all(&data)?;
        let lock = File::create(data.join(".lock")).context("Acquiring lock file")?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        if place.exists() {
            return Ok(place);
        }
        report::log(format!("Preparing data dir {}", place.display()));
        let fresh = data.join(format!("{}-tmp", self.hash));
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        fs::create_dir_all(&fresh)?;
        self.unpack(&fresh)?;
        let bytes = verify(&fresh.join("bin"))?;

        let current = data.join("current");
        if current.symlink_metadata().is_ok() {
            fs::rename(&current, data.join("previous"))?;
        }
        symlink(&place, &current)?;
        fs::rename(&fresh, &place)?;
        link_cni(&data, &place)?;
        report::event(&json!({"event": "unpacked", "bytes": bytes}));
        Ok(place)
    }

    fn unpack(&self, to: &Path) -> Result<()> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut frame = io::BufReader::with_capacity(1 << 16, file.take(self.length));
        let decoder = ruzstd::decoding::StreamingDecoder::new(&mut frame)
            .map_err(|error| anyhow::anyhow!("the archive is no zstd frame: {error}"))?;
        tar::Archive::new(decoder)
            .unpack(to)
            .context("unpacking the archive")
    }
}

/// Checks `.sha256sums` and `.links`; gives the bytes of all files.
fn verify(bin: &Path) -> Result<u64> {
    let mut bytes = 0;
    for (name, hash) in fields(&bin.join(".sha256sums"), 1, 0)? {
        let mut file = File::open(bin.join(&name)).with_context(|| format!("open {name}"))?;
        let mut digest = Sha256::new();
        let mut piece = vec![0; 1 << 16];
        loop {
            let n = file.read(&mut piece)?;
            if n == 0 {
                break;
            }
            digest.update(piece.get(..n).unwrap_or_default());
            bytes += n as u64;
        }
        ensure!(
            hex::encode(digest.finalize()) == hash,
            "Hash for file {name} expected to be {hash} (fail)"
        );
    }
    for (name, target) in fields(&bin.join(".links"), 0, 1)? {
        let found = fs::read_link(bin.join(&name)).unwrap_or_default();
        ensure!(
            found == Path::new(&target),
            "Link for file {name} expected to be {target} (fail)"
        );
    }
    Ok(bytes)
}

fn fields(list: &Path, key: usize, value: usize) -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(list).with_context(|| format!("open {}", list.display()))?;
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.get(key), words.get(value)) {
            (Some(key), Some(value)) => found.push(((*key).to_owned(), (*value).to_owned())),
            _ => bail!("{}: {line:?} has too few fields", list.display()),
        }
    }
    ensure!(!found.is_empty(), "no entries found in {}", list.display());
    Ok(found)
}

/// A directory for network plugins whose path never changes.
fn link_cni(data: &Path, place: &Path) -> Result<()> {
    let stable = data.join("cni");
    let program = place.join("bin/cni");
    fs::create_dir_all(&stable)?;
    relink(&program, &stable.join("cni"))?;
    for entry in fs::read_dir(place.join("bin"))?.flatten() {
        if fs::read_link(entry.path()).is_ok_and(|target| target == Path::new("cni")) {
            relink(&program, &stable.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Whether `data/current` and `data/cni` lead into what was unpacked at `place`.
pub fn links(place: &Path) -> (Result<String, String>, Result<String, String>) {
    let data = place.parent().unwrap_or(place);
    let leads = |link: &str, target: PathBuf| {
        let real =
            |path: &Path| fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display()));
        let (found, wanted) = (real(&data.join(link))?, real(&target)?);
        match found == wanted {
            true => Ok(found.display().to_string()),
            false => Err(format!("{link} leads to {}", found.display())),
        }
    };
    let program = place.join("bin/cni");
    (
        leads("current", place.to_owned()),
        leads("cni/bridge", program),
    )
}

/// Makes a link, in place of whatever has its name.
pub fn relink(target: &Path, link: &Path) -> Result<()> {
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", link.display()))
        }
        _ => symlink(target, link).with_context(|| format!("linking {}", link.display())),
    }
}

/// Becomes the program of that name in the unpacked archive; returns only if that fails.
pub fn execute(
    place: &Path,
    name: &str,
    arguments: &[OsString],
    bundled_first: bool,
) -> Result<()> {
    let (bin, aux) = (place.join("bin"), place.join("bin/aux"));
    let cni = place.parent().unwrap_or(place).join("cni");
    let path = std::env::var("PATH").unwrap_or_default();
    let (bin, aux, cni) = (bin.display(), aux.display(), cni.display());
    let path = match bundled_first {
        true => format!("{cni}:{bin}:{aux}:{path}"),
        false => format!("{cni}:{bin}:{path}:{aux}"),
    };
    let mut command = std::process::Command::new(place.join("bin").join(name));
    let mut arguments = arguments.iter();
    if let Some(first) = arguments.next() {
        command.arg0(first);
    }
    let error = command
        .args(arguments)
        .env("PATH", path)
        .env("K3S_DATA_DIR", place)
        .exec();
    Err(error).with_context(|| format!("exec: {name}"))
}

#[cfg(test)]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    /// A file of the launcher's shape with three files and two links.
    fn launcher(at: &Path, sum: &str) {
        let mut tar = tar::Builder::new(Vec::new());
        let sums = format!("{sum}  k3s\n");
        for (name, text) in [
            ("./bin/k3s", "main"),
            ("./bin/cni", "plugins"),
            ("./bin/.sha256sums", sums.as_str()),
            ("./bin/.links", "bridge cni\nk3s-server k3s\n"),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        for (name, to) in [("./bin/bridge", "cni"), ("./bin/k3s-server", "k3s")] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, name, to).unwrap();
        }
        let tar = tar.into_inner().unwrap();
        let archive = compress_to_vec(tar.as_slice(), CompressionLevel::Fastest);
        let mut file = b"program".to_vec();
        file.extend(&archive);
        file.extend(hex::encode(Sha256::digest(&archive)).as_bytes());
        file.extend(b".tar.zst");
        file.extend(7_u64.to_le_bytes());
        file.extend((archive.len() as u64).to_le_bytes());
        file.extend(MAGIC);
        fs::write(at, file).unwrap();
    }

    #[test]
    fn an_archive_is_unpacked_once_and_linked_as_k3s_links_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("k3s");
        launcher(&file, &hex::encode(Sha256::digest(b"main")));
        let archive = Archive::of(&file).unwrap().unwrap();
        let place = archive.extract(directory.path()).unwrap();
        let data = directory.path().join("data");
        let (current, plugin) = links(&place);
        assert!(current.is_ok() && plugin.is_ok());
        assert_eq!(fs::read_link(data.join("current")).unwrap(), place);
        assert_eq!(
            fs::read(data.join("current/bin/k3s-server")).unwrap(),
            b"main"
        );
        assert_eq!(
            fs::read_link(data.join("cni/bridge")).unwrap(),
            place.join("bin/cni")
        );
        // what lies there is taken as it is
        fs::write(place.join("bin/k3s"), "changed").unwrap();
        assert_eq!(archive.extract(directory.path()).unwrap(), place);
        assert_eq!(fs::read(place.join("bin/k3s")).unwrap(), b"changed");
    }

    #[test]
    fn a_damaged_archive_and_a_bare_program_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("k3s");
        launcher(&file, &"0".repeat(64));
        let why = Archive::of(&file)
            .unwrap()
            .unwrap()
            .extract(directory.path())
            .unwrap_err();
        assert!(
            why.to_string()
                .starts_with("Hash for file k3s expected to be 000"),
            "{why}"
        );
        assert!(!directory.path().join("data/current").exists());
        fs::write(&file, "x".repeat(1000)).unwrap();
        assert!(Archive::of(&file).unwrap().is_none());
    }
}
