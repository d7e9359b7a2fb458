//! The life of PID 1, from its first instruction. It has no end.

use std::fs::OpenOptions;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image_layout::bootargs::BootArgs;
use rustix::fs::Mode;
use rustix::system::{RebootCommand, reboot};

use super::boot::Boot;
use super::clock::Uptime;
use super::kmsg::{KmsgWriter, Level};
use super::machine::Machine;
use super::mounts;
use super::power::Power;
use super::reporter::Reporter;
use super::root::Carried;
use super::statusfile;
use super::text::read_bounded;

/// After so many panics the loop only reaps and listens to signals.
const PANICS: u32 = 100;

/// PID 1's life; never returns.
pub(crate) fn main() -> ! {
    let began = Uptime::now();
    std::panic::set_hook(Box::new(|info| {
        KmsgWriter::open().line(Level::Error, &format!("PID 1 panicked: {info}"));
    }));
    let mut alive = catch_unwind(AssertUnwindSafe(|| begin(began))).unwrap_or(None);
    let mut panics = 0;
    while let Some((machine, boot)) = &mut alive {
        if catch_unwind(AssertUnwindSafe(|| machine.turn(boot))).is_err() {
            panics += 1;
            if panics >= PANICS {
                break;
            }
        }
    }
    last_resort()
}

/// Mounts what everything else needs, opens the ways to speak, and begins or goes on with the boot.
fn begin(began: Uptime) -> Option<(Machine, Boot)> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let carried = Carried::take();
    let mut problems = Vec::new();
    if carried.is_none() {
        problems = mounts::mount_all(mounts::EARLY);
        mounts::dev_links();
    }
    standard_streams();
    let command_line = read_bounded("/proc/cmdline", 64 << 10).unwrap_or_default();
    let parsed = BootArgs::parse(&command_line);
    let status = match &carried {
        Some(carried) => carried.status.clone(),
        None => statusfile::new_status(),
    };
    if carried.is_none() {
        quiet_kernel(&command_line);
        // Ctrl-Alt-Del comes to us as SIGINT instead of restarting at once
        let _ = reboot(RebootCommand::CadOff);
    }
    let _ = std::fs::create_dir_all(image_layout::paths::node::RUN);
    // the last that is killed for lack of memory; children set their own
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    let mut reporter = Reporter::open(&command_line, status);
    if parsed.args.check {
        reporter.down("poweroff");
        let error = Power::Off.now();
        reporter.notice(&format!("power off was refused: {error}"));
    }
    for problem in problems {
        reporter.notice(&problem);
    }
    let mut machine = match Machine::new(reporter) {
        Ok(machine) => machine,
        Err(error) => {
            KmsgWriter::open().line(Level::Error, &format!("PID 1 can't take signals: {error}"));
            return None;
        }
    };
    let boot = match carried {
        Some(carried) => Boot::on_new_root(&mut machine, parsed, carried),
        None => Boot::in_initramfs(&mut machine, parsed, began),
    };
    Some((machine, boot))
}

/// Opens the console as standard input, output and error: the kernel can't where the initramfs has
/// no `/dev/console`, and whatever is opened next would take their numbers.
fn standard_streams() {
    let open = |path: &str| OpenOptions::new().read(true).write(true).open(path);
    let Ok(console) = open("/dev/console").or_else(|_| open("/dev/null")) else {
        return;
    };
    let _ = rustix::stdio::dup2_stdin(&console);
    let _ = rustix::stdio::dup2_stdout(&console);
    let _ = rustix::stdio::dup2_stderr(&console);
}

/// Leaves the consoles to our lines and the kernel's errors, unless the command line asks for more.
fn quiet_kernel(command_line: &str) {
    let mut words = command_line.split_ascii_whitespace();
    let asked = words
        .any(|word| word == "debug" || word == "ignore_loglevel" || word.starts_with("loglevel="));
    if !asked {
        let _ = std::fs::write("/proc/sys/kernel/printk", "4");
    }
}

/// When nothing else works: reaps, and sleeps where nothing is to be reaped. The kernel stays up,
/// and so do the children.
fn last_resort() -> ! {
    KmsgWriter::open().line(Level::Error, "PID 1 gave up everything but reaping");
    // nobody listens for Ctrl-Alt-Del any more: the kernel restarts by itself
    let _ = reboot(RebootCommand::CadOn);
    loop {
        if rustix::process::wait(rustix::process::WaitOptions::empty()).is_err() {
            std::thread::park_timeout(std::time::Duration::from_secs(1));
        }
    }
}
