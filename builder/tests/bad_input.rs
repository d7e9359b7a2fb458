//! What can't become an image: one error with the thing, the place and the remedy, exit code 1
//! (2 for wrong usage), and nothing left behind.

#![allow(clippy::unwrap_used, clippy::panic)]

mod workshop;

use std::fs;
use std::process::Command;

use workshop::{Workshop, elf, ended_by, fixture};

const HAUL: &str = "hauler-1.2.5-mixed-v1.tar.zst";

/// Runs the builder with a good haul and `arguments`; it must fail, say `reasons` and a remedy,
/// and leave nothing but `before`.
fn refused(workshop: &Workshop, arguments: &[&str], code: i32, reasons: &[&str]) {
    let before = workshop.left();
    let haul = fixture(HAUL);
    let mut all = vec!["--haul", &haul, "--arch", "x86_64"];
    all.extend(arguments);
    let said = workshop.run(&all);
    check(&said, code, reasons);
    assert_eq!(workshop.left(), before);
}

fn check(said: &workshop::Said, code: i32, reasons: &[&str]) {
    assert_eq!(said.code, Some(code), "{}", said.stderr);
    let errors: Vec<_> = said
        .stderr
        .lines()
        .filter(|l| l.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{}", said.stderr);
    for reason in reasons {
        assert!(said.stderr.contains(reason), "{reason}: {}", said.stderr);
    }
    assert!(said.stderr.contains("\n  help: "), "{}", said.stderr);
}

#[test]
fn a_bad_haul_leaves_no_image_and_keeps_the_old_one() {
    for (name, reason) in [
        ("bad-truncated-archive", ""),
        ("bad-truncated-tail", ""),
        ("bad-layer-bitflip", "sha256"),
        ("bad-manifest-bitflip", "sha256"),
        ("bad-layer-missing", "sha256"),
        ("bad-no-index", "index.json"),
    ] {
        let workshop = Workshop::new();
        workshop.write("old.img", b"the old image");
        let haul = fixture(&format!("{name}.tar.zst"));
        let said = workshop.run(&["--haul", &haul, "--arch", "x86_64", "-o", "old.img"]);
        check(&said, 1, &[name, reason]);
        assert_eq!(workshop.left(), ["old.img"]);
        assert_eq!(
            fs::read(workshop.path("old.img")).unwrap(),
            b"the old image"
        );
    }
}

#[test]
fn k3s_that_is_no_program_or_for_another_processor_is_refused() {
    let workshop = Workshop::new();
    workshop.write("script", b"#!/bin/sh\n");
    workshop.write("riscv", &elf(243, b""));
    workshop.write("arm", &elf(183, b""));
    workshop.write("one", &elf(62, b""));
    workshop.write("two", &elf(62, b"2"));
    refused(
        &workshop,
        &["--k3s", "script"],
        1,
        &["script is no k3s binary", "a script"],
    );
    refused(
        &workshop,
        &["--k3s", "riscv"],
        1,
        &["riscv is for another processor", "243"],
    );
    refused(
        &workshop,
        &["--k3s", "arm"],
        1,
        &["arm is k3s for arm64", "--arch arm64"],
    );
    refused(
        &workshop,
        &["--k3s", "one", "--k3s", "two"],
        1,
        &["one and two", "x86_64"],
    );
    refused(&workshop, &["--k3s", "none"], 1, &["none"]);
}

#[test]
fn a_wrong_cluster_yaml_is_named_with_its_place() {
    let workshop = Workshop::new();
    let head = "apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\n";
    let node = |name: &str, mac: u8, address: &str| {
        format!(
            "  - {{name: {name}, match: {{mac: \"52:54:00:00:00:{mac:02}\"}}, role: agent, \
             address: {address}/24}}\n"
        )
    };
    for (yaml, reasons) in [
        (
            format!("{head}registri: {{}}\n"),
            &["cluster.yaml:4:1:", "registri"][..],
        ),
        (
            format!(
                "{head}nodes:\n{}{}",
                node("a", 1, "10.0.0.2"),
                node("b", 2, "10.0.0.2")
            ),
            &[
                "cluster.yaml:6:",
                "nodes[1].address",
                "10.0.0.2 is given to nodes[0] already",
            ],
        ),
        (
            format!(
                "{head}nodes:\n{}{}",
                node("a", 1, "10.0.0.2"),
                node("a", 2, "10.0.0.3")
            ),
            &["cluster.yaml:6:", "nodes[1].name"],
        ),
        ("# nothing\n".to_owned(), &["cluster.yaml: ", "no content"]),
    ] {
        workshop.write("cluster.yaml", yaml.as_bytes());
        refused(&workshop, &["--config", "cluster.yaml"], 1, reasons);
    }
    refused(
        &workshop,
        &["--config", "nowhere.yaml"],
        1,
        &["nowhere.yaml"],
    );
}

#[test]
fn places_that_can_take_no_image_are_refused() {
    let workshop = Workshop::new();
    fs::create_dir(workshop.path("directory")).unwrap();
    refused(
        &workshop,
        &["-o", "directory"],
        1,
        &["directory", "is a directory"],
    );
    refused(
        &workshop,
        &["-o", "none/image"],
        1,
        &["none/image", "no such directory"],
    );
    refused(&workshop, &["--append", "a\nb"], 2, &["no kernel argument"]);
}

#[test]
fn no_input_is_overwritten_by_the_image_not_even_through_a_link_or_as_a_chunk() {
    let workshop = Workshop::new();
    let haul = fs::read(fixture(HAUL)).unwrap();
    workshop.write("haul.tar.zst", &haul);
    let (first, second) = haul.split_at(haul.len() / 2);
    workshop.write("parts.tar.zst.001", first);
    workshop.write("parts.tar.zst.002", second);
    workshop.write("cluster.yaml", b"unread");
    std::os::unix::fs::symlink("haul.tar.zst", workshop.path("link")).unwrap();
    let before = workshop.left();
    for (given, output) in [
        (&["--haul", "haul.tar.zst"][..], "haul.tar.zst"),
        (&["--haul", "haul.tar.zst"], "link"),
        (&["--haul", "parts.tar.zst.001"], "parts.tar.zst.002"),
        (
            &["--haul", "haul.tar.zst", "--config", "cluster.yaml"],
            "cluster.yaml",
        ),
    ] {
        let arguments = [given, &["--arch", "x86_64", "-o", output]].concat();
        check(&workshop.run(&arguments), 1, &["it is one of the inputs"]);
        assert_eq!(workshop.left(), before);
        assert_eq!(fs::read(workshop.path("haul.tar.zst")).unwrap(), haul);
        assert_eq!(
            fs::read(workshop.path("parts.tar.zst.002")).unwrap(),
            second
        );
    }
}

#[test]
fn control_characters_in_names_do_not_reach_the_terminal() {
    let workshop = Workshop::new();
    let said = workshop.run(&["--haul", "no\nsuch\x1b[31m.tar.zst", "--arch", "x86_64"]);
    check(&said, 1, &["no\\u{a}such\\u{1b}[31m.tar.zst"]);
    assert!(!said.stderr.contains('\x1b'), "{}", said.stderr);
}

#[test]
fn a_boot_pack_that_is_not_there_is_asked_for() {
    let workshop = Workshop::new();
    fs::remove_file(workshop.path("packs/arm64.bootpack")).unwrap();
    // A copy, because the builder also looks beside itself, where `make` puts real ones.
    let elsewhere = tempfile::tempdir().unwrap();
    let builder = elsewhere.path().join("builder");
    fs::copy(assert_cmd::cargo::cargo_bin!("builder"), &builder).unwrap();
    let mut command = workshop.builder_at(&builder, &["--haul", &fixture(HAUL), "--arch", "arm64"]);
    check(
        &workshop::said(&mut command),
        1,
        &["boot pack for arm64", "--boot-pack"],
    );
    assert!(workshop.left().is_empty());
}

#[test]
fn standard_output_that_takes_nothing_is_a_full_disk() {
    let workshop = Workshop::new();
    refused(&workshop, &["-o", "/dev/full"], 1, &["/dev/full"]);
}

/// Needs root: a small disk is a tmpfs, in a mount namespace of its own.
#[test]
fn a_disk_too_small_for_the_image_is_told_before_or_while_it_runs_full() {
    let workshop = Workshop::new();
    fs::create_dir(workshop.path("small")).unwrap();
    // 512 KiB do not hold the unpacked haul; 4 MiB do, but not the image made of it
    for size in ["512k", "4m"] {
        let script = format!(
            "mount -t tmpfs -o size={size} none small || exit 77\n\
             {builder} --haul {haul} --arch x86_64 -o small/haulboot.img; code=$?\n\
             left=$(ls -A small); echo \"left: [$left]\"\n\
             exit $code",
            builder = assert_cmd::cargo::cargo_bin!("builder").display(),
            haul = fixture(HAUL),
        );
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .current_dir(workshop.path(""))
            .env("HAULBOOT_BOOT_PACKS", workshop.path("packs"))
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_ne!(
            output.status.code(),
            Some(77),
            "run this test as root: {stderr}"
        );
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
        assert!(
            stderr.contains("small has ") && stderr.contains(" free"),
            "{stderr}"
        );
        assert!(stderr.contains("\n  help: free some space"), "{stderr}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "left: []\n");
    }
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    let workshop = Workshop::new();
    let child = workshop.halfway(&["--haul", &fixture(HAUL), "--arch", "x86_64", "-o", "-"]);
    assert_eq!(workshop.left().len(), 1, "{:?}", workshop.left());
    assert_eq!(ended_by("INT", child), Some(130));
    assert!(workshop.left().is_empty(), "{:?}", workshop.left());
}

#[test]
fn wrong_usage_ends_with_two() {
    let workshop = Workshop::new();
    for arguments in [
        &[][..],
        &["--arch", "x86_64"],
        &["--haul", "a", "--arch", "mips"],
        &["hauls"],
    ] {
        assert_eq!(workshop.run(arguments).code, Some(2), "{arguments:?}");
    }
}
