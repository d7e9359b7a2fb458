//! podman with a storage and a configuration of its own.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use image_layout::{Arch, Digest};

use crate::clients::run;
use crate::enclave::{Enclave, Tree};

/// A podman that shares nothing with the user's.
#[derive(Debug)]
pub struct Podman<'a> {
    directory: tempfile::TempDir,
    enclave: &'a Enclave,
    tree: &'a Tree,
}

impl<'a> Podman<'a> {
    /// An empty storage. `tree` is what [`Enclave::mirror`] laid down for podman: all that it knows
    /// about registries, authorities and users.
    ///
    /// # Errors
    /// When its files can't be written.
    pub fn new(enclave: &'a Enclave, tree: &'a Tree) -> Result<Podman<'a>> {
        let directory = tempfile::tempdir()?;
        fs::write(
            directory.path().join("policy.json"),
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        )?;
        Ok(Podman {
            directory,
            enclave,
            tree,
        })
    }

    /// Pulls the image for a machine of this architecture and checks that podman knows it by
    /// `digest`, which is the index's where there is one.
    ///
    /// # Errors
    /// When podman isn't installed or fails.
    pub fn pull(&self, name: &str, arch: Arch, digest: &Digest) -> Result<()> {
        self.pull_with(&[], name, arch, digest)
    }

    /// [`Podman::pull`] with further options.
    ///
    /// # Errors
    /// As for [`Podman::pull`].
    pub fn pull_with(
        &self,
        options: &[&str],
        name: &str,
        arch: Arch,
        digest: &Digest,
    ) -> Result<()> {
        let policy = self.directory.path().join("policy.json");
        let mut pull = self.command();
        pull.args(["pull", "--quiet", "--arch", arch.oci()])
            .args(options)
            .arg("--signature-policy")
            .arg(policy)
            .arg(name);
        run(&mut pull, "the package podman")?;
        let mut inspect = self.command();
        inspect.args([
            "image",
            "inspect",
            "--format",
            "{{json .RepoDigests}}",
            name,
        ]);
        let digests = run(&mut inspect, "the package podman").context("inspecting the image")?;
        ensure!(
            digests.contains(&digest.to_string()),
            "{name} has digests {digests}"
        );
        Ok(())
    }

    fn command(&self) -> Command {
        let at = |name: &str| self.directory.path().join(name);
        let mut podman = self.enclave.command("podman");
        self.tree.be_home_of(&mut podman);
        podman
            .arg("--root")
            .arg(at("root"))
            .arg("--runroot")
            .arg(at("run"))
            .arg("--tmpdir")
            .arg(at("tmp"))
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"])
            .args(["--events-backend", "none"])
            .env("CONTAINERS_REGISTRIES_CONF", self.tree.registries_conf())
            .env("TMPDIR", self.directory.path());
        podman
    }
}
