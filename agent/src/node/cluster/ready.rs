//! The own Node as the API server has it, asked for with the kubelet's credentials.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::http::{Client, HttpError, Origin, PemError};

/// Bytes of a Node: names of a hundred images, and conditions.
const NODE_BYTES: usize = 4 << 20;
/// Bytes of one file of the kubelet's.
const FILE_BYTES: u64 = 256 << 10;

/// What is seen of the own Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// There it is.
    Node(NodeObject),
    /// The API server does not know it.
    Unknown,
    /// Nobody answered, or not to this question; why.
    Silent(String),
}

/// What counts of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeObject {
    /// Whether it is Ready.
    pub(super) ready: bool,
    /// Why it is not, in Kubernetes' words.
    pub(super) why: String,
    /// The boot whose kubelet wrote it (`/proc/sys/kernel/random/boot_id`).
    pub(super) boot_id: String,
    /// The machine whose kubelet wrote it (`/etc/machine-id`).
    pub(super) machine_id: String,
}

/// Why the API server was not even asked.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("{path}: {source}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: {what}", path = .path.display())]
    Kubeconfig { path: PathBuf, what: String },
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("the API server: {0}")]
    Http(#[from] HttpError),
    #[error("the API server answers with {0}")]
    Status(u16),
    #[error("the API server's Node can't be read: {0}")]
    Node(#[from] serde_json::Error),
}

/// Asks for the Node `name`. `data_dir` is k3s's.
pub(super) async fn look(data_dir: &Path, name: &str) -> Look {
    match ask(data_dir, name).await {
        Ok(Some(object)) => Look::Node(object),
        Ok(None) => Look::Unknown,
        Err(error) => Look::Silent(error.to_string()),
    }
}

async fn ask(data_dir: &Path, name: &str) -> Result<Option<NodeObject>, LookError> {
    let kubeconfig = Kubeconfig::read(&data_dir.join("agent/kubelet.kubeconfig"))?;
    let origin = Origin::parse(&kubeconfig.server)?;
    let client = Client::new(
        &file(&kubeconfig.authority)?,
        Some((&file(&kubeconfig.certificate)?, &file(&kubeconfig.key)?)),
    )?;
    let path = format!("/api/v1/nodes/{name}");
    let answer = client.get(&origin, &path, None, NODE_BYTES).await?;
    match answer.status {
        200 => Ok(Some(parse(&answer.body)?)),
        404 => Ok(None),
        status => Err(LookError::Status(status)),
    }
}

fn file(path: &Path) -> Result<Vec<u8>, LookError> {
    crate::node::read_bounded(path, FILE_BYTES).map_err(|source| LookError::File {
        path: path.to_owned(),
        source,
    })
}

/// What counts of a kubeconfig as k3s writes it: one cluster, one user, everything by paths
/// (k3s: pkg/agent/config, pkg/daemons/control/deps).
#[derive(Debug, PartialEq, Eq)]
struct Kubeconfig {
    server: String,
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Kubeconfig {
    fn read(path: &Path) -> Result<Kubeconfig, LookError> {
        let wrong = |what: &str| LookError::Kubeconfig {
            path: path.to_owned(),
            what: what.to_owned(),
        };
        let bytes = file(path)?;
        let read: KubeconfigFile =
            serde_yaml::from_slice(&bytes).map_err(|error| wrong(&error.to_string()))?;
        let cluster = read.clusters.into_iter().next();
        let cluster = cluster.ok_or_else(|| wrong("it names no cluster"))?.cluster;
        let user = read.users.into_iter().next();
        let user = user.ok_or_else(|| wrong("it names no user"))?.user;
        Ok(Kubeconfig {
            server: cluster.server,
            authority: cluster.certificate_authority,
            certificate: user.client_certificate,
            key: user.client_key,
        })
    }
}

#[derive(Deserialize)]
struct KubeconfigFile {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    cluster: KubeCluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct KubeCluster {
    server: String,
    certificate_authority: PathBuf,
}

#[derive(Deserialize)]
struct NamedUser {
    user: KubeUser,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct KubeUser {
    client_certificate: PathBuf,
    client_key: PathBuf,
}

#[derive(Deserialize)]
struct NodeJson {
    #[serde(default)]
    status: NodeStatusJson,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeStatusJson {
    conditions: Vec<Condition>,
    node_info: NodeInfo,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeInfo {
    #[serde(rename = "bootID")]
    boot_id: String,
    #[serde(rename = "machineID")]
    machine_id: String,
}

fn parse(json: &[u8]) -> Result<NodeObject, serde_json::Error> {
    let NodeStatusJson {
        conditions,
        node_info,
    } = serde_json::from_slice::<NodeJson>(json)?.status;
    let ready = conditions.into_iter().find(|c| c.kind == "Ready");
    let (is_ready, why) = match ready {
        Some(ready) => (ready.status == "True", ready.message),
        None => (false, "its kubelet has not reported yet".to_owned()),
    };
    Ok(NodeObject {
        ready: is_ready,
        why,
        boot_id: node_info.boot_id,
        machine_id: node_info.machine_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_by_that_condition_alone() {
        let json = |conditions: &str| {
            format!(
                r#"{{"kind":"Node","metadata":{{"name":"a"}},"status":{{"conditions":[{conditions}],
                "nodeInfo":{{"bootID":"b","machineID":"m","kernelVersion":"6.12"}}}}}}"#
            )
        };
        let disk = r#"{"type":"DiskPressure","status":"True"}"#;
        for (conditions, ready, why) in [
            (disk.to_owned(), false, "its kubelet has not reported yet"),
            (
                format!(r#"{disk},{{"type":"Ready","status":"True","message":"ok"}}"#),
                true,
                "ok",
            ),
            (
                r#"{"type":"Ready","status":"Unknown","message":"no word"}"#.to_owned(),
                false,
                "no word",
            ),
        ] {
            let object = parse(json(&conditions).as_bytes()).unwrap();
            assert_eq!((object.ready, object.why.as_str()), (ready, why));
            assert_eq!(
                (object.boot_id.as_str(), object.machine_id.as_str()),
                ("b", "m")
            );
        }
        assert!(!parse(br#"{"kind":"Node"}"#).unwrap().ready);
        assert!(parse(b"pong").is_err());
    }

    #[test]
    fn the_kubelets_kubeconfig_names_server_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubelet.kubeconfig");
        std::fs::write(
            &path,
            "apiVersion: v1\nclusters:\n- cluster:\n    server: https://127.0.0.1:6444\n    \
             certificate-authority: /d/agent/server-ca.crt\n  name: local\ncontexts: []\n\
             current-context: Default\nkind: Config\npreferences: {}\nusers:\n- name: user\n  \
             user:\n    client-certificate: /d/agent/client-kubelet.crt\n    client-key: \
             /d/agent/client-kubelet.key\n",
        )
        .unwrap();
        assert_eq!(
            Kubeconfig::read(&path).unwrap(),
            Kubeconfig {
                server: "https://127.0.0.1:6444".into(),
                authority: "/d/agent/server-ca.crt".into(),
                certificate: "/d/agent/client-kubelet.crt".into(),
                key: "/d/agent/client-kubelet.key".into(),
            }
        );
        std::fs::write(&path, "clusters: []\nusers: []\n").unwrap();
        let error = Kubeconfig::read(&path).unwrap_err().to_string();
        assert!(error.ends_with("it names no cluster"), "{error}");
    }
}
