//! `docs/registry.md` names the tests of each rule, and each rule has one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Rules by the page's headings: what stands in the first column of their tables.
const RULES: &[(&str, &[&str])] = &[
    (
        "Endpoints",
        &[
            "end-1", "end-2", "end-3", "end-4", "end-5", "end-6", "end-7", "end-8a", "end-8b",
            "end-9", "end-10", "end-11", "end-12a", "end-12b", "end-13", "end-14",
        ],
    ),
    (
        "Grammar, referrers and errors",
        &[
            "names",
            "tags",
            "digests",
            "paths",
            "entries",
            "fallback",
            "namespace",
            "errors",
        ],
    ),
    (
        "What clients count on",
        &[
            "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
        ],
    ),
    (
        "What clients and hauls can't do",
        &["1", "2", "3", "4", "5", "6", "7", "8"],
    ),
    (
        "What Hauler does otherwise",
        &[
            "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12",
        ],
    ),
];

fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    fs::read_to_string(root().join("docs/registry.md")).unwrap()
}

/// All code that may have tests of the registry's rules.
fn code() -> String {
    let mut code = String::new();
    for folder in [
        "agent/src",
        "agent/tests",
        "builder/tests",
        "image-layout/src",
        "tests/tests",
    ] {
        sources(&root().join(folder), &mut code);
    }
    code
}

/// Whether there is a test of a name, which runs.
fn is_test(code: &str, name: &str) -> bool {
    let Some(at) = code.find(&format!("fn {name}(")) else {
        return false;
    };
    // its attributes: what stands between it and whatever is before it
    let before = code[..at].trim_end();
    let before = before.strip_suffix("async").unwrap_or(before);
    let from = before.rfind(['}', ';', '{']).map_or(0, |at| at + 1);
    let attributes = &before[from..];
    (attributes.contains("#[test]") || attributes.contains("#[tokio::test"))
        && !attributes.contains("#[ignore")
}

/// Names of tests: what is quoted and has the form of a function's name of several words.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(move |name| name.chars().all(word) && name.matches('_').count() >= 2)
}

/// Tests of each rule, by heading and the rule's own name.
fn rules(page: &str) -> BTreeMap<(&str, &str), Vec<&str>> {
    let mut rules: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut heading = "";
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("## ") {
            heading = text;
        }
        let Some((names, row)) = line.strip_prefix('|').and_then(|row| row.split_once('|')) else {
            continue;
        };
        // a table's head, and the line below it
        let below = lines.peek().is_some_and(|line| line.starts_with("|---"));
        if below || names.starts_with("---") {
            continue;
        }
        for name in names.trim().split(", ") {
            rules.entry((heading, name)).or_default().extend(tests(row));
        }
    }
    rules
}

#[test]
fn every_test_that_the_documentation_names_is_there() {
    let (page, code) = (page(), code());
    let named: Vec<_> = tests(&page).collect();
    assert!(named.len() > 100, "{}", named.len());
    for name in named {
        assert!(is_test(&code, name), "{name}");
    }
}

#[test]
fn every_rule_has_a_test_that_is_there() {
    let (page, code) = (page(), code());
    let rules = rules(&page);
    for (heading, names) in RULES {
        for name in *names {
            let tests = rules.get(&(*heading, *name));
            let tests = tests.unwrap_or_else(|| panic!("{heading}: {name} has no row"));
            let there = tests.iter().any(|test| is_test(&code, test));
            assert!(there, "{heading}: {name} has no test");
        }
    }
    // also what the page promises beyond them
    for ((heading, name), tests) in &rules {
        // values, for people; what holds them is under the third rule of what can't be done
        if *heading == "Limits" {
            continue;
        }
        assert!(!tests.is_empty(), "{heading}: {name} names no test");
    }
}

/// A blank line within a table makes the rest of it text.
#[test]
fn every_row_of_the_documentation_is_in_a_table() {
    let page = page();
    let lines: Vec<&str> = page.lines().collect();
    for (nth, line) in lines.iter().enumerate() {
        let begins = line.starts_with('|') && !lines[nth - 1].starts_with('|');
        assert!(!begins || lines[nth + 1].starts_with("|---"), "{line}");
    }
}
