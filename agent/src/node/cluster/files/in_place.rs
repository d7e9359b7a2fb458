//! k3s's data, unpacked on the stick already.
//!
//! k3s's launcher unpacks an archive of some 250 MB into `DATA-DIR/data/HASH` unless
//! `bin/k3s` is there (k3s: cmd/k3s/main.go, extract). Here it is there beforehand:
//!
//! 1. empty directories that an earlier boot left under such names are removed: the launcher takes
//!    one for complete, and would find no program in it;
//! 2. a small tmpfs takes what is changed in there: k3s's scripts replace six links in `bin/aux`;
//! 3. `data/HASH` becomes an overlay of the stick's directory and that tmpfs;
//! 4. the links are made that the launcher makes when it unpacks: `data/current`, `data/previous`
//!    and one in `data/cni` for each plug-in.
//!
//! Whatever fails is undone, and k3s unpacks itself. All of it may be done again.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use image_layout::Arch;
use image_layout::paths::{haul, node};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::FilesError;
use super::write::{below, directory, failed, link};

/// The tmpfs that takes changes; six links need a few kilobytes.
const SCRATCH: &str = "k3s-changes";
const SCRATCH_OPTIONS: &std::ffi::CStr = c"mode=0700,size=16m,nr_inodes=4k";
/// As HAUL itself, and without `noexec`.
const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
/// File system types of statfs(2) (Linux: include/uapi/linux/magic.h).
const TMPFS: u64 = 0x0102_1994;
const OVERLAY: u64 = 0x794c_7630;
/// Plug-ins in one release; five to ten are known.
const PLUGINS: usize = 256;

/// Which directory is laid over which; all paths as this process sees them.
#[derive(Debug, PartialEq, Eq)]
struct Layers {
    lower: PathBuf,
    scratch: PathBuf,
    target: PathBuf,
}

impl Layers {
    fn new(root: &Path, on_haul: &Path, data_dir: &Path, hash: &str) -> Layers {
        Layers {
            lower: on_haul.join(haul::k3s_data(Arch::current(), hash)),
            scratch: below(root, Path::new(node::RUN)).join(SCRATCH),
            target: below(root, data_dir).join("data").join(hash),
        }
    }

    /// The overlay's options. Its separators are escaped in paths (Linux: overlayfs.rst).
    fn options(&self) -> Vec<u8> {
        let mut options = Vec::new();
        for (key, path) in [
            ("lowerdir=", &self.lower),
            (",upperdir=", &self.scratch.join("upper")),
            (",workdir=", &self.scratch.join("work")),
        ] {
            options.extend_from_slice(key.as_bytes());
            for byte in path.as_os_str().as_bytes() {
                if b":,\\".contains(byte) {
                    options.push(b'\\');
                }
                options.push(*byte);
            }
        }
        options
    }

    fn mount(&self) -> Result<(), FilesError> {
        directory(&self.scratch, 0o700)?;
        if !is_mount(&self.scratch, TMPFS) {
            mount("tmpfs", &self.scratch, "tmpfs", FLAGS, SCRATCH_OPTIONS)
                .map_err(|error| failed("mounting a tmpfs on", &self.scratch)(error.into()))?;
        }
        directory(&self.scratch.join("upper"), 0o755)?;
        directory(&self.scratch.join("work"), 0o700)?;
        directory(&self.target, 0o755)?;
        let overlay = |error: io::Error| failed("mounting an overlay on", &self.target)(error);
        let options = std::ffi::CString::new(self.options()).map_err(|e| overlay(e.into()))?;
        mount(
            "overlay",
            &self.target,
            "overlay",
            FLAGS,
            options.as_c_str(),
        )
        .map_err(|error| overlay(error.into()))
    }

    /// Takes back what [`Self::mount`] did, as far as it got: the launcher must find no directory.
    fn undo(&self) {
        for (path, kind) in [(&self.target, OVERLAY), (&self.scratch, TMPFS)] {
            if is_mount(path, kind) {
                let _ = unmount(path, UnmountFlags::DETACH);
            }
            // fails where something is in it, and then it is not ours
            let _ = fs::remove_dir(path);
        }
    }
}

/// Whether a file system of this type begins at this directory.
fn is_mount(path: &Path, kind: u64) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
    let of_kind = rustix::fs::statfs(path).is_ok_and(|statfs| statfs.f_type as u64 == kind);
    of_kind
        && path
            .parent()
            .is_some_and(|parent| device(parent) != device(path))
}

