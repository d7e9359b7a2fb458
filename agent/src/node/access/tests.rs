//! What the registry is handed, from the files of a stick.

use std::fs;
use std::path::PathBuf;

use image_layout::cluster::Role;
use tokio::task::JoinHandle;

use super::*;
use crate::node::network::Plan;

const HASH: &str = "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";

/// A node with a stick, without secrets.
struct Node {
    place: Place,
    secrets: PathBuf,
    _root: tempfile::TempDir,
}

fn node() -> Node {
    let root = tempfile::tempdir().unwrap();
    let place = Place::below(root.path());
    let secrets = place.haul.join("secrets");
    fs::create_dir_all(secrets.join("tls")).unwrap();
    Node {
        place,
        secrets,
        _root: root,
    }
}

impl Node {
    fn with_authority(self) -> Node {
        let (certificate, key) = leaf::tests::authority();
        fs::write(self.secrets.join("tls/registry-ca.crt"), certificate).unwrap();
        fs::write(self.secrets.join("tls/registry-ca.key"), key).unwrap();
        self
    }

    fn with_secret(self) -> Node {
        fs::write(self.secrets.join("cluster-secret"), "c1\n").unwrap();
        self
    }

    fn built_with(self, access: &str) -> Node {
        let json = format!(
            "{{\"format\":1,\"builder\":\"0\",\"built\":0,\"cluster\":\"edge\",\"arches\":{{}},\
             \"hauls\":[],\"blobs\":{{\"count\":0,\"bytes\":0}}{access}}}"
        );
        fs::write(&self.place.image_json, json).unwrap();
        self
    }

    fn material(&self, registry: Option<&str>) -> (Material, Vec<String>) {
        let cluster = registry.map(|registry| {
            let text = format!(
                "apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\nregistry: {registry}\n"
            );
            image_layout::cluster::parse(text.as_bytes()).unwrap()
        });
        let identity = Identity {
            plan: Plan {
                host_name: "node-1".to_owned(),
                ..Plan::default()
            },
            role: Role::Registry,
            cluster,
        };
        let addresses = BTreeSet::from(["192.168.0.2".parse().unwrap()]);
        material(&self.place, &identity, addresses)
    }

    /// A node with HTTPS hands over what its registry needs: the file, who changes the node's
    /// addresses, and the task.
    fn hands_over(
        &self,
    ) -> (
        PathBuf,
        watch::Sender<BTreeSet<IpAddr>>,
        JoinHandle<Infallible>,
    ) {
        let text =
            "apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\nregistry: {tls: true}\n";
        let identity = Identity {
            plan: Plan::default(),
            role: Role::Registry,
            cluster: Some(image_layout::cluster::parse(text.as_bytes()).unwrap()),
        };
        let (peer, own) = std::os::unix::net::UnixStream::pair().unwrap();
        let reports = Reports::new(crate::report::Sender::over(own.into()));
        let (sender, addresses) = watch::channel(BTreeSet::new());
        let file = self.place.access().join(node::ACCESS_FILE);
        let place = self.place.clone();
        let task = tokio::spawn(async move {
            let _peer = peer;
            run(&place, &identity, addresses, &reports).await
        });
        (file, sender, task)
    }
}

#[test]
fn without_a_wish_everybody_reads_whatever_the_stick_carries() {
    let node = node().with_authority().with_secret().built_with("");
    for registry in [Some("{}"), Some("{logs: true}"), None] {
        let (material, notices) = node.material(registry);
        assert!(material == Material::default(), "{registry:?}");
        assert!(notices.is_empty());
    }
}

#[test]
fn a_certificate_is_issued_and_the_nodes_password_is_handed_over_as_a_hash() {
    let node = node().with_authority().with_secret();
    let registry = format!("{{tls: true, users: [\"alice:{HASH}\"]}}");
    let (material, notices) = node.material(Some(&registry));
    assert!(notices.is_empty(), "{notices:?}");
    assert!(material.https_only && material.closed.is_none());
    let tls = material.tls.unwrap();
    assert!(tls.certificate.starts_with("-----BEGIN CERTIFICATE-----"));
    let users = material.users.unwrap();
    assert_eq!(users.lines, [format!("alice:{HASH}")]);
    let cluster =
        format!("apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\nregistry: {registry}\n");
    let cluster = image_layout::cluster::parse(cluster.as_bytes()).unwrap();
    let (name, password) = own_user(&node.place.haul, &cluster).unwrap();
    assert_eq!(name, "haulboot-node");
    assert_eq!(users.node, Some(digest(&password)));
    assert_ne!(users.node, Some(password));
}

#[test]
fn https_without_an_authority_on_the_stick_closes_the_registry_and_says_so() {
    let node = node().with_secret();
    let (material, notices) = node.material(Some("{tls: true}"));
    assert!(material.https_only && material.tls.is_none());
    assert!(
        material
            .closed
            .unwrap()
            .contains("built without `registry.tls`")
    );
    assert!(notices[0].contains("build it again"), "{notices:?}");
    // a key that is none
    let node = node.with_authority();
    fs::write(node.secrets.join("tls/registry-ca.key"), "x").unwrap();
    let (material, notices) = node.material(Some("{tls: true}"));
    assert!(material.closed.is_some() && !notices.is_empty());
}

#[test]
fn users_without_a_cluster_have_no_user_of_the_nodes() {
    let (material, _) = node().material(Some(&format!("{{users: [\"alice:{HASH}\"]}}")));
    assert_eq!(material.users.unwrap().node, None);
    assert!(material.closed.is_none());
}

#[test]
fn a_cluster_yaml_that_can_not_be_read_opens_nothing_that_was_closed() {
    for (access, tls, users) in [
        (",\"access\":{\"tls\":true}", true, false),
        (",\"access\":{\"users\":true}", false, true),
        (",\"access\":{\"tls\":true,\"users\":true}", true, true),
        // no image that can be read
        (",", true, true),
    ] {
        let node = node().with_authority().with_secret().built_with(access);
        let (material, notices) = node.material(None);
        assert_eq!(material.https_only, tls, "{access}");
        assert_eq!(material.users.is_some(), users, "{access}");
        assert!(material.closed.is_some() && !notices.is_empty(), "{access}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stick_that_was_away_for_a_moment_closes_the_registry_for_a_moment() {
    let node = node().with_authority();
    let key = node.secrets.join("tls/registry-ca.key");
    let authority = fs::read(&key).unwrap();
    // what can't be read, and is there
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    let (file, _sender, task) = node.hands_over();
    let says = async |word: &str| {
        for _ in 0..30 {
            if fs::read_to_string(&file).is_ok_and(|text| text.contains(word)) {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("{word}: {:?}", fs::read_to_string(&file));
    };
    says("can't be read").await;
    fs::remove_dir(&key).unwrap();
    fs::write(&key, authority).unwrap();
    says("BEGIN CERTIFICATE").await;
    task.abort();
}

#[tokio::test]
async fn another_address_brings_another_certificate() {
    let node = node().with_authority();
    let (file, sender, task) = node.hands_over();
    let other_than = async |old: Vec<u8>| {
        let bound = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            match fs::read(&file) {
                Ok(new) if new != old => return new,
                _ => assert!(std::time::Instant::now() < bound, "nothing is written"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let first = other_than(Vec::new()).await;
    sender.send_replace(BTreeSet::from(["192.168.0.2".parse().unwrap()]));
    let second = other_than(first).await;
    let material: Material = serde_json::from_slice(&second).unwrap();
    assert!(material.tls.is_some() && material.closed.is_none());
    task.abort();
}
