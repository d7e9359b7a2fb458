//! The credentials of a cluster as the command line makes, keeps and refuses them.

#![allow(clippy::unwrap_used, clippy::panic)]

mod workshop;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use image_layout::paths::secrets;
use serde_json::Value;
use workshop::{Said, Workshop, elf, fixture};

const HEAD: &str = "apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\n";
const NODES: &str = "nodes:\n\
    - {name: cp-1, match: {serial: A1}, role: server, address: 192.168.0.2/24}\n\
    - {name: w-1, match: any, role: agent}\n";

/// A workshop with k3s and a `cluster.yaml` of one server and agents.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    workshop.write("k3s", &elf(62, b"\0v1.34.1+k3s1\0"));
    workshop.write("cluster.yaml", format!("{HEAD}{NODES}").as_bytes());
    workshop
}

/// The arguments of an image of that cluster.
fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let all = [
        "--k3s",
        "k3s",
        "--config",
        "cluster.yaml",
        "--arch",
        "x86_64",
    ];
    [&all[..], more].concat()
}

fn refused(said: &Said, code: i32, reasons: &[&str]) {
    assert_eq!(said.code, Some(code), "{}", said.stderr);
    for reason in reasons {
        assert!(said.stderr.contains(reason), "{reason}: {}", said.stderr);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// An image without its empty blocks; what lies across two blocks with contents is still whole.
fn written(workshop: &Workshop, image: &str) -> Vec<u8> {
    let image = fs::read(workshop.path(image)).unwrap();
    let blocks = image
        .chunks(4096)
        .filter(|block| **block != [0; 4096][..block.len()]);
    blocks.flatten().copied().collect()
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// A line of a key in the middle, which no other key has.
fn inner_line(key: &[u8]) -> Vec<u8> {
    key.split(|byte| *byte == b'\n').nth(2).unwrap().to_vec()
}

/// HAUL of an image, as another program than the builder reads it.
fn haul(workshop: &Workshop, image: &str) -> ext4_view::Ext4 {
    let json = inspected(workshop, image);
    let extent = &json["partitions"][2];
    let number = |key: &str| usize::try_from(extent[key].as_u64().unwrap()).unwrap();
    let image = fs::read(workshop.path(image)).unwrap();
    let haul = image[number("start")..][..number("bytes")].to_vec();
    ext4_view::Ext4::load(Box::new(haul)).unwrap()
}

fn inspected(workshop: &Workshop, image: &str) -> Value {
    serde_json::from_str(&workshop.done(&["inspect", image, "--json"])).unwrap()
}

fn openssl(arguments: &[&str], directory: &Path) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap_or_else(|error| panic!("openssl: {error}; apt-get install openssl"));
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "openssl {arguments:?}: {said}");
    said
}

#[test]
fn an_image_with_k3s_has_a_cluster_and_a_second_one_is_of_the_same() {
    let workshop = workshop();
    let summary = workshop.done(&arguments(&["-o", "a.img"]));
    for said in [
        "a.img.credentials (made)",
        "owns the cluster",
        "kubectl --kubeconfig a.img.kubeconfig get nodes",
    ] {
        assert!(summary.contains(said), "{said}: {summary}");
    }
    let directory = workshop.path("a.img.credentials");
    assert_eq!(mode(&directory), 0o700);
    for name in [
        "server-token",
        "kubeconfig",
        "tls/server-ca.key",
        "tls/etcd/peer-ca.key",
    ] {
        assert_eq!(mode(&directory.join(name)), 0o600, "{name}");
    }
    for name in ["a.img", "a.img.kubeconfig"] {
        assert_eq!(mode(&workshop.path(name)), 0o600, "{name}");
    }

    let ext4 = haul(&workshop, "a.img");
    for name in secrets::TLS_FILES {
        let there = ext4.read(format!("/secrets/tls/{name}").as_str()).unwrap();
        assert_eq!(there, fs::read(directory.join("tls").join(name)).unwrap());
    }
    assert!(!ext4.exists("/secrets/kubeconfig").unwrap());
    let json = inspected(&workshop, "a.img");
    assert_eq!(json["credentials"], "ca-keys");
    assert_eq!(json["image"]["agentsOnly"], Value::Null);
    let text = workshop.done(&["inspect", "a.img"]);
    assert!(text.contains("whoever holds it owns the cluster"), "{text}");

    let first = fs::read(workshop.path("a.img")).unwrap();
    let summary = workshop.done(&arguments(&["-o", "a.img"]));
    assert!(summary.contains("(reused)"), "{summary}");
    assert!(first == fs::read(workshop.path("a.img")).unwrap());
    // elsewhere, with the directory named
    workshop.done(&arguments(&[
        "-o",
        "b.img",
        "--credentials",
        "a.img.credentials",
    ]));
    assert!(first == fs::read(workshop.path("b.img")).unwrap());
    assert!(!workshop.path("b.img.credentials").exists());
    // and another cluster is another image
    workshop.done(&arguments(&["-o", "c.img"]));
    assert!(first != fs::read(workshop.path("c.img")).unwrap());
    let left = workshop.left();
    assert!(
        left.iter().all(|name| !name.contains("partial")),
        "{left:?}"
    );
}

#[test]
fn openssl_finds_nothing_wrong_with_keys_and_certificates() {
    let workshop = workshop();
    workshop.done(&arguments(&["-q", "-o", "a.img"]));
    let directory = workshop.path("a.img.credentials");
    let kubeconfig = fs::read_to_string(workshop.path("a.img.kubeconfig")).unwrap();
    let data = |key: &str| {
        let line = kubeconfig.lines().find(|line| line.contains(key)).unwrap();
        let value = line.split('"').nth(1).unwrap();
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, value).unwrap()
    };
    fs::write(directory.join("admin.crt"), data("client-certificate-data")).unwrap();
    fs::write(directory.join("admin.key"), data("client-key-data")).unwrap();
    let server_ca = fs::read(directory.join("tls/server-ca.crt")).unwrap();
    assert_eq!(data("certificate-authority-data"), server_ca);

    let run = |arguments: &[&str]| openssl(arguments, &directory);
    for ca in [
        "server-ca",
        "client-ca",
        "request-header-ca",
        "etcd/server-ca",
        "etcd/peer-ca",
    ] {
        let (certificate, key) = (format!("tls/{ca}.crt"), format!("tls/{ca}.key"));
        run(&[
            "verify",
            "-x509_strict",
            "-CAfile",
            &certificate,
            &certificate,
        ]);
        let public = run(&["x509", "-in", &certificate, "-noout", "-pubkey"]);
        assert_eq!(public, run(&["pkey", "-in", &key, "-pubout"]));
    }
    run(&[
        "verify",
        "-x509_strict",
        "-purpose",
        "sslclient",
        "-CAfile",
        "tls/client-ca.crt",
        "admin.crt",
    ]);
    // a node whose clock says the second of January 2020
    run(&[
        "verify",
        "-attime",
        "1577923200",
        "-CAfile",
        "tls/client-ca.crt",
        "admin.crt",
    ]);
    let subject = run(&["x509", "-in", "admin.crt", "-noout", "-subject"]);
    assert!(subject.contains("system:masters") && subject.contains("system:admin"));
    let key = run(&["ec", "-in", "tls/service.key", "-noout", "-text", "-check"]);
    assert!(key.contains("prime256v1") && key.contains("valid"), "{key}");
    // keys that others made
    for other in [
        &["genrsa", "-traditional", "-out", "tls/service.key", "2048"][..],
        &[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            "tls/service.key",
        ],
    ] {
        run(other);
        workshop.done(&arguments(&["-q", "-o", "a.img"]));
    }

    // the hash that k3s makes of what it serves under /cacerts: the file's own bytes
    let hash = run(&["dgst", "-sha256", "-r", "tls/server-ca.crt"]);
    let hash = hash.split(' ').next().unwrap();
    for (name, user) in [("server-token", "server"), ("agent-token", "node")] {
        let token = fs::read_to_string(directory.join(name)).unwrap();
        assert!(token.starts_with(&format!("K10{hash}::{user}:")), "{token}");
        assert_eq!(token.lines().count(), 1);
    }
}

