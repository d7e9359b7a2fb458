//! Columns of text, and standard output that may be closed.

use std::fmt;
use std::io::{self, Write};

/// Rows of three columns; the last one is aligned to the right.
pub(super) struct Table {
    rows: Vec<[String; 3]>,
}

impl Table {
    pub(super) fn new(heading: [&str; 3]) -> Table {
        Table {
            rows: vec![heading.map(str::to_owned)],
        }
    }

    pub(super) fn row(&mut self, row: [String; 3]) {
        self.rows.push(row);
    }

    /// Whether there is nothing but the heading.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: fn(&[String; 3]) -> &String| {
            self.rows
                .iter()
                .map(|row| column(row).chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths = [
            width(|[a, _, _]| a),
            width(|[_, b, _]| b),
            width(|[_, _, c]| c),
        ];
        let [first, second, third] = widths;
        for [a, b, c] in &self.rows {
            writeln!(f, "{a:first$}  {b:second$}  {c:>third$}")?;
        }
        Ok(())
    }
}

/// Writes to standard output. That a reader has seen enough (`| head`) is no error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("writing to standard output"))
        }
        _ => Ok(()),
    }
}
