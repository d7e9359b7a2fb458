//! Power: buttons, signals, and the programs `poweroff` and `reboot`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::system::RebootCommand;

use super::text::attribute;

/// How the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// Power off.
    Off,
    /// Start again.
    Reboot,
}

impl Power {
    /// As the status port says it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Power::Off => "poweroff",
            Power::Reboot => "reboot",
        }
    }

    /// What a signal to PID 1 asks for, by the conventions of small inits (busybox): TERM and INT
    /// (Ctrl-Alt-Del) restart, USR1 (halt), USR2 and PWR switch off.
    pub(super) fn of_signal(signal: Signal) -> Option<Power> {
        match signal {
            Signal::SIGINT | Signal::SIGTERM => Some(Power::Reboot),
            Signal::SIGUSR1 | Signal::SIGUSR2 | Signal::SIGPWR => Some(Power::Off),
            _ => None,
        }
    }

    /// Does it, at once. Returns only if the kernel refuses.
    pub(super) fn now(self) -> rustix::io::Errno {
        let command = match self {
            Power::Off => RebootCommand::PowerOff,
            Power::Reboot => RebootCommand::Restart,
        };
        rustix::system::reboot(command)
            .err()
            .unwrap_or(rustix::io::Errno::INVAL)
    }
}

/// `poweroff`, `halt`, `shutdown` (`-r` to reboot) and `reboot`: asks PID 1; `-f` does not ask.
pub(crate) fn main(called: Power) -> ExitCode {
    let given = |short: &str, long: &str| {
        std::env::args()
            .skip(1)
            .any(|word| word == short || word == long)
    };
    let power = if given("-r", "--reboot") {
        Power::Reboot
    } else {
        called
    };
    let forced = given("-f", "--force");
    let error = if forced {
        rustix::fs::sync();
        power.now().to_string()
    } else {
        let signal = match power {
            Power::Off => Signal::SIGUSR2,
            Power::Reboot => Signal::SIGTERM,
        };
        match kill(Pid::from_raw(1), signal) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => error.to_string(),
        }
    };
    eprintln!("error: asking for {}: {error}", power.name());
    eprintln!("  help: only root of this node may do that");
    ExitCode::FAILURE
}

/// `EV_KEY` and `KEY_POWER` (Linux: include/uapi/linux/input-event-codes.h).
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// Bytes of `struct input_event` where `long` has 64 bits: two longs of time, type, code, value.
const EVENT_BYTES: usize = 24;

/// The power buttons: ACPI's, and a board's own on a GPIO.
#[derive(Debug, Default)]
pub(super) struct Buttons {
    open: BTreeMap<String, File>,
}

impl Buttons {
    /// Looks for power buttons; called when an input device appears.
    pub(super) fn find(&mut self) {
        let entries = fs::read_dir("/sys/class/input").into_iter().flatten();
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if !name.starts_with("event") || self.open.contains_key(&name) {
                continue;
            }
            let keys = attribute(entry.path().join("device/capabilities/key"));
            if keys.is_some_and(|keys| has_bit(&keys, KEY_POWER)) {
                let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
                let device = OpenOptions::new()
                    .read(true)
                    .custom_flags(nonblock)
                    .open(Path::new("/dev/input").join(&name));
                if let Ok(device) = device {
                    self.open.insert(name, device);
                }
            }
        }
    }

    /// The descriptors to poll.
    pub(super) fn files(&self) -> impl Iterator<Item = (&String, &File)> {
        self.open.iter()
    }

    /// Whether the button was pressed, now that its device can be read.
    pub(super) fn pressed(&mut self, name: &str) -> bool {
        let Some(file) = self.open.get_mut(name) else {
            return false;
        };
        let mut buffer = [0; EVENT_BYTES * 64];
        match file.read(&mut buffer) {
            Ok(0) => drop(self.open.remove(name)),
            Ok(length) => {
                let events = buffer.get(..length).unwrap_or_default();
                return events.chunks_exact(EVENT_BYTES).any(is_power_key);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // unplugged
            Err(_) => drop(self.open.remove(name)),
        }
        false
    }
}

/// Whether an event is the power key going down.
fn is_power_key(event: &[u8]) -> bool {
    let half = |at: usize| {
        let bytes = event.get(at..at + 2)?.try_into().ok()?;
        Some(u16::from_le_bytes(bytes))
    };
    half(16) == Some(EV_KEY) && half(18) == Some(KEY_POWER) && event.get(20) == Some(&1)
}

/// Whether a bit is set in sysfs' bitmaps: words of 64 bits in hexadecimal, the lowest last.
fn has_bit(words: &str, bit: u16) -> bool {
    let word = words
        .split_ascii_whitespace()
        .rev()
        .nth(usize::from(bit / 64));
    word.and_then(|word| u64::from_str_radix(word, 16).ok())
        .is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_button_is_told_from_a_keyboard_by_its_bitmap() {
        assert!(has_bit("10000000000000 0", KEY_POWER));
        assert!(!has_bit("fffffffffffffffe", KEY_POWER));
        assert!(!has_bit("", KEY_POWER) && !has_bit("zz 0", KEY_POWER));
    }

    #[test]
    fn only_the_press_of_the_power_key_counts() {
        let event = |kind: u16, code: u16, value: u8| {
            let mut bytes = vec![0; 16];
            bytes.extend(kind.to_le_bytes());
            bytes.extend(code.to_le_bytes());
            bytes.extend([value, 0, 0, 0]);
            bytes
        };
        assert!(is_power_key(&event(1, 116, 1)));
        assert!(!is_power_key(&event(1, 116, 0)));
        assert!(!is_power_key(&event(1, 30, 1)));
        assert!(!is_power_key(&[0; 3]));
    }

    #[test]
    fn signals_mean_what_small_inits_mean_by_them() {
        assert_eq!(Power::of_signal(Signal::SIGINT), Some(Power::Reboot));
        assert_eq!(Power::of_signal(Signal::SIGTERM), Some(Power::Reboot));
        assert_eq!(Power::of_signal(Signal::SIGUSR2), Some(Power::Off));
        assert_eq!(Power::of_signal(Signal::SIGPWR), Some(Power::Off));
        assert_eq!(Power::of_signal(Signal::SIGHUP), None);
    }
}
