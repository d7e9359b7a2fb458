//! What can only be known by trying, each in a process of its own: `probe --try WHAT [PATH]`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

/// Tries something in a new process; gives what it said.
pub fn attempt(what: &str, path: &str) -> Result<String, String> {
    let run = || -> std::io::Result<std::process::Output> {
        Command::new("/proc/self/exe")
            .args(["--try", what, path])
            .stdin(Stdio::null())
            .output()
    };
    match run() {
        Ok(output) if output.status.success() => Ok(text(&output.stdout)),
        Ok(output) => Err(format!("{} {}", output.status, text(&output.stderr))),
        Err(error) => Err(error.to_string()),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// The new process's part.
pub fn carry_out(what: &str, path: &Path) -> Result<()> {
    match what {
        "pivot-root" => pivot_root(path),
        "overlay" => overlay(path),
        "netns" => netns(path),
        _ => bail!("{what} can't be tried"),
    }
}

/// As runc does it: a mount name space of its own, `pivot_root(".", ".")`.
fn pivot_root(new_root: &Path) -> Result<()> {
    unshare(UnshareFlags::NEWNS)?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave).context("making / a slave")?;
    std::fs::create_dir_all(new_root)?;
    rustix::mount::mount_bind(new_root, new_root).context("binding")?;
    rustix::process::chdir(new_root)?;
    rustix::process::pivot_root(".", ".").context("pivot_root .")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).context("unmounting the old root")?;
    println!("pivot_root(\".\", \".\") worked");
    Ok(())
}

/// As k3s does it: an overlay with two lower directories (containerd: overlayutils).
fn overlay(below: &Path) -> Result<()> {
    let place = below.join("probe-overlay");
    let options = {
        let p = place.display();
        format!("lowerdir={p}/lower2:{p}/lower1,upperdir={p}/upper,workdir={p}/work\0")
    };
    for name in ["lower1", "lower2", "upper", "work", "merged"] {
        std::fs::create_dir_all(place.join(name))?;
    }
    std::fs::write(place.join("lower1/old"), "1")?;
    let merged = place.join("merged");
    let options = std::ffi::CString::from_vec_with_nul(options.into_bytes())?;
    rustix::mount::mount(
        "overlay",
        &merged,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .context("failed to mount overlay")?;
    // what containers do: change, replace and remove what lies below
    let used = std::fs::write(merged.join("old"), "2")
        .and_then(|()| std::fs::rename(merged.join("old"), merged.join("new")))
        .and_then(|()| std::fs::create_dir(merged.join("directory")));
    rustix::mount::unmount(&merged, UnmountFlags::empty()).context("unmounting the overlay")?;
    used.context("writing to the overlay")?;
    std::fs::remove_dir_all(&place)?;
    println!("mounted, written to and unmounted in {}", below.display());
    Ok(())
}

/// As the network plugins' runtime does it: a network name space that outlives its maker.
fn netns(name: &Path) -> Result<()> {
    unshare(UnshareFlags::NEWNET)?;
    std::fs::File::create(name)?;
    rustix::mount::mount_bind("/proc/self/ns/net", name).context("keeping a network name space")
}

#[allow(unsafe_code)]
fn unshare(flags: UnshareFlags) -> Result<()> {
    // SAFETY: the descriptors stay shared, and this process has one thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }.context("unshare")
}
