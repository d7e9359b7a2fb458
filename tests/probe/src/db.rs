//! What the probe server remembers: passwords and nodes, in DATA-DIR/server/db.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// After how many seconds without a heartbeat a node counts as gone (kube-controller-manager:
/// node-monitor-grace-period).
const GRACE: u64 = 50;

/// Passwords and nodes.
#[derive(Debug, Default)]
pub struct Db {
    path: PathBuf,
    kept: Kept,
    heartbeats: BTreeMap<String, u64>,
    began: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    passwords: BTreeMap<String, String>,
    nodes: BTreeMap<String, Node>,
}

/// A node as it registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its `/etc/machine-id`.
    pub machine_id: String,
    /// Its `/proc/sys/kernel/random/boot_id` when its kubelet last wrote.
    #[serde(default)]
    pub boot_id: String,
    /// Its node-ip.
    pub address: String,
    /// What its kubelet last said.
    pub ready: bool,
}

impl Db {
    /// Opens the file, or begins with nothing.
    pub fn open(data_dir: &Path) -> Result<Db> {
        let directory = data_dir.join("server/db");
        std::fs::create_dir_all(&directory)?;
        let path = directory.join("probe.json");
        let kept = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).context("reading the database")?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error).context("reading the database"),
        };
        Ok(Db {
            path,
            kept,
            heartbeats: BTreeMap::new(),
            began: now(),
        })
    }

    /// Binds a name to the first password that comes with it; false for any other one.
    pub fn password(&mut self, name: &str, password: &str) -> Result<bool> {
        if let Some(known) = self.kept.passwords.get(name) {
            return Ok(known == password);
        }
        self.kept
            .passwords
            .insert(name.to_owned(), password.to_owned());
        self.save()?;
        Ok(true)
    }

    /// Registers a node, or takes its new state.
    pub fn put(&mut self, name: &str, node: Node) -> Result<()> {
        self.heartbeat(name);
        if self.kept.nodes.get(name) != Some(&node) {
            self.kept.nodes.insert(name.to_owned(), node);
            self.save()?;
        }
        Ok(())
    }

    /// Whether a node of that name is known.
    pub fn knows(&self, name: &str) -> bool {
        self.kept.nodes.contains_key(name)
    }

    /// A node's kubelet lives.
    pub fn heartbeat(&mut self, name: &str) {
        self.heartbeats.insert(name.to_owned(), now());
    }

    /// A node as the API shows it.
    pub fn node(&self, name: &str) -> Option<Value> {
        let node = self.kept.nodes.get(name)?;
        let seen = self.heartbeats.get(name).copied().unwrap_or(self.began);
        let status = match now().saturating_sub(seen) > GRACE {
            true => "Unknown",
            false if node.ready => "True",
            false => "False",
        };
        Some(json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {
                "addresses": [
                    {"type": "InternalIP", "address": node.address},
                    {"type": "Hostname", "address": name},
                ],
                "conditions": [
                    {"type": "MemoryPressure", "status": "False"},
                    {"type": "DiskPressure", "status": "False"},
                    {"type": "Ready", "status": status, "reason": "KubeletReady"},
                ],
                "nodeInfo": {
                    "machineID": node.machine_id,
                    "bootID": node.boot_id,
                    "kubeletVersion": crate::VERSION,
                },
            },
        }))
    }

    /// Every node as the API shows them.
    pub fn list(&self) -> Value {
        let items: Vec<Value> = self
            .kept
            .nodes
            .keys()
            .filter_map(|name| self.node(name))
            .collect();
        json!({"apiVersion": "v1", "kind": "NodeList", "metadata": {}, "items": items})
    }

    fn save(&self) -> Result<()> {
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(&self.kept)?)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &self.path)?;
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_nodes_outlive_the_server() {
        let directory = tempfile::tempdir().unwrap();
        let mut db = Db::open(directory.path()).unwrap();
        assert!(db.password("n1", "a").unwrap());
        let node = Node {
            ready: true,
            ..Node::default()
        };
        db.put("n1", node).unwrap();
        let mut again = Db::open(directory.path()).unwrap();
        assert!(again.knows("n1"));
        assert!(!again.password("n1", "b").unwrap());
        assert!(again.password("n1", "a").unwrap());
        assert_eq!(
            again.list()["items"][0]["status"]["conditions"][2]["status"],
            "True"
        );
    }
}
