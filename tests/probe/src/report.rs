//! What the probe found, as JSON lines: to the virtio-serial port of tests, and to its log.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use serde_json::{Value, json};

/// Name of the virtio-serial port that tests listen on.
pub const PORT: &str = "org.haulboot.probe";

/// How long the listener may take for a line.
const PATIENCE: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};

#[derive(Default)]
struct Told {
    port: Option<File>,
    conditions: u32,
    failed: u32,
}

fn told() -> MutexGuard<'static, Told> {
    static TOLD: OnceLock<Mutex<Told>> = OnceLock::new();
    TOLD.get_or_init(|| {
        Mutex::new(Told {
            port: find_port().and_then(|path| {
                let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
                OpenOptions::new()
                    .write(true)
                    .custom_flags(nonblocking)
                    .open(path)
                    .ok()
            }),
            ..Told::default()
        })
    })
    .lock()
    .unwrap_or_else(PoisonError::into_inner)
}

/// The device of the port of that name; `None` on a machine without one.
fn find_port() -> Option<PathBuf> {
    for entry in std::fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim() == PORT {
            return Some(PathBuf::from("/dev").join(entry.file_name()));
        }
    }
    None
}

/// Tells one event. A listener that went away loses it; the log on stderr has it.
pub fn event(event: &Value) {
    write(&mut told(), event);
}

fn write(told: &mut Told, event: &Value) {
    let line = format!("{event}\n");
    // one write a line, so that lines of two processes on one log do not mix
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(port) = &mut told.port
        && !sent(port, line.as_bytes())
    {
        told.port = None;
    }
}

/// Writes a line to the port; waits no longer than [`PATIENCE`] for a machine outside that does not
/// read it.
fn sent(port: &mut File, mut line: &[u8]) -> bool {
    while !line.is_empty() {
        match port.write(line) {
            Ok(written) => line = line.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(&*port, PollFlags::OUT)];
                if !rustix::event::poll(&mut fds, Some(&PATIENCE)).is_ok_and(|ready| ready > 0) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// One condition of `k3s.md`: whether it holds, and what was found.
pub fn condition(name: &str, ok: bool, found: impl std::fmt::Display) {
    let mut told = told();
    told.conditions += 1;
    told.failed += u32::from(!ok);
    let found: String = found.to_string().chars().take(600).collect();
    write(
        &mut told,
        &json!({"event": "condition", "name": name, "ok": ok, "found": found}),
    );
}

/// A condition whose check gave what was found, or why it does not hold.
pub fn verdict<T: std::fmt::Display, E: std::fmt::Display>(name: &str, outcome: Result<T, E>) {
    match outcome {
        Ok(found) => condition(name, true, found),
        Err(why) => condition(name, false, why),
    }
}

/// Tells how many conditions were looked at, and how many of them do not hold.
pub fn sum() {
    let mut told = told();
    let line = json!({
        "event": "checked", "conditions": told.conditions, "failed": told.failed,
    });
    write(&mut told, &line);
}

/// Something on the way, in k3s's words where it has some; only for the log.
pub fn log(text: impl std::fmt::Display) {
    event(&json!({"event": "log", "text": text.to_string()}));
}
