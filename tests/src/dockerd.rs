//! A Docker daemon of our own, in the network of an [`Enclave`]. Needs root.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use builder::qemu::wait_within;

use crate::clients::run;
use crate::enclave::{Enclave, Tree};
use crate::qemu_process::Running;

/// How long the daemon may take until its socket answers.
const START_TRIES: u32 = 120;
const PAUSE: Duration = Duration::from_millis(500);
const PACKAGE: &str = "the package docker.io";

/// A daemon with a directory of its own; it ends when dropped.
#[derive(Debug)]
pub struct Dockerd<'a> {
    process: Running,
    directory: tempfile::TempDir,
    enclave: &'a Enclave,
    tree: &'a Tree,
}

impl<'a> Dockerd<'a> {
    /// Starts the daemon and waits until it answers. Its `/etc/docker` is that of `tree`, what
    /// [`Enclave::mirror`] laid down for Docker: it knows no other place for certificates.
    ///
    /// # Errors
    /// When it isn't installed or doesn't start; the message has the end of its log.
    pub fn start(enclave: &'a Enclave, tree: &'a Tree) -> Result<Dockerd<'a>> {
        let directory = tempfile::tempdir()?;
        let at = |name: &str| directory.path().join(name);
        let log = File::create(at("log"))?;
        fs::create_dir_all("/etc/docker").context("making /etc/docker")?;
        // in a view of its own: this machine's /etc/docker stays as it is
        let script = "mount --bind \"$1\" /etc/docker && shift && exec dockerd \"$@\"";
        let child = enclave
            .command("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .args(["sh", "-c", script, "sh"])
            .arg(tree.path("/etc/docker"))
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("--host")
            .arg(format!("unix://{}", at("socket").display()))
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .arg("--storage-driver=vfs")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting dockerd")?;
        let mut dockerd = Dockerd {
            process: Running(child),
            directory,
            enclave,
            tree,
        };
        dockerd.wait()?;
        Ok(dockerd)
    }

    /// Asks until the daemon answers.
    fn wait(&mut self) -> Result<()> {
        let mut last = anyhow!("it was not asked");
        for _ in 0..START_TRIES {
            match run(self.docker().args(["info", "--format", "{{.ID}}"]), PACKAGE) {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
            if wait_within(&mut self.process.0, PAUSE)?.is_some() {
                break;
            }
        }
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let end: Vec<_> = log.lines().rev().take(5).collect();
        Err(last.context(format!("dockerd, of {PACKAGE}, does not answer: {end:?}")))
    }

    /// Pulls an image and returns the digests that Docker knows it by.
    ///
    /// # Errors
    /// When it can't.
    pub fn pull(&self, name: &str) -> Result<String> {
        run(self.docker().args(["pull", "--quiet", name]), PACKAGE)?;
        let format = "{{json .RepoDigests}}";
        run(
            self.docker()
                .args(["image", "inspect", "--format", format, name]),
            PACKAGE,
        )
    }

    fn docker(&self) -> Command {
        let mut docker = self.enclave.command("docker");
        docker
            .arg("--config")
            .arg(self.tree.path("/root/.docker"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()));
        docker
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }
}

impl Drop for Dockerd<'_> {
    /// Killed, it would leave the containerd that it started: it is asked to end first.
    fn drop(&mut self) {
        let Some(pid) = rustix::process::Pid::from_raw(self.process.0.id().cast_signed()) else {
            return;
        };
        if rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok() {
            let _ = wait_within(&mut self.process.0, Duration::from_secs(20));
        }
    }
}
