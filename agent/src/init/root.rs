//! From the initramfs to a root of our own, and HAUL mounted.
//!
//! k3s can't run on the initramfs: runc's pivot_root fails there and kubelet does not know the type
//! of the file system. So the root becomes an ordinary tmpfs:
//!
//! 1. mount a tmpfs and copy the agent to it;
//! 2. move `/dev`, `/proc`, `/sys` and `/run`, with all below them, over;
//! 3. move the tmpfs onto `/` and change the root to it (pivot_root refuses to leave a rootfs);
//! 4. delete what the initramfs held, to give its memory back;
//! 5. start the agent anew from the new root, with what is known so far in a file on `/run`.
//!
//! Mounts become shared only after that: a mount below a shared one can't be moved.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use image_layout::Arch;
use image_layout::image::{FORMAT, ImageInfo};
use image_layout::limits::IMAGE_JSON_BYTES;
use image_layout::paths::{haul, node};
use image_layout::status::Status;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat, unlinkat};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, unmount};
use serde::{Deserialize, Serialize};

use super::media::Stick;
use super::modules::ModuleFiles;
use super::text::read_bounded;

const NEW_ROOT: &str = "/newroot";
/// What is carried over the start from the new root.
const CARRIED: &str = "/run/haulboot/init.json";
/// The tmpfs that is `/` takes at most half of the memory.
const ROOT_OPTIONS: &std::ffi::CStr = c"mode=0755,size=50%";
/// Directories of the new root and their modes.
const DIRECTORIES: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc", 0o755),
    ("lib/firmware", 0o755),
    ("lib/modules", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("usr/local/bin", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];
/// Links of the new root: what, where.
const LINKS: &[(&str, &str)] = &[
    ("usr/bin", "bin"),
    ("usr/sbin", "sbin"),
    ("/run", "var/run"),
    ("haulboot", "usr/sbin/modprobe"),
    ("haulboot", "usr/sbin/poweroff"),
    ("haulboot", "usr/sbin/halt"),
    ("haulboot", "usr/sbin/shutdown"),
    ("haulboot", "usr/sbin/reboot"),
];
/// Deeper than any tree of an initramfs.
const DEPTH: usize = 64;

/// What lies on HAUL for this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HaulContents {
    /// `haulboot.json`.
    pub(super) image: Option<ImageInfo>,
    /// Why there is none, or why it is of no use.
    pub(super) problem: Option<String>,
    /// Whether modules of the running kernel are there.
    pub(super) modules: bool,
    /// Whether device firmware is there.
    pub(super) firmware: bool,
    /// The architectures it carries something for.
    pub(super) arches: Vec<String>,
}

/// What one life of PID 1 hands to the next.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Carried {
    /// The state so far.
    pub(super) status: Status,
    /// When stage root began, in seconds since the kernel started.
    pub(super) root_began: f64,
    /// The stick.
    pub(super) stick: Stick,
    /// What is on it.
    pub(super) contents: HaulContents,
    /// Why the root could not be switched, if so.
    pub(super) problem: Option<String>,
}

impl Carried {
    /// What an earlier life left, once.
    pub(super) fn take() -> Option<Carried> {
        let json = read_bounded(CARRIED, 4 << 20).ok()?;
        let _ = fs::remove_file(CARRIED);
        serde_json::from_str(&json).ok()
    }
}

/// The helper's task: mounts HAUL and prints its [`HaulContents`] as JSON.
pub(super) fn mount_haul(device: &str) -> Result<String, String> {
    let source = Path::new("/dev").join(device);
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    fs::create_dir_all(node::HAUL).map_err(|error| format!("making {}: {error}", node::HAUL))?;
    // an earlier helper that was given up may have got there after all
    let _ = unmount(node::HAUL, UnmountFlags::DETACH);
    mount(source.as_path(), node::HAUL, "ext4", flags, None).map_err(|error| error.to_string())?;
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let on_haul = |path: &str| Path::new(node::HAUL).join(path);
    let mut contents = HaulContents {
        modules: on_haul(&haul::modules(Arch::current(), &release))
            .join("modules.dep")
            .exists(),
        firmware: on_haul(&haul::firmware(Arch::current())).is_dir(),
        ..HaulContents::default()
    };
    let arches = fs::read_dir(on_haul("arch"))
        .into_iter()
        .flatten()
        .flatten();
    contents.arches = arches
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    contents.arches.sort();
    match read_bounded(on_haul(haul::IMAGE_JSON), IMAGE_JSON_BYTES)
        .map_err(|error| error.to_string())
        .and_then(|json| serde_json::from_str::<ImageInfo>(&json).map_err(|e| e.to_string()))
    {
        Ok(image) if image.format > FORMAT => {
            contents.problem = Some(format!(
                "the stick has format {}, this agent knows {FORMAT}",
                image.format
            ));
        }
        Ok(image) => contents.image = Some(image),
        Err(error) => contents.problem = Some(format!("reading {}: {error}", haul::IMAGE_JSON)),
    }
    serde_json::to_string(&contents).map_err(|error| error.to_string())
}

