//! Progress for a person: a bar on a terminal, plain lines where standard error is a file or pipe.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

use super::Progress;

/// Writes to standard error.
pub struct Stderr {
    terminal: bool,
    bar: RefCell<Option<ProgressBar>>,
}

impl Stderr {
    /// Looks at whether standard error is a terminal.
    pub fn new() -> Stderr {
        Stderr {
            terminal: std::io::stderr().is_terminal(),
            bar: RefCell::new(None),
        }
    }

    fn line(&self, line: &str) {
        match &*self.bar.borrow() {
            Some(bar) => bar.println(line),
            // nothing can be said about a standard error that is closed
            None => drop(writeln!(std::io::stderr(), "{line}")),
        }
    }
}

impl Default for Stderr {
    fn default() -> Self {
        Stderr::new()
    }
}

impl Progress for Stderr {
    fn begin(&self, what: &str, total: Option<u64>) {
        if !self.terminal {
            return;
        }
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{msg} [{bar:24}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{msg} {bytes} {binary_bytes_per_sec}",
            ),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        self.bar.replace(Some(bar));
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = &*self.bar.borrow() {
            bar.inc(bytes);
        }
    }

    fn end(&self, outcome: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.line(outcome);
    }

    fn warn(&self, warning: &str) {
        self.line(&format!("warning: {warning}"));
    }
}

impl Drop for Stderr {
    /// A step that failed leaves no bar behind.
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
