//! `agent serve` over a haul of the fixtures.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::fixtures;
use crate::images::agent_program;
use crate::qemu_process::Running;

/// How long the agent may take until it listens.
const LISTEN_BOUND: Duration = Duration::from_secs(60);

/// An agent that serves until it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    _process: Running,
    _layout: tempfile::TempDir,
}

impl Server {
    /// Unpacks a haul of the fixtures and serves it on a free port.
    ///
    /// # Errors
    /// When the agent isn't built, or doesn't say where it listens.
    pub fn over(haul: &str) -> Result<Server> {
        let layout = tempfile::tempdir()?;
        fixtures::load(haul)?.unpack(layout.path())?;
        let mut child = Command::new(agent_program()?)
            .arg("serve")
            .arg(layout.path())
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the agent")?;
        let out = child.stdout.take();
        let process = Running(child);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out?).lines() {
                // Once nobody listens any more, the rest is read and dropped.
                let _ = sender.send(line.ok()?);
            }
            Some(())
        });
        let line = receiver
            .recv_timeout(LISTEN_BOUND)
            .context("waiting for the agent to say where it listens")?;
        Ok(Server {
            address: address(&line).ok_or_else(|| anyhow!("no address in {line:?}"))?,
            _process: process,
            _layout: layout,
        })
    }
}

fn address(line: &str) -> Option<SocketAddr> {
    line.split(|c: char| c.is_whitespace() || c == '/')
        .find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_a_sentence_and_in_a_url() {
        let expected = Some("127.0.0.1:4321".parse().unwrap());
        assert_eq!(address("listening on 127.0.0.1:4321"), expected);
        assert_eq!(address("serving http://127.0.0.1:4321/ now"), expected);
        assert_eq!(address("nothing"), None);
    }
}
