//! `/mirrors/`: files for other machines.

use std::io::Read as _;
use std::process::Command;

use crate::client::{get, head, request};
use crate::server::serve;

const RUNTIMES: [&str; 7] = [
    "containerd",
    "cri-o",
    "docker",
    "k3s",
    "podman",
    "rke2",
    "talos",
];
const BROWSER: [(&str, &str); 1] = [("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")];

#[test]
fn each_runtime_has_its_files_as_text_as_json_as_a_page_and_as_an_archive() {
    let served = serve();
    for runtime in RUNTIMES {
        let path = format!("/mirrors/{runtime}");
        let text = get(served.at, &path);
        assert_eq!(
            text.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(text.header("cache-control"), Some("no-store"));
        let text = String::from_utf8(text.body).unwrap();

        let json = get(served.at, &format!("{path}?format=json")).json();
        assert_eq!(json["runtime"], *runtime);
        assert_eq!(json["endpoint"], "http://haul.test");
        let accepted = [("Accept", "application/json")];
        assert_eq!(request(served.at, "GET", &path, &accepted).json(), json);

        let page = request(served.at, "GET", &path, &BROWSER);
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );

        let archive = get(served.at, &format!("{path}.tar"));
        assert_eq!(archive.header("content-type"), Some("application/x-tar"));
        let mut archive = tar::Archive::new(&archive.body[..]);
        let mut entries = archive.entries().unwrap();

        for file in json["files"].as_array().unwrap() {
            let contents = file["contents"].as_str().unwrap();
            let name = file["path"].as_str().unwrap();
            assert!(
                text.contains(&format!("==> {name} <==\n{contents}")),
                "{text}"
            );
            let relative = name.trim_start_matches('/');
            let raw = get(served.at, &format!("{path}/{relative}"));
            assert_eq!((raw.status, raw.body), (200, contents.as_bytes().to_vec()));
            let mut entry = entries.next().unwrap().unwrap();
            assert_eq!(entry.path().unwrap().to_str(), Some(relative));
            assert_eq!(entry.header().mode().unwrap(), 0o644);
            let mut read = String::new();
            entry.read_to_string(&mut read).unwrap();
            assert_eq!(read, contents);
        }
        assert!(entries.next().is_none());
        for note in json["notes"].as_array().unwrap() {
            assert!(text.contains(note.as_str().unwrap()), "{text}");
        }
    }
}

#[test]
fn the_registries_of_the_haul_are_filled_in() {
    let served = serve();
    for (path, hosts) in [
        (
            "/mirrors/podman",
            ["\"a.test\"", "\"b.test\"", "haul.test/h.test_5000"],
        ),
        (
            "/mirrors/cri-o",
            ["\"a.test\"", "\"docker.io\"", "haul.test/h.test_5000"],
        ),
        ("/mirrors/k3s", ["a.test:", "b.test:", "\"h.test:5000\":"]),
        (
            "/mirrors/docker",
            ["haul.test/a.test/", "haul.test/b.test/", "/h.test_5000/"],
        ),
    ] {
        let text = String::from_utf8(get(served.at, path).body).unwrap();
        for host in hosts {
            assert!(text.contains(host), "{path}: {host}: {text}");
        }
    }
}

#[test]
fn an_unknown_runtime_is_told_which_there_are_and_an_unknown_file_too() {
    let served = serve();
    for path in [
        "/mirrors/frob",
        "/mirrors/K3S",
        "/mirrors/frob.tar",
        "/mirrors/../k3s",
        "/mirrors/%2e",
    ] {
        let answer = get(served.at, path);
        assert_eq!(answer.status, 404, "{path}");
        let line = String::from_utf8(answer.body).unwrap();
        assert!(RUNTIMES.iter().all(|name| line.contains(name)), "{line}");
    }
    let answer = get(served.at, "/mirrors/k3s/etc/passwd");
    assert_eq!(answer.status, 404);
    let line = String::from_utf8(answer.body).unwrap();
    assert!(line.contains("etc/rancher/k3s/registries.yaml"), "{line}");
    assert_eq!(get(served.at, "/mirrors/ca.crt").status, 404);
}

