//! The one line that says what a node is and serves.

use image_layout::status::Status;

use super::text::size;

/// `edge/cp-1 (server) at 192.168.0.2: mixed.tar.zst, 35 blobs, 12.0 MiB at http://192.168.0.2:5000/`.
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
    if !serves {
        return format!("{who}{at} is up, the registry is not");
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
    format!("{who}{at} serves {what} at http://{host}:5000/")
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
        status.node = None;
        assert_eq!(
            line(&status, false),
            "this machine without an address is up, the registry is not"
        );
    }
}
