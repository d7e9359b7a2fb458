//! `/etc/rancher/k3s/registries.yaml`: every image comes from the node's own registry.

use std::path::Path;

use serde_yaml::{Mapping, Value};

use super::FilesError;
use super::write::{below, directory, put};
use crate::mirrors::rancher;
use crate::registry::NODE_PORT;

/// Where k3s looks for it (k3s: pkg/cli/cmds/agent.go, `private-registry`).
const PATH: &str = "etc/rancher/k3s/registries.yaml";
/// Writes the file. `hosts` are the registries of the haul's images.
pub(super) fn write(root: &Path, hosts: &[String]) -> Result<(), FilesError> {
    let path = below(root, Path::new(PATH));
    if let Some(parent) = path.parent() {
        directory(parent, 0o755)?;
    }
    let text = image_layout::yaml::render(&document(hosts));
    put(&path, text.as_bytes()).map(drop)
}

/// There is no `configs:`: an entry for one of these hosts would bring its own address back as a
/// fallback (k3s: pkg/agent/containerd, getHostConfigs).
fn document(hosts: &[String]) -> Value {
    let endpoint = format!("http://127.0.0.1:{NODE_PORT}");
    let mirrors = rancher::mirrors(&endpoint, hosts.iter().map(String::as_str));
    Value::Mapping(Mapping::from_iter([("mirrors".into(), mirrors)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_registry_of_the_haul_and_any_other_is_the_nodes_own() {
        let hosts = ["quay.io", "docker.io", "10.0.0.1:5000"].map(str::to_owned);
        let text = image_layout::yaml::render(&document(&hosts));
        let mirror = "    endpoint:\n      - \"http://127.0.0.1:5000\"\n";
        assert_eq!(
            text,
            format!(
                "mirrors:\n  \"*\":\n{mirror}  \"10.0.0.1:5000\":\n{mirror}  docker.io:\n{mirror}  \
                 quay.io:\n{mirror}"
            )
        );
    }
}
