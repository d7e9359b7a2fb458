//! Patterns of `modules.alias`: `*`, `?` and `[a-z]`, as fnmatch(3) without flags has them.

/// Whether `text` matches `pattern` in full. Takes at most length times length steps.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.as_bytes(), text.as_bytes());
    // where to go on when a star has to swallow one byte more
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match pattern.split_first() {
            Some((b'*', rest)) => {
                star = Some((rest, text));
                pattern = rest;
                continue;
            }
            None if text.is_empty() => return true,
            None => None,
            Some((&token, rest)) => match text.split_first() {
                Some((&byte, tail)) => one(token, rest, byte).map(|rest| (rest, tail)),
                None => None,
            },
        };
        (pattern, text) = match (step, star) {
            (Some(next), _) => next,
            (None, Some((after, from))) => {
                let Some((_, from)) = from.split_first() else {
                    return false;
                };
                star = Some((after, from));
                (after, from)
            }
            (None, None) => return false,
        };
    }
}

/// Matches one byte against the pattern `token` begins; returns the pattern behind it.
fn one(token: u8, rest: &[u8], byte: u8) -> Option<&[u8]> {
    match token {
        b'?' => Some(rest),
        b'[' => class(rest, byte),
        b'\\' => {
            let (&escaped, rest) = rest.split_first()?;
            (escaped == byte).then_some(rest)
        }
        literal => (literal == byte).then_some(rest),
    }
}

/// Matches `byte` against a class whose `[` is read; returns the pattern behind its `]`.
fn class(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (negated, mut pattern) = match pattern.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, pattern),
    };
    let mut found = false;
    let mut first = true;
    loop {
        let (&low, rest) = pattern.split_first()?;
        if low == b']' && !first {
            return (found != negated).then_some(rest);
        }
        first = false;
        match rest {
            [b'-', high, rest @ ..] if *high != b']' => {
                found |= (low..=*high).contains(&byte);
                pattern = rest;
            }
            _ => {
                found |= low == byte;
                pattern = rest;
            }
        }
    }
}

/// The part of a pattern before its first special byte: every match begins with it.
pub(super) fn literal_prefix(pattern: &str) -> &str {
    let end = pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len());
    pattern.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_fnmatch_does() {
        for (pattern, text, expected) in [
            ("pci:v00008086d*sv*", "pci:v00008086d000010D3sv0000", true),
            ("pci:v00008086d*sv*", "pci:v00008087d000010D3sv0000", false),
            (
                "usb:v*p*d*dc*ic08isc06ip50in*",
                "usb:v1p2d3dc0ic08isc06ip50in00",
                true,
            ),
            ("usb:v05ACp12[9A-F]?*", "usb:v05ACp12A0d1", true),
            ("usb:v05ACp12[9A-F]?*", "usb:v05ACp1280d1", false),
            ("a[!b]c", "axc", true),
            ("a[!b]c", "abc", false),
            ("a[]]c", "a]c", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "a--b--b-c", true),
            ("a*b*c", "a--b--b-", false),
            ("[", "[", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn every_text_matches_itself_escaped_and_nothing_panics(
            text in "[a-z*?\\[\\]!-]{0,20}", pattern in "[a-c*?\\[\\]!\\\\-]{0,20}",
        ) {
            let escaped: String = text.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert!(matches(&escaped, &text));
            if matches(&pattern, &text) {
                prop_assert!(text.starts_with(literal_prefix(&pattern)));
            }
        }
    }
}
