//! A registry in a network of its own, reached as other machines reach a node: not by loopback,
//! which many clients trust more than any other address. Needs root.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use image_layout::Digest;

use crate::clients::{run, tool};
use crate::qemu_process::Running;
use crate::serve::{BASIC, PASSWORD, Server, Transport, USER};

/// The registry's address (RFC 5737: for documentation, so it is nobody's).
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

/// A network namespace with a registry; both end when dropped.
#[derive(Debug)]
pub struct Enclave {
    /// The registry.
    pub server: Server,
    network: Running,
}

impl Enclave {
    /// Serves a haul of the fixtures.
    ///
    /// # Errors
    /// When there are no rights to make a network, or as for [`Server::over`].
    pub fn over(haul: &str, transport: Transport) -> Result<Enclave> {
        let network = network()?;
        let within = |program: &OsStr| enter(&network, program);
        let server = Server::start(haul, transport, ADDRESS, within)
            .with_context(|| format!("serving {transport}"))?;
        Ok(Enclave { server, network })
    }

    /// A command that runs a program in this network.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        enter(&self.network, program.as_ref())
    }

    /// curl, with the authority and the user that the registry needs.
    pub fn curl(&self) -> Command {
        let mut curl = self.command("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "60"]);
        if let Some(ca) = self.server.ca() {
            curl.arg("--cacert").arg(ca);
        }
        if self.server.transport.users {
            curl.arg("--user").arg(format!("{USER}:{PASSWORD}"));
        }
        curl
    }

    /// Fetches a path with curl.
    ///
    /// # Errors
    /// When it fails.
    pub fn fetch(&self, path: &str) -> Result<Vec<u8>> {
        let directory = tempfile::tempdir()?;
        let body = directory.path().join("body");
        let mut curl = self.curl();
        curl.arg("--output")
            .arg(&body)
            .arg(format!("{}{path}", self.server.url()));
        run(&mut curl, "the package curl")?;
        fs::read(&body).context("reading what curl fetched")
    }

    /// The files of `/mirrors/RUNTIME` laid down as the page says it, with the user's name and
    /// password in their places.
    ///
    /// # Errors
    /// When they can't be fetched or unpacked.
    pub fn mirror(&self, runtime: &str) -> Result<Tree> {
        let archive = self.fetch(&format!("/mirrors/{runtime}.tar"))?;
        let directory = tempfile::tempdir()?;
        let mut archive = tar::Archive::new(&archive[..]);
        for entry in archive.entries()? {
            let mut entry = entry?;
            ensure!(entry.unpack_in(directory.path())?, "a path leads outside");
            let path = directory.path().join(entry.path()?);
            let text = fs::read_to_string(&path)?
                .replace("REPLACE-WITH-BASE64", BASIC)
                .replace("REPLACE-WITH-USER", USER)
                .replace("REPLACE-WITH-PASSWORD", PASSWORD);
            fs::write(&path, text)?;
        }
        Ok(Tree { directory })
    }

    /// Pulls a chart and returns the digest of its archive.
    ///
    /// # Errors
    /// When helm fails.
    pub fn helm(&self, repository: &str, version: &str) -> Result<Digest> {
        let directory = tempfile::tempdir()?;
        let mut helm = self.command(tool("helm"));
        helm.args(["pull", "--version", version, "--destination"])
            .arg(directory.path())
            .arg(format!("oci://{}/{repository}", self.server.address));
        match self.server.ca() {
            Some(ca) => helm.arg("--ca-file").arg(ca),
            None => helm.arg("--plain-http"),
        };
        if self.server.transport.users {
            helm.args(["--username", USER, "--password", PASSWORD]);
        }
        for variable in ["HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME"] {
            helm.env(variable, directory.path().join(variable));
        }
        run(&mut helm, "tests/tools.sh")?;
        let archive = fs::read_dir(directory.path())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|it| it == "tgz"))
            .ok_or_else(|| anyhow!("helm pulled no archive"))?;
        Ok(Digest::sha256_of(&fs::read(archive)?))
    }

    /// Copies an image with skopeo, by its own name and the files that [`Enclave::mirror`] laid
    /// down for podman; returns the digest of what arrived.
    ///
    /// # Errors
    /// When skopeo fails.
    pub fn skopeo(&self, tree: &Tree, name: &str) -> Result<Digest> {
        let directory = tempfile::tempdir()?;
        let to = directory.path().join("image");
        let mut skopeo = self.command("skopeo");
        skopeo.arg("--registries-conf").arg(tree.registries_conf());
        tree.be_home_of(&mut skopeo);
        skopeo
            .args(["copy", "--all", "--preserve-digests", "--quiet"])
            .arg(format!("docker://{name}"))
            .arg(format!("dir:{}", to.display()));
        run(&mut skopeo, "the package skopeo")?;
        let manifest = fs::read(to.join("manifest.json")).context("reading what skopeo copied")?;
        Ok(Digest::sha256_of(&manifest))
    }
}

/// The files of another machine, below a directory that stands for its `/`.
#[derive(Debug)]
pub struct Tree {
    directory: tempfile::TempDir,
}

impl Tree {
    /// Where a file of the other machine lies.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.directory.path().join(absolute.trim_start_matches('/'))
    }

    /// What podman and skopeo read as one of `registries.conf.d`.
    pub fn registries_conf(&self) -> PathBuf {
        self.path("/etc/containers/registries.conf.d/50-haulboot.conf")
    }

    /// Makes a program of containers/image take its log-ins and certificates from here: it looks
    /// for both in the home directory, too.
    pub fn be_home_of(&self, command: &mut Command) {
        let home = self.path("/root");
        let certificates = home.join(".config/containers/certs.d");
        let given = self.path("/etc/containers/certs.d");
        let runtime = self.path("/run");
        // what can't be made is missed by the program
        let _ = fs::create_dir_all(&runtime);
        if given.is_dir() && !certificates.exists() {
            let _ = fs::create_dir_all(home.join(".config/containers"));
            let _ = std::os::unix::fs::symlink(given, certificates);
        }
        command
            .env("HOME", home)
            .env("XDG_RUNTIME_DIR", runtime)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("REGISTRY_AUTH_FILE");
    }
}

/// A process that holds a network with [`ADDRESS`] and nothing else.
fn network() -> Result<Running> {
    let script = format!(
        "ip link set lo up && ip address add {ADDRESS}/32 dev lo && echo ready && exec sleep infinity"
    );
    let mut child = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("starting unshare, of the package util-linux")?;
    let out = child.stdout.take();
    let holder = Running(child);
    let mut line = String::new();
    if let Some(out) = out {
        BufReader::new(out).read_line(&mut line)?;
    }
    ensure!(
        line == "ready\n",
        "no network of its own could be made: that needs root, and ip of the package iproute2"
    );
    Ok(holder)
}

fn enter(network: &Running, program: &OsStr) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/proc/{}/ns/net", network.0.id()))
        .arg("--")
        .arg(program);
    command
}
