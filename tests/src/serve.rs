//! `agent serve` over a haul of the fixtures, with and without TLS and users.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::fixtures;
use crate::images::agent_program;
use crate::qemu_process::Running;

/// How long the agent may take until it listens.
const LISTEN_BOUND: Duration = Duration::from_secs(60);

/// The user of a server that wants one.
pub const USER: &str = "puller";
/// The user's password.
pub const PASSWORD: &str = "sesame-42";
/// Both, as HTTP's Basic sends them.
pub const BASIC: &str = "cHVsbGVyOnNlc2FtZS00Mg==";
/// The user's line in the server's file: bcrypt, with a low cost.
const HTPASSWD: &str = "puller:$2b$05$QcFhxFHuAE86F19i96cT1e/AlfzYCYtKqmmWcC.y2kUi.AeQBYVCS\n";

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// HTTPS, with a certificate of an authority that nobody knows.
    pub tls: bool,
    /// Whether [`USER`] alone may read.
    pub users: bool,
}

impl Transport {
    /// HTTP for everybody.
    pub const HTTP: Transport = Transport {
        tls: false,
        users: false,
    };
    /// Every combination.
    pub const ALL: [Transport; 4] = [
        Transport::HTTP,
        Transport {
            tls: false,
            users: true,
        },
        Transport {
            tls: true,
            users: false,
        },
        Transport {
            tls: true,
            users: true,
        },
    ];

    /// `http` or `https`.
    pub fn scheme(self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users = if self.users { "with" } else { "without" };
        write!(f, "{} {users} users", self.scheme())
    }
}

/// An agent that serves until it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub transport: Transport,
    process: Running,
    directory: tempfile::TempDir,
}

impl Server {
    /// Unpacks a haul of the fixtures and serves it on a free port of loopback, over HTTP.
    ///
    /// # Errors
    /// When the agent isn't built, or doesn't say where it listens.
    pub fn over(haul: &str) -> Result<Server> {
        Server::with(haul, Transport::HTTP)
    }

    /// [`Server::over`], spoken to in another way.
    ///
    /// # Errors
    /// As for [`Server::over`].
    pub fn with(haul: &str, transport: Transport) -> Result<Server> {
        Server::start(haul, transport, Ipv4Addr::LOCALHOST.into(), |agent| {
            Command::new(agent)
        })
    }

    /// Serves on a free port of `ip`; `command` makes the command that starts the agent.
    ///
    /// # Errors
    /// As for [`Server::over`].
    pub fn start(
        haul: &str,
        transport: Transport,
        ip: IpAddr,
        command: impl FnOnce(&OsStr) -> Command,
    ) -> Result<Server> {
        let directory = tempfile::tempdir()?;
        let layout = directory.path().join("layout");
        fs::create_dir(&layout)?;
        fixtures::load(haul)?.unpack(&layout)?;
        let mut command = command(agent_program()?.as_os_str());
        command
            .arg("serve")
            .arg(&layout)
            .arg("--listen")
            .arg(SocketAddr::new(ip, 0).to_string());
        if transport.tls {
            certify(directory.path(), ip)?;
            for (option, file) in [
                ("--tls-cert", "server.crt"),
                ("--tls-key", "server.key"),
                ("--tls-ca", "ca.crt"),
            ] {
                command.arg(option).arg(directory.path().join(file));
            }
        }
        if transport.users {
            let users = directory.path().join("htpasswd");
            fs::write(&users, HTPASSWD)?;
            command.arg("--users").arg(users);
        }
        let log = fs::File::create(directory.path().join("log"))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
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
        let line = receiver.recv_timeout(LISTEN_BOUND).with_context(|| {
            let log = fs::read_to_string(directory.path().join("log")).unwrap_or_default();
            format!("waiting for the agent to say where it listens: {log}")
        })?;
        Ok(Server {
            address: address(&line).ok_or_else(|| anyhow!("no address in {line:?}"))?,
            transport,
            process,
            directory,
        })
    }

    /// `https://198.51.100.1:41234`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.transport.scheme(), self.address)
    }

    /// The certificate of the authority that signed the server's, where there is TLS.
    pub fn ca(&self) -> Option<PathBuf> {
        let ca = self.directory.path().join("ca.crt");
        self.transport.tls.then_some(ca)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

/// Makes an authority and a certificate for an address: `ca.crt`, `server.crt`, `server.key`.
fn certify(directory: &Path, ip: IpAddr) -> Result<()> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = &mut authority.distinguished_name;
    name.push(DnType::CommonName, "authority of a test");
    let authority_key = KeyPair::generate()?;
    let ca = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let server = CertificateParams::new(vec![ip.to_string()])?.signed_by(&key, &issuer)?;
    for (file, pem) in [
        ("ca.crt", ca.pem()),
        ("server.crt", server.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        fs::write(directory.join(file), pem)?;
    }
    Ok(())
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
