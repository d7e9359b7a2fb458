//! What makes an image a part of its cluster, and what else it carries for it.

use super::*;

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
