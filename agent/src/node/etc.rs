//! The files of `/etc` that programs look for on any Linux.

use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use image_layout::Digest;
use image_layout::cluster::Machine;

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("writing {path}: {source}", path = .path.display())]
pub(super) struct EtcError {
    path: PathBuf,
    source: io::Error,
}

/// Files that are the same on every node. k3s and its tools look users and hosts up by them;
/// the kubelet reports `os-release` as the node's operating system.
const SAME_EVERYWHERE: [(&str, &str); 4] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    ),
    (
        "etc/os-release",
        concat!(
            "NAME=Haulboot\nID=haulboot\nVERSION_ID=",
            env!("CARGO_PKG_VERSION"),
            "\nPRETTY_NAME=\"Haulboot ",
            env!("CARGO_PKG_VERSION"),
            "\"\n"
        ),
    ),
];

/// Writes what a node has before it has a network: users, the host name, the machine id.
pub(super) fn write_identity(root: &Path, name: &str, machine: &Machine) -> Result<(), EtcError> {
    for (path, contents) in SAME_EVERYWHERE {
        put(&root.join(path), contents)?;
    }
    put(&root.join("etc/hostname"), &format!("{name}\n"))?;
    put(
        &root.join("etc/machine-id"),
        &format!("{}\n", machine_id(machine, name)),
    )
}

/// Writes what depends on the network: `hosts` and `resolv.conf`.
pub(super) fn write_network(
    root: &Path,
    name: &str,
    address: Option<Ipv4Addr>,
    resolv_conf: &str,
) -> Result<(), EtcError> {
    put(&root.join("etc/hosts"), &hosts(name, address))?;
    put(&root.join("etc/resolv.conf"), resolv_conf)
}

fn hosts(name: &str, address: Option<Ipv4Addr>) -> String {
    let own = address.map_or(String::new(), |address| format!("{address} {name}\n"));
    format!("127.0.0.1 localhost\n::1 localhost\n{own}")
}

/// 32 hexadecimal digits (machine-id(5)), the same at every boot of a machine and never another
/// machine's: from its UUID, else its serial number, else a MAC address, else its name.
fn machine_id(machine: &Machine, name: &str) -> String {
    let mac = || machine.macs.iter().min().map(|mac| format!("mac {mac}"));
    let fact = (machine.uuid.map(|uuid| format!("uuid {uuid}")))
        .or_else(|| {
            machine
                .serial
                .as_ref()
                .map(|serial| format!("serial {serial}"))
        })
        .or_else(mac)
        .unwrap_or_else(|| format!("name {name}"));
    let digest = Digest::sha256_of(format!("haulboot machine-id {fact}").as_bytes());
    digest.hex().chars().take(32).collect()
}

/// Writes a file so that nobody ever reads half of it; one that is the same already is left.
pub(super) fn put(path: &Path, contents: &str) -> Result<(), EtcError> {
    let failed = |source| EtcError {
        path: path.to_owned(),
        source,
    };
    if fs::read(path).is_ok_and(|old| old == contents.as_bytes()) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    fs::File::create(&new)
        .and_then(|mut file| file.write_all(contents.as_bytes()))
        .and_then(|()| fs::rename(&new, path))
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use image_layout::cluster::Mac;

    use super::*;

    #[test]
    fn the_machine_id_is_stable_and_every_machines_own() {
        let machine = |mac, serial| Machine::new(vec![Mac([2, 0, 0, 0, 0, mac])], serial, None);
        let id = machine_id(&machine(1, None), "a");
        assert_eq!(id.len(), 32);
        assert!(
            id.bytes()
                .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
        );
        assert_eq!(id, machine_id(&machine(1, None), "b"), "not from the name");
        assert_ne!(id, machine_id(&machine(2, None), "a"));
        let by_serial = machine_id(&machine(1, Some("ABC123")), "a");
        assert_eq!(by_serial, machine_id(&machine(2, Some("ABC123")), "a"));
    }

    #[test]
    fn hosts_names_the_node_by_its_address() {
        assert_eq!(
            hosts("node-1", Some(Ipv4Addr::new(10, 0, 0, 7))),
            "127.0.0.1 localhost\n::1 localhost\n10.0.0.7 node-1\n"
        );
        assert_eq!(
            hosts("node-1", None),
            "127.0.0.1 localhost\n::1 localhost\n"
        );
    }

    #[test]
    fn every_file_is_written_below_the_root_it_is_given() {
        let root = tempfile::tempdir().unwrap();
        write_identity(root.path(), "node-1", &Machine::default()).unwrap();
        write_network(root.path(), "node-1", None, "nameserver 10.0.0.1\n").unwrap();
        let mut names: Vec<_> = fs::read_dir(root.path().join("etc"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "group",
                "hostname",
                "hosts",
                "machine-id",
                "nsswitch.conf",
                "os-release",
                "passwd",
                "resolv.conf"
            ]
        );
        let os = fs::read_to_string(root.path().join("etc/os-release")).unwrap();
        assert!(os.contains("ID=haulboot\n"), "{os}");
    }
}
