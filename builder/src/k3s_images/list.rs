//! Reading a list of images (k3s: scripts/airgap/image-list.txt).

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use image_layout::reference::{InvalidReference, Reference};
use image_layout::text::printable;

/// The list's name in a release of k3s.
pub const FILE: &str = "k3s-images.txt";
/// Bytes of a list; k3s's has 500.
const BYTES: u64 = 1 << 20;

/// Why a list can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file can't be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is larger than any list.
    #[error("{0} is no list of images: it has more than 1 MiB")]
    TooLarge(String),
    /// A line is no name of an image.
    #[error("{list}, line {line}: {source}")]
    Line {
        /// What the list is called.
        list: String,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        source: InvalidReference,
    },
}

/// Reads a list from a file; none if there is no such file.
///
/// # Errors
/// If it is there and can't be read, or a line of it is no name of an image.
pub fn read(path: &Path) -> Result<Option<Vec<Reference>>, ListError> {
    let failed = |source| ListError::Read {
        path: path.to_owned(),
        source,
    };
    // before it is opened: opening a FIFO waits for somebody who writes into it
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => {
            let no_file = io::Error::new(io::ErrorKind::InvalidInput, "it is no file");
            return Err(failed(no_file));
        }
    }
    let mut text = Vec::new();
    File::open(path)
        // one byte more than allowed, so that a larger file is noticed and not cut off
        .and_then(|file| file.take(BYTES + 1).read_to_end(&mut text))
        .map_err(failed)?;
    parse(&path.display().to_string(), &text).map(Some)
}

/// Reads a list, one image a line; empty lines and comments are passed over. What names neither
/// tag nor digest is `latest`. `list` is what the list is called in an error.
///
/// # Errors
/// If a line is no name of an image, or the list is too large.
pub fn parse(list: &str, text: &[u8]) -> Result<Vec<Reference>, ListError> {
    if text.len() as u64 > BYTES {
        return Err(ListError::TooLarge(printable(list)));
    }
    let text = String::from_utf8_lossy(text);
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    lines
        .map(|(number, line)| (number + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, name)| {
            complete(name).map_err(|source| ListError::Line {
                list: printable(list),
                line,
                source,
            })
        })
        .collect()
}

/// A name as a kubelet completes it.
pub(super) fn complete(name: &str) -> Result<Reference, InvalidReference> {
    let mut reference: Reference = name.parse()?;
    if reference.tag.is_none() && reference.digest.is_none() {
        reference.tag = Some("latest".parse()?);
    }
    Ok(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_and_what_is_no_name_is_told_with_its_line() {
        let text = b"\xef\xbb\xbf# k3s\r\ndocker.io/rancher/klipper-lb:v0.4.17\r\n\n  rancher/a\n";
        let names: Vec<String> = parse("list", text)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            names,
            [
                "docker.io/rancher/klipper-lb:v0.4.17",
                "docker.io/rancher/a:latest"
            ]
        );
        for (text, line) in [
            (&b"a\n<!doctype html>\n"[..], 2),
            (b"\xff\xfe", 1),
            (b"A/b:c d", 1),
        ] {
            match parse("list", text) {
                Err(ListError::Line { line: said, .. }) => assert_eq!(said, line),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_list_that_is_not_there_is_none_and_one_that_is_too_large_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        assert!(read(&path).unwrap().is_none());
        fs::write(&path, vec![b'\n'; (1 << 20) + 1]).unwrap();
        assert!(matches!(read(&path), Err(ListError::TooLarge(_))));
        assert!(matches!(
            read(directory.path()),
            Err(ListError::Read { .. })
        ));
    }
}
