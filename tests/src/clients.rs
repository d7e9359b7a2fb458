//! Real registry clients, each run within a bound.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use builder::qemu::wait_within;
use image_layout::Digest;

use crate::qemu_process::Running;

/// How long one client may take. Against an emulated machine a pull takes a few seconds.
pub const CLIENT_BOUND: Duration = Duration::from_secs(120);
/// No answer of a fixture is larger.
const BODY_BYTES: u64 = 64 << 20;

/// Runs a program to its end and returns what it wrote to its standard output.
///
/// # Errors
/// When it isn't installed (the message names the package), fails (the message has its words) or
/// takes longer than [`CLIENT_BOUND`].
pub fn run(command: &mut Command, package: &str) -> Result<String> {
    run_within(command, package, CLIENT_BOUND)
}

/// [`run`] with another bound.
///
/// # Errors
/// As for [`run`].
pub fn run_within(command: &mut Command, package: &str, bound: Duration) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    // Files instead of pipes, so that nothing has to be read while it runs.
    let directory = tempfile::tempdir()?;
    let [out, err] = ["out", "err"].map(|name| directory.path().join(name));
    let child = command
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .stderr(File::create(&err)?)
        .spawn();
    let mut child = match child {
        Ok(child) => Running(child),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("{program} is not there; it comes with {package}")
        }
        Err(error) => return Err(error).with_context(|| format!("starting {program}")),
    };
    let status = wait_within(&mut child.0, bound)?;
    let said = |path: &Path| {
        fs::read(path).map_or_else(
            |_| String::new(),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    };
    match status {
        Some(status) if status.success() => Ok(said(&out)),
        Some(status) => bail!(
            "{command:?} ended with {status}: {}{}",
            said(&out),
            said(&err)
        ),
        None => bail!(
            "{command:?} did not end within {} s: {}",
            bound.as_secs(),
            said(&err)
        ),
    }
}

/// Copies an image with skopeo, all platforms of it, and returns the digest of what arrived.
/// `name` is `REPOSITORY:TAG` or `REPOSITORY@DIGEST`. skopeo checks every blob against its digest.
///
/// # Errors
/// As for [`run`].
pub fn skopeo(registry: SocketAddr, name: &str) -> Result<Digest> {
    let directory = tempfile::tempdir()?;
    let to = directory.path().join("image");
    run(
        Command::new("skopeo")
            .args([
                "copy",
                "--all",
                "--preserve-digests",
                "--src-tls-verify=false",
                "--quiet",
            ])
            .arg(format!("docker://{registry}/{name}"))
            .arg(format!("dir:{}", to.display())),
        "the package skopeo",
    )?;
    let manifest = fs::read(to.join("manifest.json")).context("reading what skopeo copied")?;
    Ok(Digest::sha256_of(&manifest))
}

/// Where `tests/tools.sh` puts a program.
pub fn tool(name: &str) -> PathBuf {
    crate::results::target().join("tools").join(name)
}

/// Pulls a chart with `helm pull oci://` and returns the digest of its archive.
///
/// # Errors
/// As for [`run`].
pub fn helm(registry: SocketAddr, repository: &str, version: &str) -> Result<Digest> {
    let directory = tempfile::tempdir()?;
    run(
        Command::new(tool("helm"))
            .args([
                "pull",
                "--plain-http",
                "--version",
                version,
                "--destination",
            ])
            .arg(directory.path())
            .arg(format!("oci://{registry}/{repository}"))
            // Nothing of the user's own configuration.
            .env("HELM_CONFIG_HOME", directory.path().join("config"))
            .env("HELM_CACHE_HOME", directory.path().join("cache"))
            .env("HELM_DATA_HOME", directory.path().join("data")),
        "tests/tools.sh",
    )?;
    let archive = fs::read_dir(directory.path())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .ok_or_else(|| anyhow!("helm pulled no archive"))?;
    Ok(Digest::sha256_of(&fs::read(archive)?))
}

/// kubectl towards the API server that is reached at `api`, whatever address the kubeconfig has.
/// The server's certificate is checked.
pub fn kubectl(kubeconfig: &Path, api: SocketAddr) -> Command {
    let mut command = Command::new(tool("kubectl"));
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .arg("--server")
        .arg(format!("https://{api}"))
        // Nothing of the user's own: kubectl's cache would be kept in the home directory.
        .env("HOME", "/nonexistent")
        .env("KUBECACHEDIR", "/nonexistent");
    command
}

/// The answer to one request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

/// Asks for one path over HTTP. Every status code is an answer.
///
/// # Errors
/// When the connection fails or breaks off, or the whole takes longer than [`CLIENT_BOUND`].
pub fn get(server: SocketAddr, path: &str) -> Result<Answer> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(CLIENT_BOUND))
        .http_status_as_error(false)
        .build()
        .into();
    let url = format!("http://{server}{path}");
    let mut answer = agent
        .get(&url)
        .call()
        .with_context(|| format!("asking for {url}"))?;
    let mut body = Vec::new();
    answer
        .body_mut()
        .as_reader()
        .take(BODY_BYTES)
        .read_to_end(&mut body)
        .with_context(|| format!("reading {url}"))?;
    Ok(Answer {
        status: answer.status().as_u16(),
        body,
    })
}

/// Fetches a path and checks its contents.
///
/// # Errors
/// As for [`get`]; when the status code isn't 200, or the digest is another.
pub fn fetch(server: SocketAddr, path: &str, digest: &Digest) -> Result<()> {
    let answer = get(server, path)?;
    ensure!(answer.status == 200, "{path}: status {}", answer.status);
    let found = Digest::sha256_of(&answer.body);
    ensure!(
        found == *digest,
        "{path} has digest {found} instead of {digest}"
    );
    Ok(())
}
