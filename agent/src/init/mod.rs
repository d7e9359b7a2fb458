//! PID 1.

use std::process::ExitCode;

/// How the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// Power off.
    Off,
    /// Start again.
    Reboot,
}

/// PID 1's life; never returns.
pub(crate) fn main() -> ! {
    loop {
        std::thread::park();
    }
}

/// What the kernel calls as `/sbin/modprobe`.
pub(crate) fn modprobe_main() -> ExitCode {
    ExitCode::FAILURE
}

/// `poweroff` and `reboot`: asks PID 1.
pub(crate) fn power_main(_power: Power) -> ExitCode {
    ExitCode::FAILURE
}
