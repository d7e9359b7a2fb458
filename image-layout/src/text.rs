//! Text of others, made fit for a terminal, a log or a page.

/// Characters of one printed name at most.
const LONGEST: usize = 300;

/// Returns `text` on one line without anything a terminal acts upon: control characters and
/// characters that change the direction or hide are written as `\u{..}`; the rest is cut off after
/// 300 characters.
pub fn printable(text: &str) -> String {
    let mut printed = String::with_capacity(text.len().min(LONGEST));
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            printed.push('…');
            break;
        }
        if is_harmless(c) {
            printed.push(c);
        } else {
            printed.extend(c.escape_unicode());
        }
    }
    printed
}

/// Whether a terminal shows `c` as a character and does nothing else with it.
pub fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_terminal_acts_upon_comes_through() {
        assert_eq!(printable("nginx:1.16.0"), "nginx:1.16.0");
        assert_eq!(printable("Größe 大.txt"), "Größe 大.txt");
        assert_eq!(printable("a\x1b[2Jb\r\n"), r"a\u{1b}[2Jb\u{d}\u{a}");
        assert_eq!(printable("exe\u{202e}txt"), r"exe\u{202e}txt");
        assert_eq!(printable(&"x".repeat(10_000)).chars().count(), 301);
    }
}