#[test]
fn a_stick_for_agents_has_no_key_and_no_server() {
    let workshop = workshop();
    workshop.done(&arguments(&["-q", "-o", "a.img"]));
    let agents = [
        "-o",
        "w.img",
        "--role",
        "agent",
        "--credentials",
        "a.img.credentials",
    ];
    let summary = workshop.done(&arguments(&agents));
    assert!(summary.contains("without CA keys"), "{summary}");
    assert!(!workshop.path("w.img.kubeconfig").exists());

    let ext4 = haul(&workshop, "w.img");
    let names = |directory: &str| {
        let entries = ext4.read_dir(directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().as_str().unwrap().to_owned());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    };
    assert_eq!(names("/secrets"), ["agent-token", "cluster-secret", "tls"]);
    assert_eq!(names("/secrets/tls"), ["server-ca.crt"]);
    let (all, some) = (written(&workshop, "a.img"), written(&workshop, "w.img"));
    let directory = workshop.path("a.img.credentials");
    for name in secrets::TLS_FILES
        .iter()
        .filter(|name| name.ends_with(".key"))
    {
        let line = inner_line(&fs::read(directory.join("tls").join(name)).unwrap());
        assert!(contains(&all, &line), "{name} is not on the servers' image");
        assert!(!contains(&some, &line), "{name} is on the agents' image");
    }
    let token = fs::read(directory.join("server-token")).unwrap();
    assert!(contains(&all, &token) && !contains(&some, &token));
    assert!(!contains(&some, b"loader/entries/haulboot-x86_64-server"));
    assert!(!contains(&some, b"haulboot.role=server"));

    let json = inspected(&workshop, "w.img");
    assert_eq!(json["credentials"], "agent");
    assert_eq!(json["image"]["agentsOnly"], true);
    let text = workshop.done(&["inspect", "w.img"]);
    assert!(text.contains("for agents: no CA keys on it"), "{text}");
}

