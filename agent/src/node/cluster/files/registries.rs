//! `/etc/rancher/k3s/registries.yaml`: every image comes from the node's own registry.

use std::path::Path;

use serde_yaml::{Mapping, Value};

use super::FilesError;
use super::write::{below, directory, put};
use crate::mirrors::rancher;
use crate::registry::NODE_PORT;

/// Where k3s looks for it (k3s: pkg/cli/cmds/agent.go, `private-registry`).
const PATH: &str = "etc/rancher/k3s/registries.yaml";

/// Writes the file. `hosts` are the registries of the haul's images, `user` the name and password
/// that the node's own registry asks for, if it does.
pub(super) fn write(
    root: &Path,
    hosts: &[String],
    user: Option<&(&str, String)>,
) -> Result<(), FilesError> {
    let path = below(root, Path::new(PATH));
    if let Some(parent) = path.parent() {
        directory(parent, 0o755)?;
    }
    let text = image_layout::yaml::render(&document(hosts, user));
    put(&path, text.as_bytes()).map(drop)
}

/// `configs:` has no entry but the node's own registry's: one for a mirrored host would bring
/// its own address back as a fallback (k3s: pkg/agent/containerd, getHostConfigs). That registry
/// answers its own machine over HTTP, whatever it asks of others, so that no authority is needed.
fn document(hosts: &[String], user: Option<&(&str, String)>) -> Value {
    let endpoint = format!("http://127.0.0.1:{NODE_PORT}");
    let mirrors = rancher::mirrors(&endpoint, hosts.iter().map(String::as_str));
    let mut document = Mapping::from_iter([("mirrors".into(), mirrors)]);
    if let Some((name, password)) = user {
        let of = |key: &str, value: Value| Value::from(Mapping::from_iter([(key.into(), value)]));
        let auth = Mapping::from_iter([
            ("username".into(), (*name).into()),
            ("password".into(), password.as_str().into()),
        ]);
        let own = format!("127.0.0.1:{NODE_PORT}");
        document.insert("configs".into(), of(&own, of("auth", auth.into())));
    }
    Value::Mapping(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_registry_of_the_haul_and_any_other_is_the_nodes_own() {
        let hosts = ["quay.io", "docker.io", "10.0.0.1:5000"].map(str::to_owned);
        let text = image_layout::yaml::render(&document(&hosts, None));
        let mirror = "    endpoint:\n      - \"http://127.0.0.1:5000\"\n";
        assert_eq!(
            text,
            format!(
                "mirrors:\n  \"*\":\n{mirror}  \"10.0.0.1:5000\":\n{mirror}  docker.io:\n{mirror}  \
                 quay.io:\n{mirror}"
            )
        );
    }

    #[test]
    fn k3s_has_the_nodes_password_where_the_registry_asks_for_one() {
        let user = ("haulboot-node", "a9".to_owned());
        let text = image_layout::yaml::render(&document(&[], Some(&user)));
        let configs = "configs:\n  \"127.0.0.1:5000\":\n    auth:\n      \
                       username: \"haulboot-node\"\n      password: \"a9\"\n";
        assert!(text.ends_with(configs), "{text}");
        assert!(text.starts_with("mirrors:\n"), "{text}");
    }
}
