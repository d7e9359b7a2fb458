//! The programs that make and check file systems. They lie on HAUL with the libraries they need
//! and are started through their own dynamic linker, since a node has neither.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use image_layout::Arch;
use image_layout::paths::{self, tools};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::problem::StateError;
use crate::node::Place;

/// How often a person hears that a program still works.
const TELL: Duration = Duration::from_secs(10);
/// How long a killed program may take to be gone; one that waits for a dying disk never is.
const KILLED: Duration = Duration::from_secs(5);
/// Bytes kept of what a program says.
const SAID: u64 = 16 << 10;

/// The directory of tools.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    directory: PathBuf,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) said: String,
}

impl Tools {
    /// The tools of the image for this machine's architecture.
    pub(super) fn of(place: &Place) -> Result<Tools, StateError> {
        let haul = place.root.join(paths::node::HAUL.trim_start_matches('/'));
        Tools::at(haul.join(paths::haul::tools(Arch::current())))
    }

    pub(super) fn at(directory: PathBuf) -> Result<Tools, StateError> {
        let all = [tools::LINKER, tools::MKE2FS, tools::E2FSCK];
        match all.iter().find(|name| !directory.join(name).is_file()) {
            Some(name) => Err(StateError::NoTools(directory.join(name))),
            None => Ok(Tools { directory }),
        }
    }

    /// Runs a program and waits for its end, at most `patience`; then it is killed. `doing` says
    /// what it does, for a person who waits, `making a file system on sdb`.
    pub(super) fn run(
        &self,
        program: &str,
        arguments: &[&std::ffi::OsStr],
        patience: Duration,
        doing: &str,
        progress: &dyn Fn(String),
    ) -> Result<Ended, StateError> {
        let at = |name: &str| self.directory.join(name);
        let mut command = Command::new(at(tools::LINKER));
        command
            .arg("--library-path")
            .arg(at(tools::LIBRARIES))
            .arg(at(program))
            .args(arguments)
            .env_clear()
            // no file of that name: the settings that are built in count
            .env("MKE2FS_CONFIG", "/nonexistent/mke2fs.conf")
            .env("E2FSCK_CONFIG", "/nonexistent/e2fsck.conf");
        run(command, &at(program), patience, doing, progress)
    }
}

/// Runs a command as [`Tools::run`] says.
fn run(
    mut command: Command,
    program: &Path,
    patience: Duration,
    doing: &str,
    progress: &dyn Fn(String),
) -> Result<Ended, StateError> {
    let begin = Instant::now();
    let failed = |source| StateError::System {
        doing: "starting",
        path: program.to_owned(),
        source,
    };
    // one pipe for both, so that the words come in their order
    let (mut reader, writer) = std::io::pipe().map_err(failed)?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(failed)?)
        .stderr(writer);
    let mut child = command.spawn().map_err(failed)?;
    // its copies of the writing end would keep the pipe open
    drop(command);
    let (sender, said) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = reader.by_ref().take(SAID).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
        // the rest is taken from the program, so that it is not held up, and thrown away
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    });
    let status = loop {
        let left = patience.saturating_sub(begin.elapsed());
        if let Some(status) = wait(&mut child, left.min(TELL)).map_err(failed)? {
            break status;
        }
        let seconds = begin.elapsed().as_secs();
        if left.is_zero() {
            // gone or not, nothing more is waited for
            let _ = child.kill();
            let _ = wait(&mut child, KILLED);
            return Err(StateError::Stuck {
                doing: doing.to_owned(),
                seconds,
            });
        }
        progress(format!("{doing} ({seconds} s)"));
    };
    let said = said.recv_timeout(KILLED).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    tracing::info!("{doing}: {status}: {}", said.trim());
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    Ok(Ended {
        status,
        said: image_layout::text::printable(&lines.join("; ")),
    })
}

/// Waits for the end of a child, at most `patience`.
fn wait(child: &mut Child, patience: Duration) -> std::io::Result<Option<ExitStatus>> {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        let mut fds = [PollFd::new(&ended, PollFlags::IN)];
        // an interrupted wait is a short one; the caller has the deadline
        let _ = poll(&mut fds, Timespec::try_from(patience).ok().as_ref());
    }
    child.try_wait()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn shell(script: &str, patience: Duration) -> (Result<Ended, StateError>, Vec<String>) {
        let told = RefCell::new(Vec::new());
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        let ended = run(command, Path::new("/bin/sh"), patience, "trying", &|line| {
            told.borrow_mut().push(line);
        });
        (ended, told.into_inner())
    }

    #[test]
    fn a_programs_end_and_words_are_told_however_many_they_are() {
        let (ended, _) = shell("echo one; echo ' two' >&2; exit 3", Duration::from_secs(30));
        let ended = ended.unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!(ended.said, "one; two");
        let (ended, _) = shell("yes | head -c 1000000", Duration::from_secs(60));
        assert!(ended.unwrap().status.success());
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_after_its_bound() {
        let begin = Instant::now();
        let (ended, _) = shell("exec sleep 600", Duration::from_millis(300));
        assert!(matches!(ended, Err(StateError::Stuck { .. })));
        assert!(begin.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn an_image_without_tools_is_told_by_the_file_that_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ld.so"), "").unwrap();
        let error = Tools::at(dir.path().to_owned()).unwrap_err();
        assert!(matches!(&error, StateError::NoTools(path) if path.ends_with("mke2fs")));
    }
}
