//! The whole of it, in a directory that stands for a node's root.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use image_layout::{Arch, Digest};

use super::*;

/// A node of a small cluster.
pub(super) fn facts(role: Role) -> Facts {
    let text = "apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\n\
                registry: {address: \"registry.edge.example:5000\"}\n\
                nodes:\n- {name: cp-1, match: any, role: server, address: 192.168.0.2/24}\n";
    Facts {
        name: "cp-1".to_owned(),
        role,
        cluster: image_layout::cluster::parse(text.as_bytes()).unwrap(),
        address: Ipv4Addr::new(192, 168, 0, 2),
        interface: "eth0".to_owned(),
        server: (role == Role::Agent).then(|| "https://192.168.0.2:6443".to_owned()),
        k3s: K3sInfo {
            version: None,
            size: 3,
            digest: Digest::sha256_of(b"k3s"),
            data: None,
        },
        hosts: vec!["quay.io".to_owned()],
    }
}

/// A root directory with HAUL in it, k3s on that, and a modprobe that does nothing.
fn node() -> (tempfile::TempDir, Place) {
    let root = tempfile::tempdir().unwrap();
    let on_haul = root.path().join("run/haulboot/haul");
    credentials::tests::secrets_on(&on_haul, false);
    let k3s = on_haul.join(paths::haul::k3s(Arch::current()));
    fs::create_dir_all(k3s.parent().unwrap()).unwrap();
    fs::write(k3s, "k3s").unwrap();
    fs::create_dir_all(root.path().join("sbin")).unwrap();
    let modprobe = root.path().join("sbin/modprobe");
    fs::write(&modprobe, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&modprobe, fs::Permissions::from_mode(0o755)).unwrap();
    let place = Place::below(root.path());
    (root, place)
}

#[test]
fn a_server_finds_everything_and_a_second_time_changes_nothing() {
    let (root, place) = node();
    let mut facts = facts(Role::Server);
    let chart = "{name: ahoy, chart: hauler/hello-world}";
    facts.cluster.charts = vec![serde_yaml::from_str(chart).unwrap()];
    facts.cluster.manifests = vec!["web.yaml".to_owned()];
    let manifests = root.path().join("run/haulboot/haul/manifests");
    fs::create_dir_all(&manifests).unwrap();
    fs::write(manifests.join("web.yaml"), "kind: Pod\n").unwrap();
    let laid = lay_down(&place, &facts).unwrap();
    assert!(!laid.in_place);
    assert_eq!(laid.data_dir, Path::new(paths::node::K3S_DATA));
    let files = [
        "etc/rancher/k3s/config.yaml",
        "etc/rancher/k3s/registries.yaml",
        "etc/rancher/node/password",
        "var/lib/rancher/k3s/server/tls/server-ca.key",
        "var/lib/rancher/k3s/server/manifests/haulboot-chart-ahoy.yaml",
        "var/lib/rancher/k3s/server/manifests/haulboot/haulboot-manifest-web.yaml",
    ];
    let times = || {
        files.map(|file| {
            let metadata = fs::metadata(root.path().join(file)).expect(file);
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{file}");
            metadata.modified().unwrap()
        })
    };
    let before = times();
    lay_down(&place, &facts).unwrap();
    assert_eq!(before, times());
    facts.cluster.charts.clear();
    facts.cluster.manifests.clear();
    let laid = lay_down(&place, &facts).unwrap();
    let removed = "not in cluster.yaml any more, and what they made stays in the cluster: \
                   haulboot-chart-ahoy.yaml, haulboot-manifest-web.yaml";
    assert!(
        laid.notices.iter().any(|n| n == removed),
        "{:?}",
        laid.notices
    );
}

#[test]
fn an_agent_gets_no_manifests_and_no_authorities() {
    let (root, place) = node();
    let mut facts = facts(Role::Agent);
    let chart = "{name: ahoy, chart: hauler/hello-world}";
    facts.cluster.charts = vec![serde_yaml::from_str(chart).unwrap()];
    lay_down(&place, &facts).unwrap();
    assert!(!root.path().join("var/lib/rancher/k3s/server").exists());
    let config = fs::read_to_string(root.path().join("etc/rancher/k3s/config.yaml")).unwrap();
    assert!(config.contains("token: \"K10ca::node:a9\"\n"), "{config}");
}