#[test]
fn a_stick_for_agents_of_no_cluster_is_refused() {
    let workshop = workshop();
    let run = |more: &[&str]| workshop.run(more);
    let haul = workshop::fixture("hauler-1.2.5-mixed-v1.tar.zst");
    let said = run(&["--haul", &haul, "--role", "agent", "--arch", "x86_64"]);
    refused(&said, 2, &["needs k3s", "--k3s"]);
    let said = run(&["--k3s", "k3s", "--role", "agent", "--arch", "x86_64"]);
    refused(&said, 2, &["names their server", "--config"]);
    let said = run(&arguments(&["--role", "agent"]));
    refused(
        &said,
        1,
        &["haulboot.img.credentials is not there", "--credentials"],
    );
}

#[test]
fn without_a_place_beside_the_image_one_has_to_be_named() {
    let workshop = workshop();
    let said = workshop.run(&arguments(&["-o", "-"]));
    refused(&said, 2, &["standard output", "--credentials DIR"]);
    assert!(said.stdout.is_empty());

    workshop.done(&arguments(&["-q", "-o", "a.img"]));
    let said = workshop.run(&arguments(&["-o", "-", "--credentials", "mine"]));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("mine (made)"), "{}", said.stderr);
    let stream = ["-o", "-", "--credentials", "a.img.credentials"];
    let said = workshop.run(&arguments(&stream));
    assert!(said.stdout == fs::read(workshop.path("a.img")).unwrap());
    let kubeconfig = workshop.done(&["kubeconfig", "mine"]);
    assert_eq!(
        kubeconfig,
        fs::read_to_string(workshop.path("mine/kubeconfig")).unwrap()
    );
}

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
fn a_failed_image_makes_no_cluster() {
    let workshop = workshop();
    let before = workshop.left();
    workshop.write("broken.tar", b"broken");
    let said = workshop.run(&arguments(&["--haul", "broken.tar", "-o", "a.img"]));
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    fs::remove_file(workshop.path("broken.tar")).unwrap();
    assert_eq!(workshop.left(), before);
}

#[test]
fn the_kubeconfig_leads_to_the_server_and_to_any_other_address() {
    let workshop = workshop();
    workshop.done(&arguments(&["-q", "-o", "a.img"]));
    let text = workshop.done(&["kubeconfig", "a.img"]);
    assert!(
        text.contains("server: \"https://192.168.0.2:6443\""),
        "{text}"
    );
    assert!(text.contains("tls-server-name: \"cp-1\""), "{text}");
    let text = workshop.done(&["kubeconfig", "a.img", "--server", "127.0.0.1:16443"]);
    assert!(
        text.contains("server: \"https://127.0.0.1:16443\""),
        "{text}"
    );

    // a cluster.yaml that changed changes the kubeconfig, and the cluster stays
    let yaml = format!("{HEAD}{NODES}k3s: {{https-listen-port: 8443}}\n").replace("edge", "on");
    workshop.write("cluster.yaml", yaml.as_bytes());
    workshop.done(&arguments(&["-q", "-o", "a.img"]));
    let text = workshop.done(&["kubeconfig", "a.img"]);
    assert!(
        text.contains("server: \"https://192.168.0.2:8443\""),
        "{text}"
    );
    assert!(text.contains("current-context: \"on\""), "{text}");

    let said = workshop.run(&["kubeconfig", "a.img", "--server", "http://a"]);
    refused(&said, 2, &["http://a", "https alone", "\n  help: "]);
    let said = workshop.run(&["kubeconfig", "none.img"]);
    refused(&said, 1, &["none.img.kubeconfig", "\n  help: "]);
}

