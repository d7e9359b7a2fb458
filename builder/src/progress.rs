//! Telling a person how far a long step is.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(120);
/// How long a step without a terminal may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// Takes the progress of a sequence of steps, one at a time.
pub trait Progress {
    /// A step begins; `total` is its size in bytes where that is known.
    fn begin(&self, what: &str, total: Option<u64>);
    /// The step got `bytes` further.
    fn advance(&self, bytes: u64);
    /// The step is done; `outcome` is one line worth keeping.
    fn end(&self, outcome: &str);
    /// Something a person should know that stops nothing; one line.
    fn warn(&self, warning: &str);
}

/// Says nothing; for tests and for output to a pipe.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn end(&self, _outcome: &str) {}
    fn warn(&self, _warning: &str) {}
}

/// What suits standard error: bars on a terminal, lines elsewhere, only warnings if `quiet`.
pub fn to_stderr(quiet: bool) -> Box<dyn Progress> {
    if quiet {
        Box::new(WarningsOnly)
    } else if io::stderr().is_terminal() {
        Box::<Bars>::default()
    } else {
        Box::<Lines>::default()
    }
}

/// Writes a line. Nothing can be said about a standard error that is closed.
fn say(line: fmt::Arguments<'_>) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// Warnings and nothing else, on standard error.
#[derive(Debug, Default)]
pub struct WarningsOnly;

impl Progress for WarningsOnly {
    fn begin(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn end(&self, _outcome: &str) {}
    fn warn(&self, warning: &str) {
        say(format_args!("warning: {warning}"));
    }
}

/// A bar or a spinner on a terminal; what is done stays as a line above.
#[derive(Debug, Default)]
pub struct Bars {
    current: Mutex<Option<ProgressBar>>,
}

impl Bars {
    fn with(&self, work: impl FnOnce(&mut Option<ProgressBar>)) {
        work(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Progress for Bars {
    fn begin(&self, what: &str, total: Option<u64>) {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        let template = match total {
            Some(_) => "{msg} [{wide_bar}] {bytes}/{total_bytes} {eta:>4}",
            None => "{spinner} {msg} {bytes}",
        };
        // a template that did not parse would leave the standard one
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(TICK);
        self.with(|current| {
            if let Some(previous) = current.replace(bar) {
                previous.finish_and_clear();
            }
        });
    }

    fn advance(&self, bytes: u64) {
        self.with(|current| {
            if let Some(bar) = current {
                bar.inc(bytes);
            }
        });
    }

    fn end(&self, outcome: &str) {
        self.with(|current| {
            if let Some(bar) = current.take() {
                bar.finish_and_clear();
            }
            say(format_args!("{outcome}"));
        });
    }

    fn warn(&self, warning: &str) {
        self.with(|current| match current {
            Some(bar) => bar.suspend(|| say(format_args!("warning: {warning}"))),
            None => say(format_args!("warning: {warning}")),
        });
    }
}

impl Drop for Bars {
    /// A step that failed leaves no bar behind.
    fn drop(&mut self) {
        self.with(|current| {
            if let Some(bar) = current.take() {
                bar.finish_and_clear();
            }
        });
    }
}

/// One line for each step that is done, and a sign of life in long ones.
#[derive(Debug, Default)]
pub struct Lines {
    current: Mutex<Step>,
}

#[derive(Debug, Default)]
struct Step {
    what: String,
    total: Option<u64>,
    done: u64,
    said: Option<Instant>,
}

impl Progress for Lines {
    fn begin(&self, what: &str, total: Option<u64>) {
        let mut step = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *step = Step {
            what: what.to_owned(),
            total,
            done: 0,
            said: Some(Instant::now()),
        };
    }

    fn advance(&self, bytes: u64) {
        let mut step = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        step.done = step.done.saturating_add(bytes);
        if step.said.is_some_and(|said| said.elapsed() >= SILENCE) {
            step.said = Some(Instant::now());
            say(format_args!("{}", step.line()));
        }
    }

    fn end(&self, outcome: &str) {
        say(format_args!("{outcome}"));
    }

    fn warn(&self, warning: &str) {
        say(format_args!("warning: {warning}"));
    }
}

impl Step {
    fn line(&self) -> String {
        let done = indicatif::BinaryBytes(self.done);
        match self.total {
            Some(total) => format!("{}: {done} of {}", self.what, indicatif::BinaryBytes(total)),
            None => format!("{}: {done}", self.what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_life_says_what_and_how_far() {
        let step = Step {
            what: "writing".to_owned(),
            total: Some(4 << 20),
            done: 1 << 20,
            said: None,
        };
        assert_eq!(step.line(), "writing: 1.00 MiB of 4.00 MiB");
        let step = Step {
            total: None,
            ..step
        };
        assert_eq!(step.line(), "writing: 1.00 MiB");
    }
}
