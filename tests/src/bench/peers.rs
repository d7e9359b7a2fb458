//! The servers that are compared.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use builder::qemu::wait_within;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process};

use crate::images::agent_program;

/// How long a server may take until it listens, and until it ends.
const BOUND: Duration = Duration::from_secs(30);
/// Between two looks whether a peer listens: nothing tells when it does.
const LOOK: Duration = Duration::from_millis(1);

/// A server on loopback, which ends with its owner.
#[derive(Debug)]
pub(super) struct Peer {
    /// What it is called in tables.
    pub(super) name: &'static str,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// From its start until it listened.
    pub(super) took: Duration,
    child: Child,
    // configuration and logs
    _directory: tempfile::TempDir,
}

/// Ours in tables.
pub(super) const HAULBOOT: &str = "haulboot";
/// Debian's docker-registry in tables.
pub(super) const DISTRIBUTION: &str = "docker-registry";
/// Debian's nginx in tables.
pub(super) const NGINX: &str = "nginx";

impl Peer {
    /// `agent serve` over a directory with a layout, or a haul.
    ///
    /// # Errors
    /// When the agent isn't built, or doesn't listen.
    pub(super) fn haulboot(layout: &Path) -> Result<Peer> {
        let program = agent_program()?;
        Peer::start(HAULBOOT, "make agents", |address, _| {
            let mut command = Command::new(&program);
            command
                .arg("serve")
                .arg(layout)
                .args(["--listen", &address.to_string()]);
            Ok(command)
        })
    }

    /// docker-registry over a store of its own.
    ///
    /// # Errors
    /// When it isn't installed, or doesn't listen.
    pub(super) fn distribution(store: &Path) -> Result<Peer> {
        Peer::start(
            DISTRIBUTION,
            "the package docker-registry",
            |address, directory| {
                let config = directory.join("config.yml");
                let store = store.display();
                fs::write(
                    &config,
                    format!(
                        "version: 0.1\n\
                     log: {{level: error, accesslog: {{disabled: true}}}}\n\
                     storage: {{filesystem: {{rootdirectory: {store}}}, cache: {{blobdescriptor: inmemory}}}}\n\
                     http: {{addr: \"{address}\"}}\n"
                    ),
                )?;
                let mut command = Command::new("docker-registry");
                command.arg("serve").arg(&config);
                Ok(command)
            },
        )
    }

    /// nginx over plain files, with sendfile.
    ///
    /// # Errors
    /// When it isn't installed, or doesn't listen.
    pub(super) fn nginx(root: &Path) -> Result<Peer> {
        Peer::start(NGINX, "the package nginx-light", |address, directory| {
            let config = directory.join("nginx.conf");
            let own = directory.display();
            let root = root.display();
            // workers of root's nginx would be another user, who may not read what root made
            let user = match rustix::process::geteuid().is_root() {
                true => "user root;\n",
                false => "",
            };
            fs::write(
                &config,
                format!(
                    "{user}daemon off;\nworker_processes auto;\npid {own}/pid;\n\
                     events {{ worker_connections 2048; }}\n\
                     http {{\n\
                     access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n\
                     client_body_temp_path {own}/body; proxy_temp_path {own}/proxy;\n\
                     fastcgi_temp_path {own}/fastcgi; uwsgi_temp_path {own}/uwsgi;\n\
                     scgi_temp_path {own}/scgi;\n\
                     server {{ listen {address}; root {root}; }}\n\
                     }}\n"
                ),
            )?;
            let mut command = Command::new("nginx");
            command
                .arg("-e")
                .arg(directory.join("error.log"))
                .arg("-c")
                .arg(&config);
            Ok(command)
        })
    }

    fn start(
        name: &'static str,
        package: &str,
        command: impl FnOnce(SocketAddr, &Path) -> Result<Command>,
    ) -> Result<Peer> {
        let directory = tempfile::tempdir()?;
        // free now; whoever takes it meanwhile makes the server fail, which is noticed
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = command(address, directory.path())?;
        // in memory: what a server writes to disks is counted
        let log = memfd_create(name, MemfdFlags::CLOEXEC).context("making a log")?;
        let mut log = File::from(log);
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .spawn()
            .with_context(|| format!("starting {name}; it comes with {package}"))?;
        let mut peer = Peer {
            name,
            address,
            took: Duration::ZERO,
            child,
            _directory: directory,
        };
        while TcpStream::connect(address).is_err() {
            if let Some(status) = peer.child.try_wait()? {
                let mut said = String::new();
                log.rewind()?;
                log.read_to_string(&mut said)?;
                bail!("{name} ended with {status}: {said}");
            }
            ensure!(started.elapsed() < BOUND, "{name} does not listen");
            std::thread::sleep(LOOK);
        }
        peer.took = started.elapsed();
        Ok(peer)
    }

    /// Its process id.
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // nginx ends its workers when it is asked to end, not when it is killed
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if !matches!(wait_within(&mut self.child, BOUND), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
