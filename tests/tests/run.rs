//! `builder run`, as a person uses it: console in, console out.
#![allow(clippy::unwrap_used, clippy::panic)] // a failed step is a failed test

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use builder::qemu::wait_within;
use image_layout::{Arch, Digest};
use tests::clients::get;
use tests::images::{Credentials, K3s, Recipe, builder_program, image};
use tests::qemu_process::Running;

/// An emulated machine on a busy host takes a minute.
const BOOT_BOUND: Duration = Duration::from_secs(300);
const END_BOUND: Duration = Duration::from_secs(20);

/// Lines until one contains `wanted`; the firmware's and the loader's are not all text.
fn until(lines: &Receiver<String>, wanted: &str) -> Vec<String> {
    let deadline = Instant::now() + BOOT_BOUND;
    let mut seen = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => seen.push(line),
            Err(error) => panic!("{wanted:?} did not come ({error}): {seen:#?}"),
        }
        if seen.last().is_some_and(|line| line.contains(wanted)) {
            return seen;
        }
    }
}

/// `builder run`, with what is typed and what is shown.
fn start(image: &Path, arguments: &[&str]) -> (Running, ChildStdin, Receiver<String>) {
    let mut child = Command::new(builder_program().unwrap())
        .arg("run")
        .arg(image)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let keyboard = child.stdin.take().unwrap();
    let screen = child.stdout.take().unwrap();
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(screen).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    (Running(child), keyboard, lines)
}

/// An image for this machine's architecture, without k3s.
fn small_image(config: Option<&str>) -> PathBuf {
    let recipe = Recipe {
        k3s: K3s::None,
        credentials: Credentials::Shared,
        arches: vec![Arch::current()],
        hauls: vec!["hauler-2.0.3-small".to_owned()],
        config: config.map(str::to_owned),
    };
    image(&recipe).unwrap()
}

#[test]
fn an_image_runs_on_the_terminal_until_ctrl_a_x_and_is_not_changed() {
    let image = small_image(None);
    let before = Digest::sha256_of(&fs::read(&image).unwrap());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();

    let port_argument = port.to_string();
    let (mut child, mut keyboard, lines) =
        start(&image, &["--memory", "1024", "--port", &port_argument]);

    let said = until(&lines, "Ctrl-A X").join("\n");
    assert!(said.contains(&format!("port {port} is taken")), "{said}");
    let address = said
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .unwrap();
    until(&lines, "run      done");
    let answer = get(address.parse().unwrap(), "/v2/library/hello/manifests/1").unwrap();
    assert_eq!(answer.status, 200);

    keyboard.write_all(b"\x01x").unwrap();
    keyboard.flush().unwrap();
    let status = wait_within(&mut child.0, END_BOUND).unwrap();
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert_eq!(Digest::sha256_of(&fs::read(&image).unwrap()), before);
}

#[test]
fn a_registry_with_https_is_shown_as_one() {
    let config = "apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\nregistry: {tls: true}\n";
    let image = small_image(Some(config));
    let (mut child, mut keyboard, lines) = start(&image, &[]);
    let said = until(&lines, "Ctrl-A X").join("\n");
    keyboard.write_all(b"\x01x").unwrap();
    wait_within(&mut child.0, END_BOUND).unwrap().unwrap();
    assert!(said.contains("registry: https://127.0.0.1:"), "{said}");
}

#[test]
fn what_is_no_image_is_refused_with_the_remedy() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let output = Command::new(builder_program().unwrap())
        .arg("run")
        .arg(file.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("no partition table of an image"), "{words}");
    assert!(words.contains("help: "), "{words}");
}
