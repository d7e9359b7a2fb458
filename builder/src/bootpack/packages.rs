//! `packages.tsv`: what `firmware/fetch.sh` fetched.

use std::path::{Path, PathBuf};
use std::{fs, io};

use image_layout::digest::Digest;

use super::manifest::{Package, path};

/// The first line; it changes with the columns.
const HEADER: &str = "#name\tversion\tarchitecture\tsource\tsize\tsha256\tnewest";

/// The list of packages can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackagesError {
    /// No file, or not readable.
    #[error("reading the list of fetched packages {}", .path.display())]
    Read {
        /// The list.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not as `fetch.sh` of this version writes it.
    #[error("{}:{line}: not a line of packages as fetch.sh writes it", .path.display())]
    Malformed {
        /// The list.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
}

/// The packages, and the newest modification time of a file inside them, in seconds since 1970.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) packages: Vec<Package>,
    pub(crate) newest: u64,
}

impl Fetched {
    /// Reads `packages.tsv` in `directory`.
    pub(crate) fn read(directory: &Path) -> Result<Fetched, PackagesError> {
        let path = directory.join("packages.tsv");
        let text = fs::read_to_string(&path).map_err(|source| PackagesError::Read {
            path: path.clone(),
            source,
        })?;
        Fetched::parse(&text).map_err(|line| PackagesError::Malformed { path, line })
    }

    /// Fails with the number of the line.
    fn parse(text: &str) -> Result<Fetched, usize> {
        let mut lines = text.lines().enumerate();
        if lines.next().map(|(_, header)| header) != Some(HEADER) {
            return Err(1);
        }
        let mut fetched = Fetched {
            packages: Vec::new(),
            newest: 0,
        };
        for (index, line) in lines {
            let (package, newest) = parse_line(line).ok_or(index + 1)?;
            fetched.packages.push(package);
            fetched.newest = fetched.newest.max(newest);
        }
        if fetched.packages.is_empty() {
            Err(2)
        } else {
            Ok(fetched)
        }
    }
}

fn parse_line(line: &str) -> Option<(Package, u64)> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [name, version, architecture, source, size, sha256, newest] = fields.as_slice() else {
        return None;
    };
    let package = Package {
        name: (*name).to_owned(),
        version: (*version).to_owned(),
        architecture: (*architecture).to_owned(),
        source: (*source).to_owned(),
        size: size.parse().ok()?,
        sha256: Digest::from_parts("sha256", sha256)?,
        licence: path::licence(name),
    };
    Some((package, newest.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_with_the_newest_time_of_all() {
        let hash = "ab".repeat(32);
        let text = format!(
            "{HEADER}\nlinux\t6.12-1\tamd64\tlinux (6)\t10\t{hash}\t300\nboot\t1\tall\tboot\t5\t{hash}\t200\n"
        );
        let fetched = Fetched::parse(&text).unwrap();
        assert_eq!(fetched.newest, 300);
        assert_eq!(fetched.packages.len(), 2);
        assert_eq!(fetched.packages[0].source, "linux (6)");
        assert_eq!(fetched.packages[1].licence, "licences/boot/copyright");
    }

    #[test]
    fn a_list_of_other_columns_is_refused_by_line() {
        assert_eq!(Fetched::parse(""), Err(1));
        assert_eq!(Fetched::parse("#name\tversion\n"), Err(1));
        assert_eq!(Fetched::parse(&format!("{HEADER}\n")), Err(2));
        assert_eq!(Fetched::parse(&format!("{HEADER}\na\tb\n")), Err(2));
    }
}
