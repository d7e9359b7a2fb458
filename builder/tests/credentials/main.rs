//! The credentials of a cluster as the command line makes, keeps and refuses them.

#![allow(clippy::unwrap_used, clippy::panic)]

mod cluster;
mod files;
mod registry;
#[path = "../workshop/mod.rs"]
mod workshop;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use image_layout::paths::secrets;
use serde_json::Value;
use workshop::{Said, Workshop, elf, ended_by, fixture};

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
