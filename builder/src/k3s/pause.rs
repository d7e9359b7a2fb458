//! The name of the pause image, a constant within k3s's main program.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use memchr::memmem::Finder;

/// What stands before the tag (k3s: pkg/cli/cmds/agent.go, `DefaultPauseImage`).
const NAME: &str = "rancher/mirrored-pause:";
/// Bytes of the longest tag that is read.
const TAG_BYTES: usize = 16;
/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// The pause image that a program names, `rancher/mirrored-pause:3.6`; none if it names none, or
/// several.
pub(super) fn of(path: &Path) -> io::Result<Option<String>> {
    search(File::open(path)?)
}

fn search(mut source: impl Read) -> io::Result<Option<String>> {
    let finder = Finder::new(NAME);
    let kept = NAME.len() + TAG_BYTES;
    let mut window = Vec::with_capacity(kept + CHUNK);
    let mut found: Option<String> = None;
    loop {
        window.drain(..window.len().saturating_sub(kept));
        let read = source
            .by_ref()
            .take(CHUNK as u64)
            .read_to_end(&mut window)?;
        for at in finder.find_iter(&window) {
            let rest = window.get(at + NAME.len()..).unwrap_or_default();
            // a tag that may go on is read again with what follows
            if rest.len() < TAG_BYTES && read > 0 {
                continue;
            }
            let Some(tag) = tag(rest) else { continue };
            match &found {
                Some(first) if *first != tag => return Ok(None),
                _ => found = Some(tag),
            }
        }
        if read == 0 {
            return Ok(found.map(|tag| format!("{NAME}{tag}")));
        }
    }
}

/// The version at the start of `bytes`: two or three numbers of at most two digits. Strings of Go
/// lie side by side without an end, so that letters behind it are another string's.
fn tag(bytes: &[u8]) -> Option<String> {
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .take(2)
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let mut length = number(bytes);
    let mut numbers = usize::from(length > 0);
    while numbers > 0 && numbers < 3 && bytes.get(length) == Some(&b'.') {
        match number(bytes.get(length + 1..)?) {
            0 => break,
            digits => length += 1 + digits,
        }
        numbers += 1;
    }
    let tag = bytes.get(..length)?;
    (numbers >= 2).then(|| String::from_utf8_lossy(tag).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(bytes: &[u8]) -> Option<String> {
        search(bytes).unwrap()
    }

    #[test]
    fn the_tag_ends_where_the_next_string_begins() {
        for (text, tag) in [
            ("rancher/mirrored-pause:3.6", Some("3.6")),
            ("rancher/mirrored-pause:3.6reflect: call", Some("3.6")),
            ("x rancher/mirrored-pause:3.10.2\0", Some("3.10.2")),
            ("rancher/mirrored-pause:3.10.2.", Some("3.10.2")),
            ("rancher/mirrored-pause:3.6.\0", Some("3.6")),
            ("rancher/mirrored-pause:%s", None),
            ("rancher/mirrored-pause:3", None),
            ("rancher/mirrored-pause:", None),
            (
                "rancher/mirrored-pause:3.6 rancher/mirrored-pause:3.6",
                Some("3.6"),
            ),
            (
                "rancher/mirrored-pause:3.6 rancher/mirrored-pause:3.5",
                None,
            ),
        ] {
            let name = tag.map(|tag| format!("rancher/mirrored-pause:{tag}"));
            assert_eq!(named(text.as_bytes()), name, "{text}");
        }
    }

    #[test]
    fn a_name_across_the_border_of_two_reads_is_found() {
        for before in CHUNK - 40..=CHUNK {
            let mut bytes = vec![b'.'; before];
            bytes.extend_from_slice(b"rancher/mirrored-pause:3.10.2x");
            assert_eq!(
                named(&bytes).as_deref(),
                Some("rancher/mirrored-pause:3.10.2"),
                "{before}"
            );
        }
    }
}
