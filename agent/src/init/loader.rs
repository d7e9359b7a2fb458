//! The process that loads drivers.
//!
//! A driver's start can take seconds, or hang. So a child of PID 1 does it: it walks over all
//! devices once (coldplug), and then takes the devices that PID 1 hears of, one modalias a line.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::Uptime;
use super::modules::{Arguments, Failure, Loading, ModuleFiles};
use super::text::{attribute, read_bounded};

/// The name the loader is called by.
pub(crate) const CALLED: &str = "haulboot-loader";
/// The word that asks for a walk over all devices.
const COLDPLUG: &str = "coldplug";
/// Modules loaded whatever the devices say: no device asks for the file systems of the stick, nor
/// for the event devices through which a power button is heard.
const ALWAYS: &[&str] = &[
    "ext4",
    "vfat",
    "nls_cp437",
    "nls_iso8859-1",
    "nls_ascii",
    "nls_utf8",
    "evdev",
];
/// What processors ask for only makes things faster (ciphers, sensors), and is many and slow to
/// start: it comes last, and nothing waits for it.
const PROCESSOR: &str = "cpu:";
/// Walks over the devices: drivers of one bus bring devices of the next (PCI, USB, SCSI, disk).
const WALKS: usize = 8;
/// How deep `/sys/devices` is walked.
const DEPTH: usize = 24;
/// Bytes kept for the loader while it works.
const QUEUE_BYTES: usize = 256 << 10;
/// A loader that died is started again after this, and given up after so many deaths.
const RESTART: Duration = Duration::from_secs(1);
const DEATHS: u32 = 5;

/// What the loader says, one JSON line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Said {
    /// A walk over all devices ended.
    Coldplugged {
        /// Modules loaded since the loader began.
        modules: usize,
    },
    /// A module could not be loaded.
    Failed {
        /// Its name.
        module: String,
        /// Why.
        why: String,
    },
}

/// The loader's side.
pub(crate) fn main() -> ExitCode {
    let command_line = read_bounded("/proc/cmdline", 64 << 10).unwrap_or_default();
    let files = match ModuleFiles::open() {
        Ok(files) => files,
        Err(error) => {
            say(&Said::Failed {
                module: ModuleFiles::directory().display().to_string(),
                why: error.to_string(),
            });
            // nothing to load from: the walk is over, and whatever is built in works
            say(&Said::Coldplugged { modules: 0 });
            for _ in io::stdin().lock().lines() {}
            return ExitCode::SUCCESS;
        }
    };
    let mut loader = Worker {
        loading: Loading::new(files, Arguments::parse(&command_line)),
        told: BTreeSet::new(),
    };
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        if line == COLDPLUG {
            loader.coldplug();
        } else {
            loader.device(&line);
        }
    }
    ExitCode::SUCCESS
}

fn say(said: &Said) {
    if let Ok(json) = serde_json::to_string(said) {
        // nobody listens any more when PID 1 has started itself anew; println! would panic then
        let _ = writeln!(io::stdout(), "{json}");
    }
}

struct Worker {
    loading: Loading,
    told: BTreeSet<String>,
}

impl Worker {
    fn coldplug(&mut self) {
        for module in ALWAYS {
            // a kernel that lacks one has it built in, or the boot fails where it is needed and says so
            let _ = self.loading.ask(module);
        }
        let mut processors = BTreeSet::new();
        for _ in 0..WALKS {
            let before = self.loading.count;
            let mut aliases = BTreeSet::new();
            modaliases(Path::new("/sys/devices"), DEPTH, &mut aliases);
            for alias in aliases {
                if alias.starts_with(PROCESSOR) {
                    processors.insert(alias);
                } else {
                    self.device(&alias);
                }
            }
            if self.loading.count == before {
                break;
            }
        }
        say(&Said::Coldplugged {
            modules: self.loading.count,
        });
        for alias in processors {
            self.device(&alias);
        }
    }

    fn device(&mut self, modalias: &str) {
        for Failure { module, why } in self.loading.device(modalias) {
            if self.told.insert(module.clone()) {
                say(&Said::Failed { module, why });
            }
        }
    }
}

/// Collects the modalias of every device below `directory`.
fn modaliases(directory: &Path, depth: usize, found: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && depth > 0 {
            modaliases(&entry.path(), depth - 1, found);
        } else if kind.is_file() && entry.file_name() == "modalias" {
            let alias = attribute(entry.path()).filter(|alias| !alias.is_empty());
            found.extend(alias);
        }
    }
}

