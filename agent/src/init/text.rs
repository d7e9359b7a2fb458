//! Small, bounded reads of the kernel's text files, and text made fit for a terminal.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Enough for any file of sysfs or procfs that is read here.
const SMALL: u64 = 64 << 10;

/// Reads at most `limit` bytes; what is no UTF-8 is replaced.
pub(super) fn read_bounded(path: impl AsRef<Path>, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// One attribute of sysfs or procfs without the white space around it; `None` if it can't be read.
pub(super) fn attribute(path: impl AsRef<Path>) -> Option<String> {
    let text = read_bounded(path, SMALL).ok()?;
    let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0');
    Some(trimmed.to_owned())
}

/// Text from elsewhere as one line of at most `limit` characters: no control characters, so that
/// nothing can move the cursor of a console or forge a second record in the kernel's log.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::with_capacity(text.len().min(limit));
    for c in text.trim().chars() {
        if line.chars().count() >= limit {
            line.push_str("...");
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

/// A number of bytes as people write it: `1.5 GiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = "bytes";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "bytes" {
        format!("{bytes} bytes")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_neither_move_the_cursor_nor_grow_without_bound() {
        assert_eq!(one_line("a\x1b[2Jb\nc\n", 100), "a [2Jb c");
        assert_eq!(one_line(&"x".repeat(50), 10), "xxxxxxxxxx...");
    }

    #[test]
    fn sizes_are_written_as_people_write_them() {
        assert_eq!(size(512), "512 bytes");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(32 << 30), "32.0 GiB");
    }
}
