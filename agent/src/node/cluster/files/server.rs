//! Which server an agent joins.

use image_layout::cluster::{Cluster, Role};

use super::FilesError;
use super::user_keys::UserKeys;

/// Where k3s listens unless it is told otherwise.
const PORT: &str = "6443";

/// The address that agents join, `https://192.168.0.2:6443`: what stands under `k3s:`, else the
/// first server of `cluster.yaml`.
pub(in crate::node) fn server_address(cluster: &Cluster) -> Result<String, FilesError> {
    let user = UserKeys::new(&cluster.k3s);
    if let Some(server) = user.text("server").filter(|server| !server.is_empty()) {
        return Ok(server);
    }
    let mut servers = cluster
        .nodes
        .iter()
        .filter(|node| node.role == Role::Server);
    let first = servers.next().ok_or(FilesError::NoServer)?;
    let Some(address) = first.address else {
        return Err(FilesError::ServerWithoutAddress(first.name.clone()));
    };
    let port = user.text("https-listen-port");
    let port = port.as_deref().unwrap_or(PORT);
    Ok(format!("https://{}:{port}", address.address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(rest: &str) -> Result<String, String> {
        let text = format!("apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\n{rest}\n");
        let cluster = image_layout::cluster::parse(text.as_bytes()).unwrap();
        server_address(&cluster).map_err(|error| error.to_string())
    }

    #[test]
    fn agents_join_the_first_server_or_what_they_are_told() {
        let nodes = "nodes:\n- {name: w, match: {serial: A1}, role: agent, address: 10.0.0.9/24}\n\
                     - {name: a, match: {serial: A2}, role: server, address: 10.0.0.2/24}\n\
                     - {name: b, match: {serial: A3}, role: server, address: 10.0.0.3/24}";
        assert_eq!(joined(nodes).as_deref(), Ok("https://10.0.0.2:6443"));
        let port = format!("k3s: {{https-listen-port: 7443}}\n{nodes}");
        assert_eq!(joined(&port).as_deref(), Ok("https://10.0.0.2:7443"));
        let told = format!("k3s: {{s: \"https://k3s.example:6443\"}}\n{nodes}");
        assert_eq!(joined(&told).as_deref(), Ok("https://k3s.example:6443"));
    }

    #[test]
    fn why_there_is_no_server_to_join_is_said() {
        let none = joined("nodes: [{name: w, match: any, role: agent}]");
        assert_eq!(
            none.unwrap_err(),
            "cluster.yaml has no node with role: server"
        );
        let unknown = joined("nodes: [{name: a, match: any, role: server}]");
        assert_eq!(
            unknown.unwrap_err(),
            "the server a has no address in cluster.yaml"
        );
    }
}
