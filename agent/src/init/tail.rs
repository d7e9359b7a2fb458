//! The last lines of a log, cleaned and bounded.

use std::collections::VecDeque;

/// Bytes kept of a line that has not ended yet.
const LINE_BYTES: usize = 4 << 10;

/// The last lines that went through it.
#[derive(Debug)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    /// Bytes of `lines`, with a line break for each.
    size: usize,
    unfinished: Vec<u8>,
    most_lines: usize,
    most_bytes: usize,
    most_characters: usize,
}

impl Tail {
    /// At most so many lines, bytes of all of them together, and characters of each.
    pub(super) fn new(lines: usize, bytes: usize, characters: usize) -> Tail {
        Tail {
            lines: VecDeque::new(),
            size: 0,
            unfinished: Vec::new(),
            most_lines: lines,
            most_bytes: bytes,
            most_characters: characters,
        }
    }

    /// Takes what was read next; it may begin and end within a line.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let mut pieces = bytes.split(|&byte| byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let room = LINE_BYTES.saturating_sub(self.unfinished.len());
            self.unfinished.extend(piece.iter().take(room));
            if pieces.peek().is_some() {
                self.end_line();
            }
        }
    }

    /// Nothing more comes: what was said last is a line, ended or not.
    pub(super) fn finish(&mut self) {
        if !self.unfinished.is_empty() {
            self.end_line();
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.unfinished.clear();
        self.size = 0;
    }

    /// The lines, the oldest first, without a line break at the end.
    pub(super) fn text(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }

    fn end_line(&mut self) {
        let line = clean(
            &String::from_utf8_lossy(&self.unfinished),
            self.most_characters,
        );
        self.unfinished.clear();
        if line.is_empty() {
            return;
        }
        self.size = self.size.saturating_add(line.len() + 1);
        self.lines.push_back(line);
        while self.lines.len() > self.most_lines || self.size > self.most_bytes {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.size = self.size.saturating_sub(oldest.len() + 1);
        }
    }
}

/// A line without the sequences that colour a terminal or move its cursor (ECMA-48: ESC, `[`,
/// parameters, one final byte), without other control characters, of at most `limit` characters.
fn clean(line: &str, limit: usize) -> String {
    let mut text = String::with_capacity(line.len().min(limit));
    let mut kept = 0;
    let mut characters = line.trim_end().chars().peekable();
    while let Some(c) = characters.next() {
        if c == '\x1b' {
            if characters.next_if_eq(&'[').is_some() {
                while characters
                    .next_if(|c| ('\x20'..='\x3f').contains(c))
                    .is_some()
                {}
            }
            characters.next();
            continue;
        }
        if kept >= limit {
            text.push_str("...");
            break;
        }
        text.push(if c.is_control() { ' ' } else { c });
        kept += 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_come_in_pieces_are_put_together() {
        let mut tail = Tail::new(2, 1000, 100);
        for piece in ["one\ntw", "o\nth", "ree", "\nfour"] {
            tail.append(piece.as_bytes());
        }
        assert_eq!(tail.text(), "two\nthree");
        tail.finish();
        assert_eq!(tail.text(), "three\nfour");
        tail.clear();
        assert_eq!(tail.text(), "");
    }

    #[test]
    fn neither_many_lines_nor_one_without_an_end_grow_beyond_the_bound() {
        let mut tail = Tail::new(usize::MAX, 1000, 200);
        for i in 0..10_000 {
            tail.append(format!("line {i}\n").as_bytes());
        }
        assert!(tail.text().len() <= 1000);
        assert!(tail.text().ends_with("line 9999"));
        for _ in 0..100 {
            tail.append(&[b'x'; 8192]);
        }
        assert!(tail.unfinished.len() <= LINE_BYTES);
        tail.finish();
        let text = tail.text();
        assert!(text.len() <= 1000 && text.ends_with("xxx..."), "{text}");
    }

    #[test]
    fn colours_and_control_characters_are_taken_out() {
        assert_eq!(
            clean("\x1b[31;1mFATA\x1b[0m[0001]\tno\x07 \u{1b}(Bgo\r", 100),
            "FATA[0001] no  Bgo"
        );
        assert_eq!(clean("abcdef", 3), "abc...");
        assert_eq!(clean("\x1b[2", 10), "");
    }
}