/// The helper's task: mounts HAULCFG.
pub(super) fn mount_config(device: &str) -> Result<String, String> {
    let source = Path::new("/dev").join(device);
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    fs::create_dir_all(node::CONFIG)
        .map_err(|error| format!("making {}: {error}", node::CONFIG))?;
    // names in UTF-8 whatever the kernel's default is; without the table, as the kernel likes
    let tried = mount(source.as_path(), node::CONFIG, "vfat", flags, c"utf8");
    tried
        .or_else(|_| mount(source.as_path(), node::CONFIG, "vfat", flags, None))
        .map_err(|error| error.to_string())?;
    Ok(String::new())
}

/// The helper's task: unmounts HAULCFG.
pub(super) fn unmount_config() -> Result<String, String> {
    match unmount(node::CONFIG, UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(String::new()),
        Err(error) => Err(error.to_string()),
    }
}

/// Switches to the new root and starts the agent from it. Returns only if that failed, with what
/// failed; up to the move of the mounts everything is then as before.
pub(super) fn switch(carried: &Carried) -> String {
    match try_switch(carried) {
        Ok(never) => never,
        Err(problem) => problem,
    }
}

fn try_switch(carried: &Carried) -> Result<String, String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| format!("{what}: {error}")
    };
    fs::create_dir_all(NEW_ROOT).map_err(failed("making the new root"))?;
    mount(
        "tmpfs",
        NEW_ROOT,
        "tmpfs",
        MountFlags::empty(),
        ROOT_OPTIONS,
    )
    .map_err(|error| format!("mounting the new root: {error}"))?;
    furnish(Path::new(NEW_ROOT)).map_err(failed("furnishing the new root"))?;
    if !carried.contents.modules {
        // HAUL has none for this kernel: those of the initramfs are all there are
        let own = ModuleFiles::directory();
        let target = Path::new(NEW_ROOT).join(own.strip_prefix("/").unwrap_or(&own));
        copy_tree(&own, &target, 0).map_err(failed("copying the modules of the initramfs"))?;
    }
    let json = serde_json::to_vec(carried).map_err(|error| error.to_string())?;
    fs::write(CARRIED, json).map_err(failed("writing what is known so far"))?;

    let old = openat(CWD, "/", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| format!("opening the initramfs: {error}"))?;
    for below in ["dev", "proc", "sys", "run"] {
        let target = Path::new(NEW_ROOT).join(below);
        mount_move(Path::new("/").join(below).as_path(), target.as_path())
            .map_err(|error| format!("moving /{below}: {error}"))?;
    }
    rustix::process::chdir(NEW_ROOT).map_err(|error| format!("entering the new root: {error}"))?;
    mount_move(".", "/").map_err(|error| format!("moving the new root: {error}"))?;
    rustix::process::chroot(".").map_err(|error| format!("changing the root: {error}"))?;
    rustix::process::chdir("/").map_err(|error| format!("entering the root: {error}"))?;
    if let Ok(status) = rustix::fs::fstat(&old) {
        delete_below(&old, status.st_dev, 0);
    }
    drop(old);
    let error = Command::new(node::AGENT)
        .arg0("haulboot")
        .env_clear()
        .exec();
    Err(format!("starting {}: {error}", node::AGENT))
}

