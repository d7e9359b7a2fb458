//! The document as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Network, Node, State, Unmatched};

/// `cluster.yaml`. Key names are the file's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    /// [`super::API_VERSION`].
    pub api_version: String,
    /// [`super::KIND`].
    pub kind: String,
    /// Name of the cluster.
    pub name: String,
    /// The registry on every node.
    #[serde(default)]
    pub registry: Registry,
    /// Defaults of the network for every node.
    #[serde(default)]
    pub network: Network,
    /// Keys and values of k3s's own `config.yaml`, passed through.
    #[serde(default)]
    pub k3s: BTreeMap<String, serde_yaml::Value>,
    /// The machines.
    #[serde(default)]
    pub nodes: Vec<Node>,
    /// What a machine does that matches no node.
    #[serde(default)]
    pub unmatched: Unmatched,
    /// Where k3s keeps its data.
    #[serde(default)]
    pub state: State,
    /// Helm charts of the haul to install.
    #[serde(default)]
    pub charts: Vec<Chart>,
    /// Files or directories beside `cluster.yaml` with manifests to apply.
    #[serde(default)]
    pub manifests: Vec<String>,
}

/// `registry:`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// How other machines reach it, `HOST:PORT`; default: each node its own.
    #[serde(default)]
    pub address: Option<String>,
    /// Whether `/logs/` answers other machines too.
    #[serde(default)]
    pub logs: bool,
    /// HTTPS with a certificate of the cluster's own authority.
    #[serde(default)]
    pub tls: bool,
    /// Lines of an htpasswd file (bcrypt), [`crate::htpasswd`]. Empty: everybody may read.
    #[serde(default)]
    pub users: Vec<String>,
}

/// One of `charts:`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Chart {
    /// Name of the release.
    pub name: String,
    /// Chart in the haul, `hauler/hello-world`.
    pub chart: String,
    /// Version; default: the newest in the haul.
    #[serde(default)]
    pub version: Option<String>,
    /// Namespace to install into, made if it is missing.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Values, as in a values.yaml.
    #[serde(default)]
    pub values: BTreeMap<String, serde_yaml::Value>,
}
