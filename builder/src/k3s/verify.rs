//! The checks that k3s's launcher does after unpacking (k3s: pkg/dataverify, scripts/package-cli).
//!
//! Both lists lie in `bin/`: `.sha256sums` with lines `HASH NAME`, `.links` with lines
//! `NAME TARGET`, names relative to `bin/`. The launcher wants at least one entry in each.

use std::collections::BTreeMap;

use super::unpack::{Entry, Unpacked};

/// Where the lists and everything that they name lie.
const BIN: &str = "bin";
/// Hashes of the files.
const SUMS: &str = ".sha256sums";
/// Targets of the links.
const LINKS: &str = ".links";
/// The program that the launcher looks for to see whether there is anything to unpack.
pub(super) const MAIN: &str = "bin/k3s";

/// Whether a member of the archive is one of the lists.
pub(super) fn is_list(path: &str) -> bool {
    let name = path
        .strip_prefix(BIN)
        .and_then(|rest| rest.strip_prefix('/'));
    matches!(name, Some(SUMS | LINKS))
}

/// Compares what was unpacked with the lists in it; what does not agree, as part of a sentence.
pub(super) fn verify(unpacked: &Unpacked) -> Result<(), String> {
    let list = |name: &str| {
        let path = format!("{BIN}/{name}");
        let text = unpacked
            .lists
            .get(&path)
            .ok_or(format!("it has no {path}"))?;
        let text = std::str::from_utf8(text).map_err(|_| format!("{path} is no text"))?;
        pairs(text)
            .filter(|pairs| !pairs.is_empty())
            .ok_or(format!("{path} is empty or malformed"))
    };
    let entry = |name: &str| unpacked.entries.get(&format!("{BIN}/{name}"));
    for (hash, name) in list(SUMS)? {
        match entry(&name) {
            Some(Entry::File { digest, .. }) if digest.hex() == hash => {}
            // the launcher reads through links
            Some(Entry::Link(_)) => return Err(format!("{BIN}/{SUMS} names the link {name}")),
            Some(_) => return Err(format!("{BIN}/{name} is not what {BIN}/{SUMS} says")),
            None => return Err(format!("{BIN}/{name} of {BIN}/{SUMS} is missing")),
        }
    }
    let links: BTreeMap<_, _> = list(LINKS)?.into_iter().collect();
    for (name, target) in links {
        match entry(&name) {
            Some(Entry::Link(actual)) if *actual == target => {}
            _ => {
                return Err(format!(
                    "{BIN}/{name} is not the link that {BIN}/{LINKS} says"
                ));
            }
        }
    }
    match unpacked.entries.get(MAIN) {
        Some(Entry::File {
            executable: true, ..
        }) => Ok(()),
        _ => Err(format!("{MAIN} is no program")),
    }
}

/// Lines of two words.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect()
}
