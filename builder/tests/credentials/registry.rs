//! What a registry with HTTPS or users needs.

use super::*;

/// Of libxcrypt, for the password `geheim`.
const ALICE: &str = "alice:$2y$05$abcdefghijklmnopqrstuuVWu8RjbNovPZWAMRdd7iqaaG0mI53Uu";

/// A workshop with a `cluster.yaml` whose registry asks for this, and a k3s.
fn with_registry(registry: &str) -> Workshop {
    let workshop = workshop();
    let text = format!("{HEAD}registry:\n{registry}{NODES}");
    workshop.write("cluster.yaml", text.as_bytes());
    workshop
}

/// The names of what is in HAUL's directory of secrets, those of `tls` with it.
fn secrets_of(workshop: &Workshop, image: &str) -> Vec<String> {
    let haul = haul(workshop, image);
    let list = |directory: &str| {
        let Ok(entries) = haul.read_dir(directory) else {
            return Vec::new();
        };
        entries
            .map(|entry| entry.unwrap().file_name().as_str().unwrap().to_owned())
            .filter(|name| name != "." && name != "..")
            .collect::<Vec<_>>()
    };
    let mut names = list("/secrets");
    names.retain(|name| name != "tls");
    names.extend(
        list("/secrets/tls")
            .into_iter()
            .map(|name| format!("tls/{name}")),
    );
    names.sort();
    names
}

/// Needs openssl.
#[test]
fn https_brings_an_authority_for_registries_onto_every_drive_and_nothing_else_onto_one_without_k3s()
{
    let workshop = with_registry(&format!("  tls: true\n  users: ['{ALICE}']\n"));
    let haul_file = fixture("hauler-2.0.3-small.tar.zst");
    let plain = ["--haul", &haul_file, "--config", "cluster.yaml"];
    let plain = [&plain[..], &["--arch", "x86_64", "-o", "a.img"]].concat();
    let summary = workshop.done(&plain);
    for said in [
        "a.img.credentials (made)",
        "can pass for its registry",
        "by a.img.credentials/tls/registry-ca.crt",
        "1 user of the registry",
    ] {
        assert!(summary.contains(said), "{said}: {summary}");
    }
    assert!(!summary.contains("kubectl"), "{summary}");
    assert!(!workshop.path("a.img.kubeconfig").exists());
    assert_eq!(mode(&workshop.path("a.img")), 0o600);
    assert_eq!(
        secrets_of(&workshop, "a.img"),
        [
            "cluster-secret",
            "tls/registry-ca.crt",
            "tls/registry-ca.key"
        ]
    );
    let kept = workshop.path("a.img.credentials/tls");
    let on_stick = haul(&workshop, "a.img");
    for name in ["registry-ca.crt", "registry-ca.key"] {
        let path = format!("/secrets/tls/{name}");
        assert_eq!(
            on_stick.read(path.as_str()).unwrap(),
            fs::read(kept.join(name)).unwrap()
        );
        let found = on_stick.metadata(path.as_str()).unwrap();
        assert_eq!(
            (found.mode() & 0o777, found.uid(), found.gid()),
            (0o600, 0, 0)
        );
    }
    let json = inspected(&workshop, "a.img");
    assert_eq!(json["credentials"], "registry");
    assert_eq!(json["image"]["access"]["tls"], true);
    assert_eq!(json["image"]["access"]["users"], true);

    let text = openssl(
        &["x509", "-in", "registry-ca.crt", "-noout", "-text"],
        &kept,
    );
    for part in [
        "CA:TRUE, pathlen:0",
        "prime256v1",
        "Not Before: Jan  1 00:00:00 2020",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    openssl(
        &["verify", "-CAfile", "registry-ca.crt", "registry-ca.crt"],
        &kept,
    );

    // the same authority for a cluster of the same directory, and for its agents
    let same = ["--credentials", "a.img.credentials"];
    workshop.done(&arguments(&[&same[..], &["-o", "b.img"]].concat()));
    let agents = [&same[..], &["--role", "agent", "-o", "c.img"]].concat();
    workshop.done(&arguments(&agents));
    let authority = |image: &str| {
        let haul = haul(&workshop, image);
        haul.read("/secrets/tls/registry-ca.crt").unwrap()
    };
    assert_eq!(authority("a.img"), authority("b.img"));
    assert_eq!(authority("a.img"), authority("c.img"));
    assert_eq!(
        secrets_of(&workshop, "c.img"),
        [
            "agent-token",
            "cluster-secret",
            "tls/registry-ca.crt",
            "tls/registry-ca.key",
            "tls/server-ca.crt"
        ]
    );
}

#[test]
fn a_registry_without_k3s_takes_credentials_that_are_named() {
    let workshop = with_registry("  tls: true\n");
    let haul_file = fixture("hauler-2.0.3-small.tar.zst");
    let plain = ["--haul", &haul_file, "--config", "cluster.yaml"];
    let plain = [&plain[..], &["--arch", "x86_64"]].concat();
    let to = |more: &[&'static str]| [&plain[..], more].concat();
    let said = workshop.run(&to(&["-o", "-"]));
    refused(&said, 2, &["standard output", "--credentials DIR"]);
    workshop.done(&to(&["-o", "a.img", "--credentials", "mine"]));
    let said = workshop.run(&to(&["-o", "-", "--credentials", "mine"]));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout == fs::read(workshop.path("a.img")).unwrap());
}

#[test]
fn users_alone_need_no_authority_and_an_open_registry_no_secret() {
    let workshop = with_registry(&format!("  users: ['{ALICE}']\n"));
    let haul_file = fixture("hauler-2.0.3-small.tar.zst");
    let plain = ["--haul", &haul_file, "--config", "cluster.yaml"];
    let plain = [&plain[..], &["--arch", "x86_64", "-o", "a.img"]].concat();
    let summary = workshop.done(&plain);
    assert!(!summary.contains("HTTPS"), "{summary}");
    assert_eq!(secrets_of(&workshop, "a.img"), ["cluster-secret"]);
    let open = with_registry("  tls: false\n  users: []\n");
    let summary = open.done(&plain);
    assert!(!summary.contains("Access"), "{summary}");
    assert!(!open.path("a.img.credentials").exists());
    assert!(secrets_of(&open, "a.img").is_empty());
    let json = inspected(&open, "a.img");
    assert_eq!(json["image"]["access"], Value::Null);
}

#[test]
fn a_user_that_no_node_could_check_is_refused_with_line_and_column() {
    for (line, reason) in [
        (
            "alice:geheim",
            "the password of alice is not hashed with bcrypt",
        ),
        ("alice:$apr1$abc$def", "not hashed with bcrypt"),
        (&ALICE[..60], "is not whole"),
        ("alice", "is no line of an htpasswd file"),
        (&ALICE.replace("alice", "haulboot-node"), "the nodes' own"),
    ] {
        let workshop = with_registry(&format!("  users:\n    - '{line}'\n"));
        let said = workshop.run(&arguments(&["-o", "a.img"]));
        refused(&said, 1, &["cluster.yaml:6:8: registry.users[0]: ", reason]);
        assert!(!said.stderr.contains("$2y$05"), "{}", said.stderr);
        assert!(!workshop.path("a.img.credentials").exists());
    }
}
