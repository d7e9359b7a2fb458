//! `builder haul` as a person types it.

// the helpers of tests may fail as tests do
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{fixtures, fixtures_named};
use image_layout::catalog::Catalog;

const BUILDER: &str = env!("CARGO_BIN_EXE_builder");

fn builder(arguments: &[&str]) -> Output {
    Command::new(BUILDER).args(arguments).output().unwrap()
}

fn fixture(case: &str) -> String {
    let path = fixtures().join(format!("{case}.tar.zst"));
    path.to_str().unwrap().to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn info_shows_everything_that_is_in_and_which_hauler_wrote_it() {
    let output = builder(&["haul", "info", &fixture("hauler-1.2.5-mixed-v1")]);
    assert_eq!(output.status.code(), Some(0));
    let shown = text(&output.stdout);
    for words in [
        "(Hauler 1)",
        "docker.io/library/hello:1",
        "linux/amd64 linux/arm64",
        "127.0.0.1:5055/ported/app:1",
        "hauler/shop:1.2.3-build4",
        "shop-1.2.3+build4.tgz",
        "get-lab.sh",
        "every digest checked",
    ] {
        assert!(shown.contains(words), "{words:?} is not in:\n{shown}");
    }
}

#[test]
fn info_json_is_the_catalog_and_nothing_else_on_standard_output() {
    let output = builder(&["haul", "info", "--json", &fixture("hauler-2.0.3-signed")]);
    let catalog: Catalog = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(catalog.artifacts.len(), 6);
}

#[test]
fn extract_makes_a_directory_that_info_takes() {
    let directory = tempfile::tempdir().unwrap();
    let made = directory.path().join("layout");
    let made = made.to_str().unwrap();
    let output = builder(&["haul", "extract", &fixture("hauler-2.0.3-mixed-v1"), made]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(&format!("agent serve {made}")));
    let from_directory = builder(&["haul", "info", "--json", made]);
    let from_file = builder(&["haul", "info", "--json", &fixture("hauler-2.0.3-mixed-v1")]);
    assert_eq!(text(&from_directory.stdout), text(&from_file.stdout));
}

#[test]
fn a_bad_haul_is_one_error_with_a_remedy_and_exit_code_1() {
    for (path, _) in fixtures_named("bad-") {
        let directory = tempfile::tempdir().unwrap();
        let made = directory.path().join("layout");
        let haul = path.to_str().unwrap();
        for arguments in [
            &["haul", "info", haul][..],
            &["haul", "extract", haul, made.to_str().unwrap()],
        ] {
            let output = builder(arguments);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            assert!(output.stdout.is_empty(), "{arguments:?}");
            let said = text(&output.stderr);
            assert_eq!(said.matches("error: ").count(), 1, "{said}");
            assert_eq!(said.matches("\n  help: ").count(), 1, "{said}");
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_haul_of_nothing_is_said_to_be_one() {
    let dir = tempfile::tempdir().unwrap();
    for index in ["{}", r#"{"schemaVersion":2,"manifests":[]}"#] {
        std::fs::write(dir.path().join("index.json"), index).unwrap();
        let output = builder(&["haul", "info", dir.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0));
        let shown = text(&output.stdout);
        assert!(shown.contains("no image, chart or file"), "{shown}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [
        &["haul"][..],
        &["haul", "info"],
        &["haul", "extract", "only-one"],
    ] {
        assert_eq!(builder(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

/// Runs a script in a mount namespace of its own, with the builder as `$1` and a haul as `$2`.
fn in_own_mounts(script: &str, haul: &Path) -> Output {
    Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-ec",
            script,
            "sh",
            BUILDER,
        ])
        .arg(haul)
        .output()
        .expect("this test needs unshare: apt-get install util-linux")
}

#[test]
fn a_full_disk_is_said_to_be_full_and_left_empty() {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().to_str().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=128k tmpfs {disk}
         code=0; \"$1\" haul extract \"$2\" {disk}/layout || code=$?
         echo \"exit code $code\"; ls -A {disk}"
    );
    let output = in_own_mounts(&script, &fixtures().join("hauler-2.0.3-mixed-v1.tar.zst"));
    let said = text(&output.stderr);
    assert_eq!(
        text(&output.stdout),
        "exit code 1\n",
        "a user namespace and a tmpfs in it are needed: {said}"
    );
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.contains("help: free some space"), "{said}");
}

#[test]
fn an_interrupted_extract_or_info_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let haul = directory.path().join("haul.tar");
    // nobody writes into it, so the builder waits there
    assert!(
        Command::new("mkfifo")
            .arg(&haul)
            .status()
            .unwrap()
            .success()
    );
    let work = directory.path().join("work");
    std::fs::create_dir(&work).unwrap();
    let left = || std::fs::read_dir(&work).unwrap().count();
    let made = work.join("made");
    for arguments in [
        &[
            "haul".as_ref(),
            "extract".as_ref(),
            haul.as_path(),
            made.as_path(),
        ][..],
        &["haul".as_ref(), "info".as_ref(), haul.as_path()],
    ] {
        let mut child = Command::new(BUILDER)
            .args(arguments)
            .env("TMPDIR", &work)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let within = Instant::now() + Duration::from_secs(30);
        while left() == 0 {
            assert!(Instant::now() < within, "{arguments:?}: nothing was made");
            std::thread::sleep(Duration::from_millis(5));
        }
        let pid = child.id().to_string();
        let kill = Command::new("kill").arg(&pid).status().unwrap();
        assert!(kill.success());
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < within, "{arguments:?}: it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(143), "{arguments:?}");
        assert_eq!(left(), 0, "{arguments:?}");
    }
}

#[test]
fn junk_after_the_archive_is_not_blamed_on_its_last_entry() {
    let directory = tempfile::tempdir().unwrap();
    let haul = directory.path().join("trail.tar.zst");
    let mut bytes = std::fs::read(fixture("hauler-2.0.3-mixed-v1")).unwrap();
    bytes.extend_from_slice(b"junk that is no frame");
    std::fs::write(&haul, bytes).unwrap();
    let output = builder(&["haul", "info", haul.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("damaged") && !said.contains("entry"),
        "{said}"
    );
}