/// Directories, links and the agent of the new root.
fn furnish(root: &Path) -> io::Result<()> {
    for (directory, mode) in DIRECTORIES {
        let path = root.join(directory);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
    }
    let agent = root.join(node::AGENT.trim_start_matches('/'));
    fs::copy("/proc/self/exe", &agent)?;
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))?;
    for (to, link) in LINKS {
        symlink(to, root.join(link))?;
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() && depth < DEPTH {
            copy_tree(&entry.path(), &target, depth + 1)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Deletes everything below a directory that lies on the same file system. What can't be deleted
/// stays; it only takes memory.
fn delete_below(directory: &OwnedFd, device: u64, depth: usize) {
    if depth > DEPTH {
        return;
    }
    let Ok(entries) = Dir::read_from(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let here: BorrowedFd<'_> = directory.as_fd();
        let Ok(status) = statat(here, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        if status.st_dev != device {
            continue;
        }
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(child) = openat(here, name, flags, Mode::empty()) {
                delete_below(&child, device, depth + 1);
            }
            let _ = unlinkat(here, name, AtFlags::REMOVEDIR);
        } else {
            let _ = unlinkat(here, name, AtFlags::empty());
        }
    }
}

/// On the new root: where modules and firmware are found. Returns what failed.
pub(super) fn link_modules(contents: &HaulContents) -> Vec<String> {
    let mut problems = Vec::new();
    let directory = ModuleFiles::directory();
    let release = directory.file_name().unwrap_or_default().to_string_lossy();
    if contents.modules {
        let target = Path::new(node::HAUL).join(haul::modules(Arch::current(), &release));
        if let Err(error) = symlink(&target, &directory) {
            problems.push(format!("linking {}: {error}", directory.display()));
        }
    }
    let firmware = Path::new(node::HAUL).join(haul::firmware(Arch::current()));
    // known since the mount: PID 1 itself does not read the stick
    if contents.firmware {
        // the kernel reads the path up to the end: no line break
        let parameter = "/sys/module/firmware_class/parameters/path";
        if let Err(error) = fs::write(parameter, firmware.to_string_lossy().as_bytes()) {
            problems.push(format!("setting the firmware path: {error}"));
        }
    }
    problems
}

/// What to tell a person whose stick does not fit this machine; `None` if it does.
pub(super) fn misfit(
    contents: &HaulContents,
    arch: Arch,
    release: &str,
) -> Option<(String, String)> {
    if let Some(problem) = &contents.problem {
        return Some((
            format!("HAUL is mounted, but {problem}."),
            "Write the stick again with the builder of this version.".to_owned(),
        ));
    }
    if contents.modules {
        return None;
    }
    let mend = format!("Write a stick for this machine: builder --arch {arch} ...");
    if !contents.arches.iter().any(|name| name == arch.name()) {
        let carried = match contents.arches.is_empty() {
            true => "no architecture at all".to_owned(),
            false => contents.arches.join(" and "),
        };
        return Some((
            format!(
                "This stick was built for {carried}; this machine is {arch}. Drivers for network \
                 cards and k3s are missing; what can work without them goes on."
            ),
            mend,
        ));
    }
    Some((
        format!(
            "The stick carries no modules of the running kernel {release}: boot files and HAUL \
             come from different images. Drivers for network cards are missing."
        ),
        mend,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(modules: bool, arches: &[&str]) -> HaulContents {
        HaulContents {
            modules,
            arches: arches.iter().map(|&name| name.to_owned()).collect(),
            ..HaulContents::default()
        }
    }

    #[test]
    fn a_stick_for_another_architecture_says_for_which() {
        let (what, mend) = misfit(&contents(false, &["arm64"]), Arch::X86_64, "6.12").unwrap();
        assert!(
            what.contains("built for arm64") && what.contains("is x86_64"),
            "{what}"
        );
        assert!(mend.contains("--arch x86_64"));
        assert_eq!(
            misfit(&contents(true, &["arm64", "x86_64"]), Arch::X86_64, "6.12"),
            None
        );
    }

    #[test]
    fn modules_of_another_kernel_are_told_from_another_architecture() {
        let (what, _) = misfit(&contents(false, &["x86_64"]), Arch::X86_64, "6.12.9").unwrap();
        assert!(what.contains("6.12.9"), "{what}");
    }

    #[test]
    fn only_what_lies_on_the_same_file_system_is_deleted() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("a/b/c")).unwrap();
        fs::write(directory.path().join("a/b/file"), "x").unwrap();
        symlink("/etc/passwd", directory.path().join("a/link")).unwrap();
        let open = openat(CWD, directory.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        let device = rustix::fs::fstat(&open).unwrap().st_dev;
        delete_below(&open, device + 1, 0);
        assert!(directory.path().join("a/b/file").exists());
        delete_below(&open, device, 0);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(Path::new("/etc/passwd").exists());
    }

    #[test]
    fn the_new_root_has_its_directories_links_and_the_agent() {
        let root = tempfile::tempdir().unwrap();
        furnish(root.path()).unwrap();
        assert!(root.path().join("usr/sbin/haulboot").is_file());
        assert!(root.path().join("sbin/modprobe").is_file());
        let mode = fs::metadata(root.path().join("tmp"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o1777);
    }
}
