//! What is gone when the program is interrupted: directories of unfinished work, and the
//! programs that write into them.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

/// What is to be ended and removed when the program is interrupted.
static OURS: Mutex<Ours> = Mutex::new(Ours {
    directories: Vec::new(),
    children: Vec::new(),
});
/// The thread that does so, started with the first of them; false if it could not be.
static WATCHING: LazyLock<bool> = LazyLock::new(watch);
/// The rest of the program may still be writing into a directory while it is removed.
const ATTEMPTS: u32 = 100;

struct Ours {
    directories: Vec<PathBuf>,
    /// Not reaped yet, so that their numbers are theirs.
    children: Vec<Pid>,
}

fn ours() -> MutexGuard<'static, Ours> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where work goes that has no place of its own: `$TMPDIR`, or `/var/tmp`, since `/tmp` is often
/// in memory.
pub(crate) fn scratch_place() -> PathBuf {
    std::env::var_os("TMPDIR")
        .filter(|place| !place.is_empty())
        .map_or_else(|| "/var/tmp".into(), PathBuf::from)
}

/// Makes a directory and those above it, like [`fs::create_dir_all`]. What is made within a
/// [`Staging`] is made by this: while an interruption removes that, it waits and so does not make
/// it again.
pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    let _ours = ours();
    fs::create_dir_all(path)
}

/// The same for directories that are their owner's alone.
pub(crate) fn create_private_dir_all(path: &Path) -> io::Result<()> {
    let _ours = ours();
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A directory of our own, gone when this is dropped or the program is interrupted.
#[derive(Debug)]
pub(crate) struct Staging(TempDir);

impl Staging {
    /// Makes a directory in `parent`, its name random letters between `prefix` and `suffix`,
    /// its permissions `mode`.
    pub(crate) fn new(parent: &Path, prefix: &str, suffix: &str, mode: u32) -> io::Result<Staging> {
        let _ = *WATCHING;
        let mut ours = ours();
        let directory = tempfile::Builder::new()
            .prefix(prefix)
            .suffix(suffix)
            .permissions(Permissions::from_mode(mode))
            .tempdir_in(parent)?;
        ours.directories.push(directory.path().to_owned());
        Ok(Staging(directory))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Gives the directory its final name; from then on it stays.
    pub(crate) fn rename(self, to: &Path) -> io::Result<()> {
        // held, so that an interruption comes before or after, and nothing is half removed;
        // under its old name there is nothing left to remove
        let _ours = ours();
        fs::rename(self.path(), to)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // first removed, then forgotten: an interruption in between finds it
        let _ = fs::remove_dir_all(self.path());
        ours().directories.retain(|path| path != self.0.path());
    }
}

/// A running program, killed when this is dropped or our own is interrupted.
#[derive(Debug)]
pub(crate) struct Subprocess {
    child: Child,
    pid: Option<Pid>,
}

impl Subprocess {
    /// Starts it.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Subprocess> {
        let _ = *WATCHING;
        let mut ours = ours();
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        ours.children.extend(pid);
        Ok(Subprocess { child, pid })
    }

    /// Its standard error, if that is piped and was not taken yet.
    pub(crate) fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        self.reap()
    }

    fn reap(&mut self) -> io::Result<ExitStatus> {
        if let Some(pid) = self.pid {
            // not reaped by this: its number must not become another's while it may be killed
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), ended) {}
            ours().children.retain(|child| *child != pid);
            self.pid = None;
        }
        self.child.wait()
    }
}

impl Drop for Subprocess {
    fn drop(&mut self) {
        if self.pid.is_some() {
            let _ = self.child.kill();
            let _ = self.reap();
        }
    }
}

fn watch() -> bool {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
        return false;
    };
    let thread = std::thread::Builder::new().name("interrupt".to_owned());
    let watcher = move || {
        if let Some(signal) = signals.forever().next() {
            // held until the end, so that nothing new is made
            let ours = ours();
            for child in &ours.children {
                let _ = kill_process(*child, Signal::KILL);
            }
            for path in &ours.directories {
                for _ in 0..ATTEMPTS {
                    if fs::remove_dir_all(path).is_ok() || !path.exists() {
                        break;
                    }
                }
            }
            // as a shell says it of a program that a signal ended
            std::process::exit(128 + signal);
        }
    };
    thread.spawn(watcher).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_directory_stays_and_a_dropped_one_goes() {
        let parent = tempfile::tempdir().unwrap();
        let staging = Staging::new(parent.path(), ".a-", ".partial", 0o755).unwrap();
        fs::write(staging.path().join("file"), "x").unwrap();
        let kept = parent.path().join("kept");
        staging.rename(&kept).unwrap();
        assert!(kept.join("file").exists());
        drop(Staging::new(parent.path(), ".b-", "", 0o700).unwrap());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn nothing_is_made_while_an_interruption_removes_directories() {
        type Create = fn(&Path) -> io::Result<()>;
        for create in [create_dir_all as Create, create_private_dir_all as Create] {
            let parent = tempfile::tempdir().unwrap();
            let path = parent.path().join("gone/within");
            // as the watcher holds it
            let removing = ours();
            let (done, is_done) = std::sync::mpsc::channel();
            let maker = std::thread::spawn({
                let path = path.clone();
                move || done.send(create(&path)).unwrap()
            });
            let waited = is_done.recv_timeout(std::time::Duration::from_millis(100));
            assert!(waited.is_err() && !parent.path().join("gone").exists());
            drop(removing);
            maker.join().unwrap();
            assert!(is_done.recv().unwrap().is_ok() && path.is_dir());
        }
    }

    #[test]
    fn a_program_that_is_not_waited_for_is_killed() {
        let child = Subprocess::spawn(Command::new("sleep").arg("600")).unwrap();
        let pid = child.pid.unwrap();
        assert!(ours().children.contains(&pid));
        drop(child);
        assert!(rustix::process::test_kill_process(pid).is_err());
        assert!(!ours().children.contains(&pid));
    }
}
