//! podman with a storage and a configuration of its own.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use image_layout::{Arch, Digest};

use crate::clients::run;

/// A podman that shares nothing with the user's.
#[derive(Debug)]
pub struct Podman {
    directory: tempfile::TempDir,
}

impl Podman {
    /// An empty storage. `mirror` serves everything of `hosts`, each under `HOST:PORT/HOST`, and
    /// nothing else does.
    ///
    /// # Errors
    /// When its files can't be written.
    pub fn new(mirror: SocketAddr, hosts: &[&str]) -> Result<Podman> {
        let directory = tempfile::tempdir()?;
        let mirrors: String = hosts
            .iter()
            .map(|host| {
                format!(
                    "[[registry]]\nprefix = \"{host}\"\nlocation = \"{mirror}/{host}\"\n\
                     insecure = true\n"
                )
            })
            .collect();
        fs::write(directory.path().join("registries.conf"), mirrors)?;
        fs::write(
            directory.path().join("policy.json"),
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        )?;
        Ok(Podman { directory })
    }

    /// Pulls the image for a machine of this architecture and checks that podman knows it by
    /// `digest`, which is the index's where there is one.
    ///
    /// # Errors
    /// When podman isn't installed or fails.
    pub fn pull(&self, name: &str, arch: Arch, digest: &Digest) -> Result<()> {
        let policy = self.directory.path().join("policy.json");
        let mut pull = self.command();
        pull.args([
            "pull",
            "--quiet",
            "--tls-verify=false",
            "--arch",
            arch.oci(),
        ])
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
        let mut podman = Command::new("podman");
        podman
            .arg("--root")
            .arg(at("root"))
            .arg("--runroot")
            .arg(at("run"))
            .arg("--tmpdir")
            .arg(at("tmp"))
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"])
            .args(["--events-backend", "none"])
            .env("CONTAINERS_REGISTRIES_CONF", at("registries.conf"))
            .env("XDG_RUNTIME_DIR", at("runtime"))
            .env("TMPDIR", self.directory.path());
        podman
    }
}
