//! The one line that says what a node is and serves.

use image_layout::status::{ClusterPhase, ClusterStatus, Status};

use super::text::size;

/// `edge/cp-1 (server) at 192.168.0.2 serves mixed.tar.zst: 35 blobs, 12.0 MiB at
/// http://192.168.0.2:5000/; k3s v1.36.3+k3s1 is Ready`.
pub(super) fn line(status: &Status, serves: bool) -> String {
    let node = status.node.clone().unwrap_or_default();
    let mut who = match (node.cluster.is_empty(), node.name.is_empty()) {
        (false, false) => format!("{}/{}", node.cluster, node.name),
        (true, false) => node.name.clone(),
        _ => "this machine".to_owned(),
    };
    if !node.role.is_empty() {
        who.push_str(&format!(" ({})", node.role));
    }
    let bare = |address: &String| {
        let bare = address.split('/').next().unwrap_or_default();
        bare.to_owned()
    };
    let addresses: Vec<String> = node.addresses.iter().map(bare).collect();
    let at = match addresses.is_empty() {
        true => " without an address".to_owned(),
        false => format!(" at {}", addresses.join(", ")),
    };
    let k3s = match (node.role.as_str(), &status.cluster) {
        ("server" | "agent", Some(cluster)) => format!("; {}", k3s(cluster)),
        _ => String::new(),
    };
    if !serves {
        return format!("{who}{at} is up, the registry is not{k3s}");
    }
    let what = status.image.as_ref().map_or_else(
        || "a haul".to_owned(),
        |image| {
            let hauls: Vec<&str> = image.hauls.iter().map(|haul| haul.name.as_str()).collect();
            let blobs = image.blobs;
            format!(
                "{}: {} blobs, {}",
                hauls.join(", "),
                blobs.count,
                size(blobs.bytes)
            )
        },
    );
    let host = addresses.first().map_or("localhost", String::as_str);
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let scheme = if node.https { "https" } else { "http" };
    format!("{who}{at} serves {what} at {scheme}://{host}:5000/{k3s}")
}

/// `k3s v1.36.3+k3s1 is Ready, its server is https://192.168.0.2:6443`.
fn k3s(cluster: &ClusterStatus) -> String {
    let mut text = "k3s".to_owned();
    if !cluster.k3s.is_empty() {
        text.push_str(&format!(" {}", cluster.k3s));
    }
    text.push_str(match cluster.phase {
        ClusterPhase::Preparing => " is not started",
        ClusterPhase::WaitingForServer => " waits for its server",
        ClusterPhase::Starting => " is starting",
        ClusterPhase::WaitingForNode => " is up, the node not Ready yet",
        ClusterPhase::Ready => " is Ready",
        ClusterPhase::NotReady => " runs, the node is not Ready",
        ClusterPhase::Failed => " does not run",
    });
    if !cluster.server.is_empty() {
        text.push_str(&format!(", its server is {}", cluster.server));
    }
    text
}

#[cfg(test)]
mod tests {
    use image_layout::status::NodeStatus;

    use super::*;

    #[test]
    fn the_line_says_who_where_and_what() {
        let mut status = Status {
            node: Some(NodeStatus {
                cluster: "edge".into(),
                name: "cp-1".into(),
                role: "server".into(),
                addresses: vec!["192.168.0.2/24".into(), "fd00::2/64".into()],
                ..NodeStatus::default()
            }),
            ..Status::default()
        };
        assert_eq!(
            line(&status, true),
            "edge/cp-1 (server) at 192.168.0.2, fd00::2 serves a haul at http://192.168.0.2:5000/"
        );
        status.cluster = Some(ClusterStatus {
            k3s: "v1.36.3+k3s1".into(),
            phase: ClusterPhase::Ready,
            server: "https://192.168.0.3:6443".into(),
            ..ClusterStatus::default()
        });
        assert!(line(&status, true).ends_with(
            ":5000/; k3s v1.36.3+k3s1 is Ready, its server is https://192.168.0.3:6443"
        ));
        status.node = None;
        assert_eq!(
            line(&status, false),
            "this machine without an address is up, the registry is not"
        );
    }
}
