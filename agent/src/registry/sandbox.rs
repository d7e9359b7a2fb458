//! What the registry process on a node may see and do.
//!
//! - It sees a file system of its own: the haul's layout and the directory of status file and logs,
//!   read-only, and `/dev/null`. Not HAUL's secrets, not k3s's data, no `/proc`.
//! - It is an unprivileged user without groups, capabilities, or a way to get any.
//! - It reads and listens, and whatever else a process can ask a kernel for is refused; see
//!   [`confine`].
//! - Memory, descriptors and processes are limited. Memory by `RLIMIT_DATA`, which page cache does
//!   not count for, as it would for a control group.
//!
//! Entered by a process that has one thread.

use std::path::{Path, PathBuf};

use image_layout::paths;
use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid};
use rustix::fs::Mode;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::confine::{self, Reach};
use super::limits::{CONNECTIONS, CONNECTIONS_AHEAD, NODE_CONNECTIONS};
use super::logs::LogSource;

/// User and group of the registry. Nothing on a node belongs to them, and no image names them:
/// pods share the host's users, their limits of threads among them, and 65532 is the one that images
/// call `nonroot`. Above all ranges that are given out (systemd: UIDS-GIDS).
pub(super) const USER: u32 = 2_000_005_000;
/// Descriptors: a connection and a blob for each client, connections that wait, and some.
const DESCRIPTORS: u64 =
    2 * (CONNECTIONS + NODE_CONNECTIONS) as u64 + CONNECTIONS_AHEAD as u64 + 256;
/// Threads of this user.
const THREADS: u64 = 128;
/// Bytes of private writable memory: the index of a very large haul, and stacks.
const DATA_BYTES: u64 = 768 << 20;
/// How gladly the kernel ends this process when memory is short, -1000 to 1000. Below any pod's:
/// a node without its registry can't start them again.
const OOM_SCORE: &str = "-900";

/// Where the view is put together; hidden from the process once it is inside.
const VIEW: &str = "/run/haulboot/registry";
/// The status file's directory as the process sees it.
const RUN: &str = "/run";

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {error}")]
pub(super) struct SandboxError {
    what: String,
    error: std::io::Error,
}

/// Where things are inside.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// The directory with the layout; empty where HAUL has none.
    pub(super) layout: PathBuf,
    /// The status file.
    pub(super) status: PathBuf,
    /// The logs.
    pub(super) logs: LogSource,
    /// What the node process says of who may read.
    pub(super) access: PathBuf,
}

/// Goes into the sandbox. An error leaves the process half-way, in no state to serve.
pub(super) fn enter() -> Result<View, SandboxError> {
    // a favour to the node, not a wall: without it the registry is as safe
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE) {
        tracing::warn!(%error, "the kernel may end the registry first when memory is short");
    }
    let access = Path::new(paths::node::ACCESS);
    // the node process makes it too, and either may be first
    step(format!("making {}", access.display()), || {
        super::make_directory(access)
    })?;
    let view = see_less()?;
    be_nobody()?;
    limit()?;
    let confined = confine::enter(&Reach {
        read: vec![view.layout.clone(), PathBuf::from(RUN)],
        port: super::NODE_PORT,
    });
    confined.log();
    Ok(view)
}

fn step<T, E: Into<std::io::Error>>(
    what: impl Into<String>,
    act: impl FnOnce() -> Result<T, E>,
) -> Result<T, SandboxError> {
    act().map_err(|error| SandboxError {
        what: what.into(),
        error: error.into(),
    })
}

/// A mount namespace whose root has only what is served.
fn see_less() -> Result<View, SandboxError> {
    step("a mount namespace", || {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)
    })?;
    step("private mounts", || {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private)
    })?;
    let locked = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let view = Path::new(VIEW);
    step(format!("making {VIEW}"), || std::fs::create_dir_all(view))?;
    step(format!("mounting {VIEW}"), || {
        rustix::mount::mount(
            "tmpfs",
            view,
            "tmpfs",
            locked,
            c"size=64k,nr_inodes=64,mode=755",
        )
    })?;

    let layout = Path::new(paths::node::HAUL).join(paths::haul::LAYOUT);
    if layout.is_dir() {
        bind(view, &layout, "haul", locked)?;
    } else {
        make_dir(&view.join("haul"))?;
    }
    // PID 1 replaces the file by a new one, so its directory is what must be seen. Files there
    // that are not for everyone have modes that say so; who may read the registry, its key
    // among it, is for the registry's user.
    bind(view, Path::new(paths::node::RUN), "run", locked)?;
    let null = view.join("null");
    step("making /null", || std::fs::write(&null, ""))?;
    step("binding /dev/null", || {
        rustix::mount::mount_bind("/dev/null", &null)
    })?;

    step("a read-only root", || {
        rustix::mount::mount_remount(view, locked | MountFlags::RDONLY, c"")
    })?;
    step("entering the root", || rustix::process::chdir(view))?;
    // the old root is stacked on the new one's place, and taken off from there (pivot_root(2))
    step("changing the root", || {
        rustix::process::pivot_root(".", ".")
    })?;
    step("leaving the old root", || {
        rustix::mount::unmount(".", UnmountFlags::DETACH)
    })?;
    step("entering the new root", || rustix::process::chdir("/"))?;
    let run = |path: &str| Path::new(RUN).join(Path::new(path).file_name().unwrap_or_default());
    Ok(View {
        layout: PathBuf::from("/haul"),
        status: run(paths::node::STATUS),
        logs: LogSource {
            directory: run(paths::node::LOGS),
            status: run(paths::node::STATUS),
        },
        access: run(paths::node::ACCESS).join(paths::node::ACCESS_FILE),
    })
}

fn make_dir(path: &Path) -> Result<(), SandboxError> {
    step(format!("making {}", path.display()), || {
        rustix::fs::mkdir(path, Mode::from_raw_mode(0o755))
    })
}

/// Shows a directory, without what is mounted below it, read-only.
fn bind(view: &Path, from: &Path, name: &str, locked: MountFlags) -> Result<(), SandboxError> {
    let to = view.join(name);
    make_dir(&to)?;
    step(format!("showing {}", from.display()), || {
        rustix::mount::mount_bind(from, &to)
    })?;
    step(format!("{} read-only", from.display()), || {
        let flags = MountFlags::BIND | MountFlags::RDONLY | locked;
        rustix::mount::mount_remount(&to, flags, c"")
    })
}

/// Gives up every right for good.
fn be_nobody() -> Result<(), SandboxError> {
    step("taking capabilities out of reach", || {
        for capability in CapabilitySet::all().iter() {
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                // the kernel is older than the capability
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })?;
    step("leaving groups", || nix::unistd::setgroups(&[]))?;
    let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
    step("changing the group", || {
        nix::unistd::setresgid(group, group, group)
    })?;
    step("changing the user", || {
        nix::unistd::setresuid(user, user, user)
    })?;
    step("dropping capabilities", || {
        rustix::thread::clear_ambient_capability_set()?;
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, none)
    })?;
    step("no new privileges", || {
        rustix::thread::set_no_new_privs(true)
    })?;
    step("no dumps", || {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
    })
}

fn limit() -> Result<(), SandboxError> {
    let limits = [
        (Resource::Nofile, DESCRIPTORS, "descriptors"),
        (Resource::Nproc, THREADS, "threads"),
        (Resource::Data, DATA_BYTES, "memory"),
        (Resource::Core, 0, "core dumps"),
    ];
    for (resource, limit, what) in limits {
        step(format!("limiting {what}"), || {
            let both = Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            };
            rustix::process::setrlimit(resource, both)
        })?;
    }
    Ok(())
}
