//! Where the repository is, and where a test leaves what a person needs when it fails.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// Makes the empty directory `target/test-results/NAME/` for one test.
///
/// # Errors
/// When it can't be made.
pub fn directory(name: &str) -> io::Result<PathBuf> {
    let directory = target().join("test-results").join(slug(name));
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// A sentence as a file name: lower-case letters, digits and dashes, at most 80 characters.
pub fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(80);
    slug.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_becomes_a_file_name() {
        assert_eq!(
            slug("A stick's boot, by UEFI (x86_64)"),
            "a-stick-s-boot-by-uefi-x86-64"
        );
        assert!(slug(&"long ".repeat(100)).len() <= 80);
    }
}