/// PID 1's side.
#[derive(Debug, Default)]
pub(super) struct Loader {
    process: Option<Process>,
    restart: Option<Uptime>,
    deaths: u32,
}

#[derive(Debug)]
struct Process {
    pid: i32,
    input: ChildStdin,
    output: ChildStdout,
    queue: VecDeque<u8>,
    said: Vec<u8>,
}

impl Loader {
    /// Starts the loader, and the walk over all devices.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let mut child = Command::new("/proc/self/exe")
            .arg0(CALLED)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let input = child.stdin.take().ok_or(ErrorKind::BrokenPipe)?;
        let output = child.stdout.take().ok_or(ErrorKind::BrokenPipe)?;
        rustix::io::ioctl_fionbio(&input, true)?;
        rustix::io::ioctl_fionbio(&output, true)?;
        self.restart = None;
        self.process = Some(Process {
            pid: i32::try_from(child.id()).map_err(io::Error::other)?,
            input,
            output,
            queue: VecDeque::new(),
            said: Vec::new(),
        });
        self.coldplug();
        Ok(())
    }

    /// Asks for a walk over all devices.
    pub(super) fn coldplug(&mut self) {
        self.line(COLDPLUG);
    }

    /// Hands over a device that appeared.
    pub(super) fn device(&mut self, modalias: &str) {
        if !modalias.contains('\n') {
            self.line(modalias);
        }
    }

    fn line(&mut self, line: &str) {
        if let Some(process) = &mut self.process {
            // a full queue holds a walk's worth of work; the lost device is found by the next walk
            if process.queue.len() + line.len() < QUEUE_BYTES {
                process.queue.extend(line.as_bytes());
                process.queue.push_back(b'\n');
            }
            process.flush();
        }
    }

    /// What the loader says: poll it for reading.
    pub(super) fn output(&self) -> Option<&ChildStdout> {
        self.process.as_ref().map(|process| &process.output)
    }

    /// What the loader is told, while it has not taken all of it: poll it for writing.
    pub(super) fn input(&self) -> Option<&ChildStdin> {
        let waiting = self
            .process
            .as_ref()
            .filter(|process| !process.queue.is_empty());
        waiting.map(|process| &process.input)
    }

    /// The loader takes more.
    pub(super) fn flush(&mut self) {
        if let Some(process) = &mut self.process {
            process.flush();
        }
    }

    /// What the loader has said since.
    pub(super) fn read(&mut self) -> Vec<Said> {
        let Some(process) = &mut self.process else {
            return Vec::new();
        };
        let mut buffer = [0; 8192];
        loop {
            match process.output.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => process.said.extend(buffer.iter().take(length)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let mut said = Vec::new();
        while let Some(end) = process.said.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = process.said.drain(..=end).collect();
            said.extend(serde_json::from_slice::<Said>(&line));
        }
        said
    }

    /// A process ended; whether it was the loader.
    pub(super) fn reaped(&mut self, pid: i32) -> bool {
        if self
            .process
            .as_ref()
            .is_none_or(|process| process.pid != pid)
        {
            return false;
        }
        self.process = None;
        self.deaths += 1;
        if self.deaths < DEATHS {
            self.restart = Some(Uptime::now().after(RESTART));
        }
        true
    }

    /// Leaves a loader that hangs in a driver to itself, and lets a new one load the rest: it passes
    /// over what is being loaded already. The old one ends when its driver does.
    pub(super) fn replace(&mut self) -> io::Result<()> {
        self.process = None;
        self.start()
    }

    /// The machine goes down: a loader that ends is not started again.
    pub(super) fn stop(&mut self) {
        self.restart = None;
        self.deaths = DEATHS;
    }

    /// Whether no loader runs and none will.
    pub(super) fn is_given_up(&self) -> bool {
        self.process.is_none() && self.restart.is_none()
    }

    /// When to call [`Self::tick`].
    pub(super) fn deadline(&self) -> Option<Uptime> {
        self.restart
    }

    /// Starts the loader again if it is time.
    pub(super) fn tick(&mut self, now: Uptime) {
        if self.restart.is_some_and(|at| at <= now) {
            self.restart = None;
            let _ = self.start();
        }
    }
}

impl Process {
    fn flush(&mut self) {
        while !self.queue.is_empty() {
            let (front, _) = self.queue.as_slices();
            match self.input.write(front) {
                Ok(0) => return,
                Ok(written) => drop(self.queue.drain(..written.min(front.len()))),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.queue.clear(),
            }
        }
    }
}
