//! `docs/registry.md` names the tests of each rule.

use std::fs;
use std::path::Path;

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

#[test]
fn every_test_that_the_documentation_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/registry.md")).unwrap();
    let mut code = String::new();
    for folder in ["agent/src", "agent/tests", "builder/tests", "tests/tests"] {
        sources(&root.join(folder), &mut code);
    }
    let named: Vec<_> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.matches('_').count() >= 3 && !name.contains(['/', ' ', '.']))
        .collect();
    assert!(named.len() > 60, "{}", named.len());
    for name in named {
        assert!(code.contains(&format!("fn {name}(")), "{name}");
    }
}
