//! The files of credentials and images: whose they are, and what may lie where.

use super::*;

#[test]
fn credentials_that_were_tampered_with_are_refused_by_file_and_nothing_is_written() {
    let workshop = workshop();
    workshop.done(&arguments(&["-q", "-o", "a.img"]));
    workshop.done(&arguments(&["-q", "-o", "b.img"]));
    let before = fs::read(workshop.path("a.img")).unwrap();
    for (name, contents, reasons) in [
        (
            "agent-token",
            None,
            &["agent-token: its hash is not", "two clusters"][..],
        ),
        (
            "server-token",
            Some("K10abc\n"),
            &["server-token: it is no token"],
        ),
        (
            "tls/client-ca.key",
            None,
            &["client-ca.key: it is not the key"],
        ),
        (
            "tls/server-ca.crt",
            None,
            &["server-ca.key: it is not the key"],
        ),
        ("cluster-secret", Some(""), &["cluster-secret"]),
    ] {
        let path = workshop.path("a.img.credentials").join(name);
        let good = fs::read(&path).unwrap();
        let other = workshop.path("b.img.credentials").join(name);
        let bad = contents.map_or_else(|| fs::read(other).unwrap(), |text| text.into());
        fs::write(&path, bad).unwrap();
        let said = workshop.run(&arguments(&["-o", "a.img"]));
        refused(&said, 1, reasons);
        refused(&said, 1, &["\n  help: "]);
        fs::remove_file(&path).unwrap();
        let said = workshop.run(&arguments(&["-o", "a.img"]));
        refused(&said, 1, &[name, "is missing", "from a copy"]);
        fs::write(&path, good).unwrap();
    }
    assert!(before == fs::read(workshop.path("a.img")).unwrap());
    fs::set_permissions(
        workshop.path("a.img.credentials/cluster-secret"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let said = workshop.run(&arguments(&["-o", "a.img"]));
    assert_eq!(said.code, Some(0));
    assert!(said.stderr.contains("chmod -R go= "), "{}", said.stderr);
}

#[test]
fn an_image_neither_replaces_nor_lies_within_what_it_is_made_of() {
    let workshop = workshop();
    fs::create_dir(workshop.path("apps")).unwrap();
    let object = b"apiVersion: v1\nkind: Namespace\n";
    workshop.write("apps/a.yaml", object);
    let yaml = format!("{HEAD}{NODES}manifests: [apps]\n");
    workshop.write("cluster.yaml", yaml.as_bytes());
    workshop.done(&arguments(&["-q", "-o", "a.img"]));
    fs::create_dir(workshop.path("c.img.kubeconfig")).unwrap();
    for (output, more, reason) in [
        (
            "a.img.credentials/b.img",
            &["--credentials", "a.img.credentials"][..],
            "would lie in",
        ),
        ("apps/a.yaml", &[], "one of the inputs"),
        ("apps/a.img", &[], "would lie in"),
        (
            "new",
            &["--credentials", "new"],
            "directory of the cluster's credentials",
        ),
        ("a.img.credentials", &[], "is a directory"),
        (
            "b.img",
            &["--credentials", "b.img.kubeconfig"],
            "b.img.kubeconfig can't be written: the cluster's kubeconfig goes there",
        ),
        ("c.img", &[], "c.img.kubeconfig can't be written"),
    ] {
        let before = workshop.left();
        let said = workshop.run(&arguments(&[&["-o", output][..], more].concat()));
        refused(&said, 1, &[reason]);
        assert_eq!(workshop.left(), before, "{output}");
    }
    // the kubeconfig beside an image is written too
    workshop.write("x.kubeconfig", yaml.as_bytes());
    let said = workshop.run(&["--k3s", "k3s", "--config", "x.kubeconfig", "-o", "x"]);
    refused(&said, 1, &["one of the inputs (x.kubeconfig)"]);
    assert_eq!(fs::read(workshop.path("apps/a.yaml")).unwrap(), object);
}

#[test]
fn copies_on_the_way_are_for_their_owner_alone_and_gone_after_an_interruption() {
    let workshop = workshop();
    let child = workshop.halfway(&arguments(&["-o", "-", "--credentials", "mine"]));
    let mut places = fs::read_dir(workshop.path("tmp")).unwrap();
    let place = places.next().unwrap().unwrap().path();
    for (name, expected) in [
        ("", 0o700),
        ("image", 0o600),
        ("haul/secrets", 0o700),
        ("haul/secrets/tls/etcd", 0o700),
        ("haul/secrets/server-token", 0o600),
        ("haul/secrets/tls/client-ca.key", 0o600),
    ] {
        assert_eq!(mode(&place.join(name)), expected, "{name}");
    }
    assert_eq!(ended_by("TERM", child), Some(128 + 15));
    assert_eq!(workshop.left(), ["cluster.yaml", "k3s", "mine"]);
}

#[test]
fn a_file_that_is_no_kubeconfig_is_not_printed() {
    let workshop = workshop();
    workshop.done(&arguments(&["-q", "-o", "a.img"]));
    let good = fs::read(workshop.path("a.img.kubeconfig")).unwrap();
    // the beginning alone would be a good one
    let long = [good.as_slice(), b"# ", &[b'x'; 1 << 20]].concat();
    let binary = [good.as_slice(), b"# \xff\n"].concat();
    for bad in [
        &long[..],
        &binary,
        &good[..good.len() / 2],
        b"kind: Config\n",
    ] {
        workshop.write("a.img.kubeconfig", bad);
        for more in [&[][..], &["--server", "cp-1"]] {
            let said = workshop.run(&[&["kubeconfig", "a.img"], more].concat());
            refused(
                &said,
                1,
                &["a.img.kubeconfig: it is no kubeconfig", "\n  help: "],
            );
            assert!(said.stdout.is_empty());
        }
    }
}

#[test]
fn an_address_that_is_none_is_wrong_usage() {
    let workshop = workshop();
    workshop.done(&arguments(&["-q", "-o", "a.img"]));
    let run = |server: &str| workshop.run(&["kubeconfig", "a.img", "--server", server]);
    let said = run("10.0.0.256");
    refused(&said, 2, &["\"10.0.0.256\" is no address", "\n  help: "]);
    assert!(said.stdout.is_empty());
    assert_eq!(run("10.0.0.25").code, Some(0));
    let said = workshop.run(&["kubeconfig", "w.img"]);
    refused(
        &said,
        1,
        &["there is neither w.img.kubeconfig", "the servers' image"],
    );
}

#[test]
fn whoever_may_read_an_image_that_a_shell_made_is_told() {
    let workshop = workshop();
    for (mode, warned) in [(0o600, false), (0o640, true)] {
        let path = workshop.write("stream.img", b"");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let output = Command::new(assert_cmd::cargo::cargo_bin!("builder"))
            .current_dir(workshop.path("."))
            .env("HAULBOOT_BOOT_PACKS", workshop.path("packs"))
            .env("TMPDIR", workshop.path("tmp"))
            .args(arguments(&["-q", "-o", "-", "--credentials", "mine"]))
            .stdout(fs::File::create(&path).unwrap())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        assert_eq!(said.contains("others may read the image"), warned, "{said}");
    }
}

#[test]
fn a_standard_error_that_takes_nothing_does_not_change_the_exit_code() {
    let workshop = workshop();
    for (arguments, code) in [
        (&["inspect", "none.img"][..], 1),
        (&["-o", "-", "--append", ""], 2),
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = Command::new(assert_cmd::cargo::cargo_bin!("builder"))
            .current_dir(workshop.path("."))
            .env("HAULBOOT_BOOT_PACKS", workshop.path("packs"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(full)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}
