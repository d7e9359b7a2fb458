//! Tests of reading manifests.

use std::os::unix::fs::symlink;

use super::*;

const GOOD: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::create_dir(place.0.path().join("fleet")).unwrap();
        place
    }

    fn write(&self, name: &str, contents: &str) -> &Place {
        let path = self.0.path().join("fleet").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
        self
    }

    fn collect(&self, names: &[&str]) -> Result<Manifests, ManifestError> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        collect(&self.0.path().join("fleet/cluster.yaml"), &names)
    }

    fn refused(&self, name: &str) -> String {
        let error = self.collect(&[name]).unwrap_err();
        assert!(!error.help().is_empty());
        error.to_string()
    }
}

#[test]
fn files_and_directories_keep_the_path_that_cluster_yaml_gives_them() {
    let place = Place::new();
    place
        .write("one.yaml", &format!("# first\n---\n{GOOD}---\n{GOOD}"))
        .write("apps/web/two.yml", GOOD)
        .write(
            "apps/three.json",
            "{\"apiVersion\": \"v1\",\n\t\"kind\": \"List\"}",
        )
        .write("apps/README.md", "text")
        .write("apps/.two.yml.swp", "text");
    let link = place.0.path().join("fleet/apps/four.yaml");
    symlink("../one.yaml", &link).unwrap();
    let found = place.collect(&["./one.yaml", "apps/", "apps/web"]).unwrap();
    let names: Vec<_> = found.files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "apps/four.yaml",
            "apps/three.json",
            "apps/web/two.yml",
            "one.yaml"
        ]
    );
    assert_eq!(found.files["apps/web/two.yml"], GOOD.as_bytes());
    assert_eq!(found.warnings.len(), 1);
    assert!(found.warnings[0].contains("README.md is left out"));
}

#[test]
fn what_k3s_would_not_apply_is_refused_with_its_place() {
    let place = Place::new();
    for (name, contents, part) in [
        ("a.yaml", "kind: [\n", "a.yaml:2:1: "),
        (
            "b.yaml",
            "kind: List\nkind: List\n",
            "b.yaml:1:1: duplicate",
        ),
        ("c.json", "{\n\"kind\": }", "c.json:2:9: expected value"),
        (
            "d.yaml",
            &format!("{GOOD}---\nkind: List\n"),
            "document 2 has no apiVersion",
        ),
        ("e.yaml", "# nothing\n", "no content"),
        ("f.txt", GOOD, "applies .yaml"),
        ("G.yaml", GOOD, "lower-case letters"),
        (".yaml", GOOD, "no manifest"),
    ] {
        place.write(name, contents);
        let said = place.refused(name);
        assert!(said.contains(part), "{name}: {said}");
    }
    place.write("large.yaml", &format!("{GOOD}# {}\n", "x".repeat(4 << 20)));
    assert!(place.refused("large.yaml").contains("larger than 4 MiB"));
    assert!(place.refused("none.yaml").contains("is not there"));
    assert!(place.refused(".").contains("cluster.yaml itself"));
}

#[test]
fn nothing_outside_the_directory_is_taken_and_no_fifo_waited_for() {
    let place = Place::new();
    fs::write(place.0.path().join("secret.yaml"), GOOD).unwrap();
    let fleet = place.0.path().join("fleet");
    symlink("../secret.yaml", fleet.join("link.yaml")).unwrap();
    symlink("..", fleet.join("up")).unwrap();
    symlink("nowhere.yaml", fleet.join("dangling.yaml")).unwrap();
    assert!(place.refused("link.yaml").contains("leads out"));
    assert!(place.refused("up").contains("leads out"));
    assert!(place.refused("dangling.yaml").contains("is not there"));
    let made = std::process::Command::new("mkfifo")
        .arg(fleet.join("fifo.yaml"))
        .status();
    assert!(made.unwrap().success());
    assert!(place.refused("fifo.yaml").contains("neither a file"));
}

#[test]
fn a_directory_that_contains_itself_comes_to_an_end() {
    let place = Place::new();
    place.write("apps/one.yaml", GOOD);
    symlink(".", place.0.path().join("fleet/apps/self")).unwrap();
    let said = place.refused("apps");
    assert!(
        said.contains("too deep") || said.contains("one name"),
        "{said}"
    );
}

#[test]
fn two_files_that_k3s_would_take_for_one_are_refused() {
    let place = Place::new();
    place
        .write("a/web.yaml", GOOD)
        .write("b/web.prod.yaml", GOOD);
    let error = place.collect(&["a", "b"]).unwrap_err().to_string();
    assert!(error.contains("one name for k3s, \"web\""), "{error}");
}

#[test]
fn a_byte_order_mark_is_left_out() {
    let place = Place::new();
    let json = "{\"apiVersion\": \"v1\", \"kind\": \"List\"}";
    place
        .write("a.yaml", &format!("\u{feff}{GOOD}"))
        .write("b.json", &format!("\u{feff}{json}"));
    let found = place.collect(&["a.yaml", "b.json"]).unwrap();
    assert_eq!(found.files["a.yaml"], GOOD.as_bytes());
    assert_eq!(found.files["b.json"], json.as_bytes());
}

#[test]
fn haulboots_own_configuration_is_no_manifest() {
    let place = Place::new();
    place.write(
        "apps/cluster.yaml",
        &format!("{GOOD}---\napiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\n"),
    );
    let said = place.refused("apps");
    assert!(
        said.ends_with("cluster.yaml is no manifest: it is Haulboot's own configuration"),
        "{said}"
    );
}

#[test]
fn a_directory_that_gives_no_manifest_is_warned_of() {
    let place = Place::new();
    place
        .write("none/.hidden.yaml", GOOD)
        .write("some/a.yaml", GOOD);
    let found = place.collect(&["some", "none", "some/a.yaml"]).unwrap();
    assert_eq!(found.files.len(), 1);
    assert_eq!(found.warnings.len(), 1, "{:?}", found.warnings);
    assert!(found.warnings[0].ends_with("fleet/none has no manifest"));
}
