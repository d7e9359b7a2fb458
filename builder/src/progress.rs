//! Telling a person how far a long step is.

mod terminal;

pub use terminal::Stderr;

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
