//! Module lists: which modules of a kernel go where, as data.
//!
//! One selector a line; `#` begins a comment:
//!
//! - `NAME`: a module's name; `*` and `?` stand for any characters.
//! - `kernel/...`: a path without `.ko.xz`; `*` stays within a directory, `**` does not.
//! - `alias:PATTERN`: every module one of whose aliases matches.
//! - `!` before a selector takes out what lines before it selected. A module that another one
//!   needs stays.
//!
//! Marks in brackets may follow: `[x86_64]` or `[arm64]` limit the line to one architecture,
//! `[optional]` says that it may select nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use image_layout::Arch;

use super::modules::{KernelModules, module_name, underscores, without_suffix};

/// A list, read.
#[derive(Debug)]
pub struct ModuleList {
    source: PathBuf,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    number: usize,
    text: String,
    selector: Selector,
    exclude: bool,
    arch: Option<Arch>,
    optional: bool,
}

#[derive(Debug)]
enum Selector {
    Name(Pattern),
    Path(Pattern),
    Alias(Pattern),
}

/// What a list selects of one kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Paths of modules, without their dependencies.
    pub paths: BTreeSet<String>,
    /// Lines that select nothing, as messages.
    pub warnings: Vec<String>,
}

/// A line that can't be understood.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {why}", .source_file.display())]
pub struct ListError {
    /// The list.
    pub source_file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

/// `*` and `**` as in a shell with globstar.
const PATHS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

impl ModuleList {
    /// Reads the text of a list; `source` names it in messages.
    pub fn parse(source: &Path, text: &str) -> Result<ModuleList, ListError> {
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let content = line.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            lines.push(Line::parse(index + 1, content).map_err(|why| ListError {
                source_file: source.to_owned(),
                line: index + 1,
                why,
            })?);
        }
        Ok(ModuleList {
            source: source.to_owned(),
            lines,
        })
    }

    /// Applies the list to a kernel of `arch`, line after line.
    pub fn select(&self, kernel: &KernelModules, arch: Arch) -> Selection {
        let mut selection = Selection::default();
        for line in &self.lines {
            if line.arch.is_some_and(|only| only != arch) {
                continue;
            }
            let found: BTreeSet<String> =
                line.selector.matches(kernel).map(str::to_owned).collect();
            if found.is_empty() && !line.optional && !line.selector.is_builtin(kernel) {
                selection.warnings.push(format!(
                    "{}:{}: the kernel for {arch} has nothing like {:?}",
                    self.source.display(),
                    line.number,
                    line.text
                ));
            }
            if line.exclude {
                selection.paths.retain(|path| !found.contains(path));
            } else {
                selection.paths.extend(found);
            }
        }
        selection
    }
}

impl Line {
    fn parse(number: usize, content: &str) -> Result<Line, String> {
        let mut words = content.split_ascii_whitespace();
        let text = words.next().unwrap_or_default();
        let mut line = Line {
            number,
            text: text.to_owned(),
            selector: Selector::parse(text.strip_prefix('!').unwrap_or(text))?,
            exclude: text.starts_with('!'),
            arch: None,
            optional: false,
        };
        for mark in words {
            match mark
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            {
                Some("optional") => line.optional = true,
                Some(name) if line.arch.is_none() => {
                    line.arch = Some(name.parse().map_err(|error| format!("[{name}]: {error}"))?);
                }
                _ => {
                    return Err(format!(
                        "{mark:?} after the selector; expected [x86_64], [arm64] or [optional]"
                    ));
                }
            }
        }
        Ok(line)
    }
}

impl Selector {
    fn parse(text: &str) -> Result<Selector, String> {
        let pattern = |text: &str| Pattern::new(text).map_err(|error| format!("{text:?}: {error}"));
        if text.is_empty() {
            Err("nothing is selected".to_owned())
        } else if let Some(alias) = text.strip_prefix("alias:") {
            Ok(Selector::Alias(pattern(&underscores(alias))?))
        } else if text.contains('/') {
            if !text.starts_with("kernel/") {
                return Err(format!("{text:?}: paths begin with kernel/"));
            }
            Ok(Selector::Path(pattern(without_suffix(text))?))
        } else {
            Ok(Selector::Name(pattern(&underscores(text))?))
        }
    }

    fn matches<'a>(&'a self, kernel: &'a KernelModules) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match self {
            Selector::Alias(pattern) => Box::new(
                kernel
                    .aliases()
                    .filter(|(alias, _)| pattern.matches(alias))
                    .map(|(_, path)| path),
            ),
            _ => Box::new(kernel.paths().filter(|path| self.matches_path(path))),
        }
    }

    fn is_builtin(&self, kernel: &KernelModules) -> bool {
        kernel.builtin().any(|path| self.matches_path(path))
    }

    fn matches_path(&self, path: &str) -> bool {
        match self {
            Selector::Name(pattern) => pattern.matches(&module_name(path)),
            Selector::Path(pattern) => pattern.matches_with(without_suffix(path), PATHS),
            Selector::Alias(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::modules::tests::tables;
    use super::*;

    fn select(text: &str, arch: Arch) -> (Vec<String>, Vec<String>) {
        let list = ModuleList::parse(Path::new("x.list"), text).unwrap();
        let selection = list.select(&KernelModules::parse(&tables()), arch);
        let names = selection
            .paths
            .iter()
            .map(|path| module_name(path))
            .collect();
        (names, selection.warnings)
    }

    #[test]
    fn names_paths_and_aliases_select() {
        for (line, names) in [
            ("usb-storage", vec!["usb_storage"]),
            ("usb_storage # with a comment", vec!["usb_storage"]),
            ("crc32c*", vec!["crc32c_intel", "crc32c_generic"]),
            ("kernel/drivers/net/phy/*", vec!["libphy", "realtek"]),
            ("kernel/drivers/net/*", vec![]),
            (
                "kernel/drivers/net/**",
                vec!["r8169", "libphy", "realtek", "wifi"],
            ),
            ("kernel/fs/mbcache.ko.xz", vec!["mbcache"]),
            ("alias:pci:v000010EC*", vec!["r8169"]),
        ] {
            assert_eq!(select(line, Arch::X86_64).0, names, "{line}");
        }
    }

    #[test]
    fn an_exclusion_takes_out_what_lines_before_it_selected() {
        let text = "kernel/drivers/net/**\n!kernel/drivers/net/wireless/**\n";
        assert_eq!(select(text, Arch::X86_64).0, ["r8169", "libphy", "realtek"]);
    }

    #[test]
    fn a_mark_limits_a_line_to_one_architecture() {
        let text = "crc32c-intel [x86_64]\n";
        assert_eq!(select(text, Arch::X86_64).0, ["crc32c_intel"]);
        assert_eq!(select(text, Arch::Arm64), (vec![], vec![]));
    }

    #[test]
    fn what_the_kernel_lacks_is_a_warning_unless_optional_or_built_in() {
        let (names, warnings) = select("\nghost\nghost2 [optional]\nvirtio_pci\n", Arch::Arm64);
        assert!(names.is_empty());
        assert_eq!(
            warnings,
            ["x.list:2: the kernel for arm64 has nothing like \"ghost\""]
        );
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named_by_its_number() {
        for text in [
            "\nfoo [riscv64]",
            "\nfoo bar",
            "\ndrivers/net/foo",
            "\nfoo[",
            "\n!",
        ] {
            let error = ModuleList::parse(Path::new("x.list"), text).unwrap_err();
            assert!(error.to_string().starts_with("x.list:2: "), "{error}");
        }
    }
}