/// Whether a name is one that the launcher gives: a sha256.
fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Removes empty directories that could be taken for an unpacked k3s.
pub(super) fn clear(root: &Path, data_dir: &Path) {
    let data = below(root, data_dir).join("data");
    for entry in fs::read_dir(data).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_hash) {
            // only empty ones can be removed, and none that is mounted
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Puts k3s's data in place. Says whether it is; an error is a reason to let k3s unpack itself,
/// and everything is as before then. The kernel must have overlayfs by now.
pub(super) fn put_in_place(
    root: &Path,
    on_haul: &Path,
    data_dir: &Path,
    hash: Option<&str>,
) -> Result<bool, FilesError> {
    let Some(hash) = hash.filter(|hash| is_hash(hash)) else {
        return Ok(false);
    };
    let layers = Layers::new(root, on_haul, data_dir, hash);
    if !layers.lower.join("bin/k3s").is_file() {
        return Ok(false);
    }
    if is_mount(&layers.target, OVERLAY) {
        // k3s may run from it already: whatever happens, it stays
        links(root, data_dir, hash)?;
        return Ok(true);
    }
    let done = layers
        .mount()
        .and_then(|()| look(&layers.target))
        .and_then(|()| links(root, data_dir, hash));
    if done.is_err() {
        layers.undo();
    }
    done.map(|()| true)
}

/// What the launcher looks for must be readable through the overlay.
fn look(target: &Path) -> Result<(), FilesError> {
    let k3s = target.join("bin/k3s");
    let found = fs::metadata(&k3s).map_err(failed("reading", &k3s))?;
    if found.is_file() {
        return Ok(());
    }
    Err(failed("reading", &k3s)(ErrorKind::InvalidData.into()))
}

/// Makes the links that the launcher makes. They name the node's paths.
fn links(root: &Path, data_dir: &Path, hash: &str) -> Result<(), FilesError> {
    let data = below(root, data_dir).join("data");
    let unpacked = data_dir.join("data").join(hash);
    let current = data.join("current");
    let old = fs::read_link(&current).ok();
    if old.as_ref() != Some(&unpacked) {
        if old.is_some() {
            fs::rename(&current, data.join("previous")).map_err(failed("renaming", &current))?;
        }
        link(&unpacked, &current)?;
    }
    let bin = data.join(hash).join("bin");
    let cni = data.join("cni");
    directory(&cni, 0o755)?;
    for plugin in plugins(&bin)? {
        let path = cni.join(&plugin);
        // a file here is somebody's own plug-in
        let theirs = fs::symlink_metadata(&path).is_ok_and(|found| !found.is_symlink());
        if !theirs {
            link(&unpacked.join("bin/cni"), &path)?;
        }
    }
    Ok(())
}

/// `cni`, one program for all, and the names in `bin` that are links to it.
fn plugins(bin: &Path) -> Result<Vec<std::ffi::OsString>, FilesError> {
    let mut names = vec!["cni".into()];
    for entry in fs::read_dir(bin).map_err(failed("reading", bin))? {
        let entry = entry.map_err(failed("reading", bin))?;
        let target = fs::read_link(entry.path());
        if target.is_ok_and(|target| target == Path::new("cni")) && names.len() < PLUGINS {
            names.push(entry.file_name());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const OLD: &str = "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    /// A directory as the launcher unpacks it.
    fn unpacked(at: &Path) {
        fs::create_dir_all(at.join("bin/aux")).unwrap();
        fs::write(at.join("bin/k3s"), "k3s").unwrap();
        fs::write(at.join("bin/cni"), "cni").unwrap();
        for plugin in ["bridge", "host-local"] {
            symlink("cni", at.join("bin").join(plugin)).unwrap();
        }
        symlink("busybox", at.join("bin/sh")).unwrap();
    }

    #[test]
    fn the_overlay_has_the_stick_below_and_memory_above() {
        let layers = Layers::new(
            Path::new("/"),
            Path::new("/run/haulboot/haul"),
            Path::new("/var/lib/rancher/k3s"),
            HASH,
        );
        assert_eq!(
            String::from_utf8(layers.options()).unwrap(),
            format!(
                "lowerdir=/run/haulboot/haul/arch/{}/k3s-data/{HASH},\
                 upperdir=/run/haulboot/k3s-changes/upper,workdir=/run/haulboot/k3s-changes/work",
                Arch::current()
            )
        );
        assert_eq!(
            layers.target,
            Path::new("/var/lib/rancher/k3s/data").join(HASH)
        );
        let odd = Layers {
            lower: "/a:b,c".into(),
            ..layers
        };
        assert!(odd.options().starts_with(b"lowerdir=/a\\:b\\,c,"));
    }

    #[test]
    fn the_links_are_those_of_the_launcher() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("d/data");
        unpacked(&data.join(HASH));
        fs::create_dir_all(data.join("cni")).unwrap();
        symlink(format!("/d/data/{OLD}"), data.join("current")).unwrap();
        symlink(format!("/d/data/{OLD}/bin/cni"), data.join("cni/bridge")).unwrap();
        fs::write(data.join("cni/host-local"), "their own").unwrap();
        for _ in 0..2 {
            links(root.path(), Path::new("/d"), HASH).unwrap();
        }
        let read = |name: &str| fs::read_link(data.join(name)).unwrap();
        assert_eq!(read("current"), Path::new("/d/data").join(HASH));
        assert_eq!(read("previous"), Path::new("/d/data").join(OLD));
        let cni = Path::new("/d/data").join(HASH).join("bin/cni");
        assert_eq!(read("cni/bridge"), cni);
        assert_eq!(read("cni/cni"), cni);
        assert_eq!(fs::read(data.join("cni/host-local")).unwrap(), b"their own");
        assert!(fs::symlink_metadata(data.join("cni/sh")).is_err());
    }

    #[test]
    fn an_empty_directory_is_never_left_where_the_launcher_looks() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("d/data");
        fs::create_dir_all(data.join(OLD)).unwrap();
        fs::create_dir_all(data.join("cni")).unwrap();
        unpacked(&data.join(HASH));
        clear(root.path(), Path::new("/d"));
        assert!(!data.join(OLD).exists());
        assert!(data.join("cni").exists() && data.join(HASH).join("bin/k3s").exists());
    }

    #[test]
    fn without_data_on_the_stick_k3s_unpacks_itself() {
        let root = tempfile::tempdir().unwrap();
        for hash in [None, Some("../../etc"), Some(HASH)] {
            let done = put_in_place(root.path(), root.path(), Path::new("/d"), hash);
            assert!(!done.unwrap());
            assert!(!root.path().join("d").exists());
        }
    }

    /// Runs a test on a thread whose mounts are nobody else's.
    fn with_own_mounts(test: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
                    .expect("this test mounts and needs root");
                let private = rustix::mount::MountPropagationFlags::PRIVATE
                    | rustix::mount::MountPropagationFlags::REC;
                rustix::mount::mount_change("/", private).unwrap();
                test();
            });
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }

    #[test]
    fn what_is_changed_in_place_goes_to_memory_and_the_stick_stays_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let on_haul = root.path().join("haul");
        let lower = on_haul.join(haul::k3s_data(Arch::current(), HASH));
        unpacked(&lower);
        symlink("detect", lower.join("bin/aux/iptables")).unwrap();
        with_own_mounts(|| {
            let place = || put_in_place(root.path(), &on_haul, Path::new("/d"), Some(HASH));
            assert!(place().unwrap());
            let target = root.path().join("d/data").join(HASH);
            let iptables = target.join("bin/aux/iptables");
            link(Path::new("xtables-nft-multi"), &iptables).unwrap();
            // as after a restart of this process
            clear(root.path(), Path::new("/d"));
            assert!(place().unwrap());
            let changed = fs::read_link(&iptables).unwrap();
            assert_eq!(changed, Path::new("xtables-nft-multi"));
            let below = fs::read_link(lower.join("bin/aux/iptables")).unwrap();
            assert_eq!(below, Path::new("detect"));
            let current = fs::read_link(root.path().join("d/data/current")).unwrap();
            assert_eq!(current, Path::new("/d/data").join(HASH));
            assert!(is_mount(&target, OVERLAY), "mounted once");
            unmount(&target, UnmountFlags::DETACH).unwrap();
            assert!(!is_mount(&target, OVERLAY), "and not twice");
        });
    }

    #[test]
    fn what_fails_half_way_leaves_nothing_that_the_launcher_would_take_for_complete() {
        let root = tempfile::tempdir().unwrap();
        let on_haul = root.path().join("haul");
        let lower = on_haul.join(haul::k3s_data(Arch::current(), HASH));
        unpacked(&lower);
        // no directory of plug-ins can be made
        fs::create_dir_all(root.path().join("d/data")).unwrap();
        fs::write(root.path().join("d/data/cni"), "").unwrap();
        with_own_mounts(|| {
            let done = put_in_place(root.path(), &on_haul, Path::new("/d"), Some(HASH));
            assert!(done.unwrap_err().to_string().starts_with("making "));
            assert!(!root.path().join("d/data").join(HASH).exists());
            assert!(!root.path().join("run/haulboot").join(SCRATCH).exists());
        });
        assert!(lower.join("bin/k3s").exists());
    }
}
