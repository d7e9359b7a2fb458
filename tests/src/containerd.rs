//! A containerd of our own, without privileges it would need for containers.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use builder::qemu::wait_within;
use image_layout::Digest;

use crate::clients::run;
use crate::enclave::{Enclave, Tree};
use crate::qemu_process::Running;

/// How long containerd may take until its socket answers.
const START_TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_millis(500);

/// A containerd with a directory of its own; it ends when dropped.
#[derive(Debug)]
pub struct Containerd {
    process: Running,
    directory: tempfile::TempDir,
}

impl Containerd {
    /// Starts containerd and waits until it answers.
    ///
    /// # Errors
    /// When it isn't installed or doesn't start; the message has the end of its log.
    pub fn start() -> Result<Containerd> {
        let directory = tempfile::tempdir()?;
        let at = |name: &str| directory.path().join(name);
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        fs::write(
            at("config.toml"),
            format!(
                "version = 2\nroot = {:?}\nstate = {:?}\n\
                 disabled_plugins = [\"io.containerd.grpc.v1.cri\", \
                 \"io.containerd.internal.v1.opt\"]\n\
                 [grpc]\naddress = {:?}\nuid = {}\ngid = {}\n[ttrpc]\naddress = {:?}\n",
                at("root"),
                at("state"),
                at("socket"),
                uid.as_raw(),
                gid.as_raw(),
                at("ttrpc")
            ),
        )?;
        let log = File::create(at("log"))?;
        let child = Command::new("containerd")
            .arg("--config")
            .arg(at("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let process = match child {
            Ok(child) => Running(child),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("containerd is not there; it comes with the package containerd")
            }
            Err(error) => return Err(error).context("starting containerd"),
        };
        let mut containerd = Containerd { process, directory };
        containerd.wait()?;
        Ok(containerd)
    }

    /// Asks until containerd answers. It tells nobody when it is ready except systemd.
    fn wait(&mut self) -> Result<()> {
        let mut last = anyhow!("it was not asked");
        for _ in 0..START_TRIES {
            match run(self.ctr().arg("version"), "the package containerd") {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
            if wait_within(&mut self.process.0, PAUSE)?.is_some() {
                break;
            }
        }
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let end: Vec<_> = log.lines().rev().take(5).collect();
        Err(last.context(format!("containerd does not answer: {end:?}")))
    }

    /// Fetches an image for all platforms by what [`Enclave::mirror`] laid down, and checks the
    /// digest under which it is kept.
    ///
    /// `ctr content fetch` is `ctr images pull` without unpacking, which needs root.
    ///
    /// # Errors
    /// When containerd can't fetch it.
    pub fn pull(&self, enclave: &Enclave, tree: &Tree, name: &str, digest: &Digest) -> Result<()> {
        let mut fetch = enclave.command("ctr");
        fetch
            .arg("--address")
            .arg(self.socket())
            .args(["content", "fetch", "--all-platforms", "--hosts-dir"])
            .arg(tree.path("/etc/containerd/certs.d"))
            .arg(name);
        run(&mut fetch, "the package containerd")?;
        let mut list = self.ctr();
        list.args(["images", "list", &format!("name=={name}")]);
        let kept = run(&mut list, "the package containerd")?;
        ensure!(
            kept.contains(&digest.to_string()),
            "{name} is kept as {kept}"
        );
        // Every layer must have arrived, not the name alone.
        let mut check = self.ctr();
        check.args([
            "images",
            "check",
            "--snapshotter",
            "native",
            &format!("name=={name}"),
        ]);
        let checked = run(&mut check, "the package containerd")?;
        ensure!(
            checked.contains(" complete "),
            "{name} is not complete: {checked}"
        );
        Ok(())
    }

    fn ctr(&self) -> Command {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(self.socket());
        ctr
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }
}
