//! The documentation says what is there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tests::results::repository;

/// README and everything below docs/.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![repository().join("README.md")];
    let mut folders = vec![repository().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

/// Targets of `[text](target)` outside of code blocks.
fn links(text: &str) -> Vec<String> {
    let mut code = false;
    let mut links = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            code = !code;
        }
        if code || line.starts_with("    ") {
            continue;
        }
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, more)) = after.split_once(')') else {
                break;
            };
            links.push(target.to_owned());
            rest = more;
        }
    }
    links
}

/// The name by which a heading is linked to: GitHub's rule.
fn anchors(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|heading| {
            heading
                .trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn every_link_leads_to_a_page_and_a_heading() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap_or(Path::new("/")).join(file),
            };
            let known = match fs::read_to_string(&target) {
                Ok(text) => anchor.is_empty() || anchors(&text).contains(anchor),
                Err(_) => anchor.is_empty() && target.is_dir(),
            };
            if !known {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_page_is_one_click_from_the_readme() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let linked: BTreeSet<PathBuf> = links(&readme)
        .iter()
        .map(|link| repository().join(link))
        .collect();
    let decisions = repository().join("docs/decisions");
    let hidden: Vec<PathBuf> = pages()
        .into_iter()
        .filter(|page| !page.ends_with("README.md") && page.parent() != Some(&decisions))
        .filter(|page| !linked.contains(page))
        .collect();
    assert!(hidden.is_empty(), "{hidden:#?}");
}

#[test]
fn every_decision_is_in_their_list() {
    let list = fs::read_to_string(repository().join("docs/decisions/README.md")).unwrap();
    let linked: BTreeSet<String> = links(&list).into_iter().collect();
    for page in pages() {
        if page
            .parent()
            .is_some_and(|folder| folder.ends_with("decisions"))
        {
            let name = page.file_name().unwrap().to_string_lossy().into_owned();
            assert!(name == "README.md" || linked.contains(&name), "{name}");
        }
    }
}

#[test]
fn every_goal_of_make_that_the_readme_names_exists() {
    let makefile = fs::read_to_string(repository().join("Makefile")).unwrap();
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let mut named: BTreeSet<&str> = readme
        .lines()
        .filter_map(|line| line.trim().strip_prefix("make "))
        .filter_map(|rest| rest.split_whitespace().next())
        .filter(|goal| goal.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
        .collect();
    named.extend(["image", "dist", "lint", "test-all", "setup", "help"]);
    assert!(
        named.contains("demo") && named.contains("test"),
        "{named:?}"
    );
    for goal in named {
        assert!(
            makefile
                .lines()
                .any(|line| line.starts_with(&format!("{goal}:"))),
            "make {goal}"
        );
    }
}
