//! The registry is killed while a client downloads from it.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use image_layout::digest::Hasher;
use image_layout::status::{Stage, Status, StatusLine};

use super::Node;
use crate::clients::{CLIENT_BOUND, get, kubectl, run};
use crate::images::kubeconfig;
use crate::rows::KilledWhile;

/// What the stand-in for k3s does when it is asked for this path.
const KILL: &str = "/kill/registry";
/// What is read before the registry is killed.
const BEFORE: u64 = 4 << 20;
/// A client tries again after this: nothing tells it that the registry is back.
const AGAIN: Duration = Duration::from_millis(20);

impl Node<'_> {
    /// A download begins, the registry is killed in the middle of it, and what is missing is
    /// fetched as soon as there is a registry again. k3s goes on.
    pub(super) fn killed_while(&self, wanted: &KilledWhile) -> Result<()> {
        let registry = self.vm.registry()?;
        let path = format!("/files/{}", wanted.downloading);
        let files = &self.served.files;
        let (_, digest) = files
            .iter()
            .find(|(name, _)| *name == wanted.downloading)
            .ok_or_else(|| anyhow!("the hauls have no file {}", wanted.downloading))?;
        let ends = k3s_ends(registry)?;

        let mut download = Download::default();
        let mut body = download.go_on(registry, &path)?;
        download.take(&mut body, BEFORE)?;
        let mut command = kubectl(&kubeconfig(self.built), self.vm.api()?);
        run(command.args(["get", "--raw", KILL]), "tests/tools.sh")?;
        // some of it was on its way already; the rest must not look like the end
        let broken = download.take(&mut body, u64::MAX);
        ensure!(
            broken.is_err(),
            "the download went on to its end after {} bytes",
            download.bytes
        );
        let killed = Instant::now();
        let mut body = loop {
            match download.go_on(registry, &path) {
                Ok(body) => break body,
                Err(error) => ensure!(
                    killed.elapsed() < CLIENT_BOUND,
                    "no registry came back: {error:#}"
                ),
            }
            sleep(AGAIN);
        };
        download.take(&mut body, u64::MAX)?;
        let arrived = download.hasher.0.finish();
        ensure!(arrived == *digest, "{path} arrived as {arrived}");

        let (at, back) = self.death()?;
        let took = back - at;
        ensure!(
            took <= wanted.back_within,
            "the registry was back after {took:.2} s"
        );
        println!("the registry was back after {took:.2} s");
        let now = k3s_ends(registry)?;
        ensure!(now == ends, "k3s ended {now} times, before it {ends}");
        Ok(())
    }

    /// When the registry's end was said on the status port, and when it served again, in seconds
    /// since the kernel started.
    fn death(&self) -> Result<(f64, f64)> {
        let what = "a notice of the registry's end, and its stage after that";
        let found = self.vm.status().wait(what, self.row.bound(), |lines| {
            let ended = lines.iter().find_map(|line| match line {
                StatusLine::Notice { text, at }
                    if text.contains("the process registry ended (signal 9)") =>
                {
                    Some(*at)
                }
                _ => None,
            })?;
            let back = lines.iter().find_map(|line| match line {
                StatusLine::Stage(report)
                    if report.stage == Stage::Registry && report.at > ended =>
                {
                    Some(report.at)
                }
                _ => None,
            })?;
            Some((ended, back))
        })?;
        Ok(found)
    }
}

/// How often k3s ended, as `/status` says.
fn k3s_ends(registry: SocketAddr) -> Result<u32> {
    let answer = get(registry, "/status")?;
    let status: Status = serde_json::from_slice(&answer.body).context("reading /status")?;
    let cluster = status.cluster.context("the node has no k3s")?;
    Ok(cluster.ends)
}

/// What has arrived of a file.
#[derive(Default)]
struct Download {
    bytes: u64,
    hasher: Sha256,
}

struct Sha256(Hasher);

impl Default for Sha256 {
    fn default() -> Sha256 {
        Sha256(Hasher::sha256())
    }
}

impl Download {
    /// Asks for what is missing.
    fn go_on(&self, registry: SocketAddr, path: &str) -> Result<impl Read + use<>> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(CLIENT_BOUND))
            .build()
            .into();
        let request = agent.get(format!("http://{registry}{path}"));
        let (request, wanted) = match self.bytes {
            0 => (request, 200),
            bytes => (request.header("Range", format!("bytes={bytes}-")), 206),
        };
        let answer = request.call()?;
        let status = answer.status().as_u16();
        ensure!(status == wanted, "{path} answers {status}");
        Ok(answer.into_body().into_reader())
    }

    /// Takes so many bytes, or all there are.
    fn take(&mut self, body: &mut impl Read, most: u64) -> Result<()> {
        let mut piece = vec![0; 64 << 10];
        let end = self.bytes.saturating_add(most);
        while self.bytes < end {
            match body.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => {
                    self.hasher.0.update(piece.get(..read).unwrap_or_default());
                    self.bytes += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use image_layout::Digest;

    use super::*;

    #[test]
    fn a_download_is_the_same_in_pieces() {
        let contents = vec![7; 200_000];
        let mut download = Download::default();
        download.take(&mut &contents[..70_000], u64::MAX).unwrap();
        let rest = usize::try_from(download.bytes).unwrap();
        download.take(&mut &contents[rest..], u64::MAX).unwrap();
        assert_eq!(download.bytes, 200_000);
        assert_eq!(download.hasher.0.finish(), Digest::sha256_of(&contents));
    }
}
