//! `agent serve` as a child that ends with its test.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::layout::{self, Written};

/// An ended server must be gone within this time.
const END: Duration = Duration::from_secs(10);

/// A running server; ended when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The line it said when it listened.
    pub(crate) said: String,
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn over(dir: &Path) -> Server {
        Server::with(dir, &[])
    }

    /// With further arguments.
    pub(crate) fn with(dir: &Path, arguments: &[&str]) -> Server {
        let mut command = command(dir);
        command.args(arguments);
        Server::of(command)
    }

    /// What a command starts.
    pub(crate) fn of(mut command: Command) -> Server {
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        out.read_line(&mut said).unwrap();
        let address = said
            .split(['/', ' '])
            .find_map(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("no address in {said:?}"));
        Server {
            address,
            said,
            child,
            out,
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// KiB of memory that it holds that is not the medium's.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Waits for its end; also what else it said.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + END;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                let mut rest = String::new();
                self.out.read_to_string(&mut rest).unwrap();
                return (status, rest);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server did not end within {END:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `agent serve HAUL` on a free port.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
    command
        .arg("serve")
        .arg(dir)
        .args(["--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// A server over [`layout::write`]'s layout, and what is in it.
pub(crate) struct Served {
    pub(crate) at: SocketAddr,
    pub(crate) written: Written,
    pub(crate) server: Server,
    pub(crate) dir: tempfile::TempDir,
}

/// Writes the layout and serves it: a matter of milliseconds, so each test has its own.
pub(crate) fn serve() -> Served {
    serve_with(&[])
}

/// The same with further arguments.
pub(crate) fn serve_with(arguments: &[&str]) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let written = layout::write(dir.path());
    let server = Server::with(dir.path(), arguments);
    Served {
        at: server.address,
        written,
        server,
        dir,
    }
}