#[test]
fn roles_that_can_not_work_are_refused_with_k3s_and_only_then() {
    let workshop = workshop();
    let second = "- {name: cp-2, match: {serial: A2}, role: server, address: 192.168.0.3/24}\n";
    workshop.write("cluster.yaml", format!("{HEAD}{NODES}{second}").as_bytes());
    let said = workshop.run(&arguments(&[]));
    refused(&said, 1, &["cp-1 and cp-2 are both servers", "one server"]);
    workshop.write(
        "cluster.yaml",
        format!("{HEAD}unmatched: {{role: agent}}\n").as_bytes(),
    );
    let said = workshop.run(&arguments(&[]));
    refused(&said, 1, &["role: server", "\n  help: "]);

    let fixture = workshop::fixture("hauler-1.2.5-mixed-v1.tar.zst");
    let without = [
        "--haul",
        &fixture,
        "--config",
        "cluster.yaml",
        "--arch",
        "x86_64",
        "-q",
    ];
    workshop.done(&without);
    assert_eq!(workshop.left(), ["cluster.yaml", "haulboot.img", "k3s"]);
    assert_eq!(inspected(&workshop, "haulboot.img")["credentials"], "none");
}

#[test]
fn manifests_go_onto_the_image_and_what_is_broken_is_named() {
    let workshop = workshop();
    fs::create_dir(workshop.path("apps")).unwrap();
    let object = b"apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
    workshop.write("apps/a.yaml", object);
    let yaml = format!("{HEAD}{NODES}manifests: [apps]\n");
    workshop.write("cluster.yaml", yaml.as_bytes());
    workshop.done(&arguments(&["-q", "-o", "a.img"]));
    let ext4 = haul(&workshop, "a.img");
    assert_eq!(ext4.read("/manifests/apps/a.yaml").unwrap(), object);
    let agents = [
        "-q",
        "-o",
        "w.img",
        "--role",
        "agent",
        "--credentials",
        "a.img.credentials",
    ];
    workshop.done(&arguments(&agents));
    assert!(!haul(&workshop, "w.img").exists("/manifests").unwrap());

    workshop.write("apps/a.yaml", b"kind: [\n");
    let said = workshop.run(&arguments(&["-o", "b.img"]));
    refused(&said, 1, &["apps/a.yaml:2:1", "\n  help: "]);
    fs::remove_file(workshop.path("apps/a.yaml")).unwrap();
    fs::remove_dir(workshop.path("apps")).unwrap();
    let said = workshop.run(&arguments(&["-o", "b.img"]));
    refused(&said, 1, &["apps is not there", "manifests:"]);
    assert!(!workshop.path("b.img.credentials").exists());
}

#[test]
fn charts_have_to_be_in_the_haul() {
    let workshop = workshop();
    let fixture = workshop::fixture("hauler-1.2.5-mixed-v1.tar.zst");
    let run = |chart: &str| {
        let yaml = format!("{HEAD}{NODES}charts: [{{name: web, chart: {chart}}}]\n");
        workshop.write("cluster.yaml", yaml.as_bytes());
        workshop.run(&arguments(&["-o", "a.img", "--haul", &fixture]))
    };
    let said = run("hauler/no-such-chart");
    refused(
        &said,
        1,
        &[
            "hauler/no-such-chart is not in the haul",
            "its charts are hauler/",
        ],
    );
    let has = said.stderr.split("its charts are ").nth(1).unwrap();
    let (chart, version) = has
        .split([',', '\n'])
        .next()
        .unwrap()
        .split_once(':')
        .unwrap();
    refused(
        &run(&format!("{chart}, version: 99.0.0")),
        1,
        &["version 99.0.0", version],
    );
    let said = run(&format!("{chart}, version: {version}"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}

#[test]
fn copies_on_the_way_are_for_their_owner_alone_and_gone_after_an_interruption() {
    let workshop = workshop();
    // nobody reads its output, so that it waits with the whole image beside it
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("builder"))
        .args(arguments(&["-o", "-", "--credentials", "mine"]))
        .current_dir(workshop.path(""))
        .env("HAULBOOT_BOOT_PACKS", workshop.path("packs"))
        .env("TMPDIR", workshop.path("tmp"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut first = [0];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
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
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
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