#[test]
fn the_list_names_all_runtimes_and_head_says_what_get_would() {
    let served = serve();
    let text = String::from_utf8(get(served.at, "/mirrors/").body).unwrap();
    let json = get(served.at, "/mirrors?format=json").json();
    let listed: Vec<_> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["runtime"].clone())
        .collect();
    assert_eq!(listed, RUNTIMES);
    for runtime in RUNTIMES {
        assert!(
            text.contains(&format!("http://haul.test/mirrors/{runtime}")),
            "{text}"
        );
        for path in [
            format!("/mirrors/{runtime}"),
            format!("/mirrors/{runtime}.tar"),
        ] {
            let length = get(served.at, &path).body.len().to_string();
            let answer = head(served.at, &path);
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-length"), Some(length.as_str()));
        }
    }
}

/// `agent mirrors`: exit code, standard output, standard error.
fn command(arguments: &[&str]) -> (i32, String, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_agent"))
        .arg("mirrors")
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        ran.status.code().unwrap(),
        text(ran.stdout),
        text(ran.stderr),
    )
}

#[test]
fn the_command_prints_what_the_registry_serves_and_writes_it_as_a_tree() {
    let served = serve();
    let hosts = ["a.test", "b.test", "docker.io", "h.test:5000"];
    for runtime in RUNTIMES {
        let mut arguments = vec!["--runtime", runtime, "--endpoint", "http://haul.test"];
        for host in hosts {
            arguments.extend(["--registry", host]);
        }
        let (code, printed, said) = command(&arguments);
        assert_eq!((code, said.as_str()), (0, ""));
        let text = get(served.at, &format!("/mirrors/{runtime}"));
        assert_eq!(printed, String::from_utf8(text.body).unwrap());

        let directory = tempfile::tempdir().unwrap();
        arguments.extend(["--dir", directory.path().to_str().unwrap()]);
        assert_eq!(command(&arguments).0, 0);
        let json = get(served.at, &format!("/mirrors/{runtime}?format=json")).json();
        for file in json["files"].as_array().unwrap() {
            let path = file["path"].as_str().unwrap().trim_start_matches('/');
            let written = std::fs::read_to_string(directory.path().join(path)).unwrap();
            assert_eq!(file["contents"], written, "{path}");
        }
    }
}

#[test]
fn wrong_usage_ends_with_code_2_and_says_what_is_right() {
    for (arguments, words) in [
        (
            &["--runtime", "frob", "--endpoint", "http://h"][..],
            "possible values: containerd",
        ),
        (
            &["--runtime", "k3s", "--endpoint", "h:5000"],
            "begins with http:// or https://",
        ),
        (
            &["--runtime", "k3s", "--endpoint", "http://h/v2"],
            "without a path",
        ),
        (&["--runtime", "k3s"], "--endpoint <URL>"),
        (
            &["--runtime", "podman", "--endpoint", "http://h"],
            "add --registry",
        ),
        (
            &[
                "--runtime",
                "k3s",
                "--endpoint",
                "http://h",
                "--registry",
                "a/b",
            ],
            "a/b",
        ),
        (
            &[
                "--runtime",
                "k3s",
                "--endpoint",
                "http://h",
                "--ca",
                "/dev/null",
            ],
            "--ca is for https",
        ),
    ] {
        let (code, printed, said) = command(arguments);
        assert_eq!((code, printed.as_str()), (2, ""), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    for ca in ["/nonexistent", "/dev/null"] {
        let (code, _, said) = command(&["--runtime", "k3s", "--endpoint", "https://h", "--ca", ca]);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("BEGIN CERTIFICATE"), "{said}");
    }
}
