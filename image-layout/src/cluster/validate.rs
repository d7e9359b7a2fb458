//! Checks that types can't express: names, duplicates, what goes together.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::Ipv4Addr;

use super::{
    API_VERSION, Cluster, ClusterError, KIND, Machine, Match, MatchedBy, Node, Place, Role,
};
use crate::htpasswd::HtpasswdLine;
use crate::reference::Host;

/// Checks a document; `text` serves to tell where in it a value stands.
pub(super) fn validate(cluster: &Cluster, text: &str) -> Result<(), ClusterError> {
    let document = Document { text };
    if cluster.api_version != API_VERSION {
        let message = format!("{:?} is not {API_VERSION}", cluster.api_version);
        return Err(document.wrong("apiVersion", &cluster.api_version, 1, message));
    }
    if cluster.kind != KIND {
        let message = format!("{:?} is not {KIND}", cluster.kind);
        return Err(document.wrong("kind", &cluster.kind, 1, message));
    }
    document.name("name", &cluster.name)?;
    document.nodes(
        &cluster.nodes,
        cluster.network.dhcp,
        cluster.network.gateway,
    )?;
    if cluster.unmatched.role == Role::Server && !cluster.nodes.is_empty() {
        let message = "a machine that matches no node can be an agent or a registry; \
                       a server needs a name: list it under nodes:";
        return Err(document.wrong("unmatched.role", "unmatched", 1, message.to_owned()));
    }
    if let Some(address) = &cluster.registry.address
        && address.parse::<Host>().is_err()
    {
        let message = format!(
            "{address:?} must be HOST or HOST:PORT, as other machines reach the registry: \
             registry.edge.example:5000, 192.168.0.2:5000 or [fd00::2]:5000"
        );
        return Err(document.wrong("registry.address", address, 1, message));
    }
    document.users(&cluster.registry.users)?;
    for (i, chart) in cluster.charts.iter().enumerate() {
        document.name(&format!("charts[{i}].name"), &chart.name)?;
        if let Some(namespace) = &chart.namespace {
            document.name(&format!("charts[{i}].namespace"), namespace)?;
        }
    }
    document.unique(
        "charts",
        "name",
        cluster.charts.iter().map(|chart| Some(&chart.name)),
    )?;
    for (i, path) in cluster.manifests.iter().enumerate() {
        let climbs = path.split(['/', '\\']).any(|part| part == "..");
        if path.is_empty() || path.starts_with('/') || climbs {
            let message = format!("{path:?} must be a path beside cluster.yaml");
            return Err(document.wrong(&format!("manifests[{i}]"), path, 1, message));
        }
    }
    Ok(())
}

struct Document<'a> {
    text: &'a str,
}

impl Document<'_> {
    /// `dhcp` and `gateway` are what holds for nodes that say nothing of it themselves.
    fn nodes(
        &self,
        nodes: &[Node],
        dhcp: Option<bool>,
        gateway: Option<Ipv4Addr>,
    ) -> Result<(), ClusterError> {
        for (i, node) in nodes.iter().enumerate() {
            self.name(&format!("nodes[{i}].name"), &node.name)?;
            if let Match::Properties(properties) = &node.matches {
                let path = format!("nodes[{i}].match");
                if properties.is_empty() {
                    let message = "names no property; give mac:, serial: or uuid:, or the word any";
                    return Err(self.wrong(&path, "match", i + 1, message.to_owned()));
                }
                let uuid = properties.uuid.map(|uuid| uuid.to_string());
                let machine = Machine::new(vec![], properties.serial.as_deref(), uuid.as_deref());
                if properties.serial.is_some() && machine.serial.is_none()
                    || properties.uuid.is_some() && machine.uuid.is_none()
                {
                    let message =
                        "is a placeholder that many machines share; match by mac: instead";
                    let said = properties
                        .serial
                        .as_deref()
                        .or(uuid.as_deref())
                        .unwrap_or("match");
                    return Err(self.wrong(&path, said, 1, message.to_owned()));
                }
            }
            if let (Some(address), Some(gateway)) = (node.address, node.network.gateway)
                && !address.contains(gateway)
            {
                let message = format!("{gateway} is not in the network of {address}");
                let path = format!("nodes[{i}].network.gateway");
                return Err(self.wrong(&path, &gateway.to_string(), 1, message));
            }
            if let (Some(address), Some(gateway)) = (node.address, node.network.gateway.or(gateway))
                && address.address == gateway
            {
                let message = format!("{gateway} is the gateway; a node can't be its own");
                let path = format!("nodes[{i}].address");
                return Err(self.wrong(&path, &address.to_string(), 1, message));
            }
            if node.address.is_some() && node.network.dhcp == Some(true) {
                let message = "has an address and dhcp: true; remove one of them";
                return Err(self.wrong(&format!("nodes[{i}]"), "dhcp", 1, message.to_owned()));
            }
            if node.address.is_none() && node.network.dhcp.or(dhcp) == Some(false) {
                let message = "has neither an address nor dhcp";
                return Err(self.wrong(&format!("nodes[{i}]"), &node.name, 1, message.to_owned()));
            }
        }
        self.unique("nodes", "name", nodes.iter().map(|node| Some(&node.name)))?;
        let address = |node: &Node| node.address.map(|cidr| cidr.address);
        self.unique("nodes", "address", nodes.iter().map(address))?;
        let property = |node: &Node| match &node.matches {
            Match::Any => Some("any".to_owned()),
            Match::Properties(p) => Some(MatchedBy::Properties(p.clone()).to_string()),
        };
        self.unique("nodes", "match", nodes.iter().map(property))
    }

    /// Lines of an htpasswd file. No message shows a hash.
    fn users(&self, users: &[String]) -> Result<(), ClusterError> {
        let lines = users.iter().map(String::as_str);
        let Err((i, error)) = HtpasswdLine::all(lines) else {
            return Ok(());
        };
        let line = users.get(i).map_or("", String::as_str);
        // the same line a second time
        let nth = 1 + users.iter().take(i).filter(|other| *other == line).count();
        let path = format!("registry.users[{i}]");
        Err(self.wrong(&path, line.trim(), nth, error.to_string()))
    }

    /// A DNS label: what Kubernetes takes as the name of a node, namespace or release.
    fn name(&self, path: &str, name: &str) -> Result<(), ClusterError> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let good = (1..=63).contains(&name.len())
            && name.bytes().all(inner)
            && !name.starts_with('-')
            && !name.ends_with('-');
        if !good {
            let message = format!(
                "{name:?} must be 1 to 63 lower-case letters, digits and dashes, \
                 with no dash at either end"
            );
            return Err(self.wrong(path, name, 1, message));
        }
        if name == "localhost" {
            return Err(self.wrong(
                path,
                name,
                1,
                "no machine can be called localhost".to_owned(),
            ));
        }
        Ok(())
    }

    fn unique<T: Ord + Display>(
        &self,
        list: &str,
        key: &str,
        values: impl Iterator<Item = Option<T>>,
    ) -> Result<(), ClusterError> {
        let mut seen = BTreeMap::new();
        for (i, value) in values.enumerate() {
            let Some(value) = value else { continue };
            let shown = value.to_string();
            if let Some(first) = seen.insert(value, i) {
                let message = format!("{shown} is given to {list}[{first}] already");
                let needle = shown.rsplit(' ').next().unwrap_or(&shown).to_owned();
                return Err(self.wrong(&format!("{list}[{i}].{key}"), &needle, 2, message));
            }
        }
        Ok(())
    }

    /// An error about `path` whose value reads `needle` and is its `nth` occurrence (from 1).
    fn wrong(&self, path: &str, needle: &str, nth: usize, message: String) -> ClusterError {
        ClusterError::Value {
            place: self.find(needle, nth),
            path: path.to_owned(),
            message,
        }
    }

    fn find(&self, needle: &str, nth: usize) -> Option<Place> {
        if needle.is_empty() {
            return None;
        }
        let hit = |line: &str, at: usize| {
            // a whole word, so that `w-1` is not found in `w-10`
            let bounded =
                |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '-' && c != '.');
            bounded(line[..at].chars().next_back())
                && bounded(line[at + needle.len()..].chars().next())
        };
        self.text
            .lines()
            .enumerate()
            .flat_map(|(number, line)| {
                let code = line.split(" #").next().unwrap_or(line);
                line.match_indices(needle)
                    .filter(move |(at, _)| *at < code.len() && hit(line, *at))
                    .map(move |(at, _)| Place {
                        line: number + 1,
                        column: at + 1,
                    })
                    .collect::<Vec<_>>()
            })
            .nth(nth.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use crate::cluster::parse;

    fn refused(nodes: &str) -> String {
        let text = format!("apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\n{nodes}");
        parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn duplicates_are_refused_with_both_nodes_and_the_place() {
        let node = |name: &str, rest: &str| format!("- {{name: {name}, role: agent, {rest}}}\n");
        let two = |a: String, b: String| refused(&format!("nodes:\n{a}{b}"));
        let error = two(
            node("w-1", "match: {serial: A1}"),
            node("w-1", "match: {serial: A2}"),
        );
        assert_eq!(
            error,
            "line 6, column 10: nodes[1].name: w-1 is given to nodes[0] already"
        );
        let error = two(
            node("w-1", "match: {serial: A1}, address: 10.0.0.4/24"),
            node("w-2", "match: {serial: A2}, address: 10.0.0.4/16"),
        );
        assert!(error.starts_with("line 6, column "), "{error}");
        assert!(
            error.contains("nodes[1].address: 10.0.0.4 is given to nodes[0]"),
            "{error}"
        );
        let error = two(node("w-1", "match: any"), node("w-2", "match: any"));
        assert!(error.contains("any is given to nodes[0]"), "{error}");
        let error = two(
            node("w-1", "match: {serial: A1}"),
            node("w-2", "match: {serial: A1}"),
        );
        assert!(error.contains("serial A1 is given to nodes[0]"), "{error}");
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for (nodes, part) in [
            (
                "nodes: [{name: W_1, match: any, role: agent}]",
                "lower-case letters",
            ),
            (
                "nodes: [{name: localhost, match: any, role: agent}]",
                "localhost",
            ),
            (
                "nodes: [{name: a, match: {}, role: agent}]",
                "names no property",
            ),
            (
                "nodes: [{name: a, match: {serial: Default string}, role: agent}]",
                "placeholder",
            ),
            (
                "nodes: [{name: a, match: any, role: agent, address: 10.0.0.2/24, network: {gateway: 10.1.0.1}}]",
                "10.1.0.1 is not in the network of 10.0.0.2/24",
            ),
            (
                "network: {dhcp: false}\nnodes: [{name: a, match: any, role: agent}]",
                "neither an address nor dhcp",
            ),
            (
                "network: {gateway: 10.0.0.1}\nnodes: [{name: a, match: any, role: agent, address: 10.0.0.1/24}]",
                "10.0.0.1 is the gateway",
            ),
            ("manifests: [../secret]", "beside cluster.yaml"),
            (
                "registry: {address: \"https://depot:5000\"}",
                "registry.address: \"https://depot:5000\" must be HOST or HOST:PORT",
            ),
            ("registry: {address: depot:70000}", "registry.address"),
            ("registry: {address: \"fd00::2\"}", "[fd00::2]:5000"),
        ] {
            let error = refused(nodes);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn users_are_checked_with_line_and_column() {
        let hash = "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";
        let users = |lines: &[String]| {
            let lines: String = lines.iter().map(|line| format!("  - {line}\n")).collect();
            format!("registry:\n  tls: true\n  users:\n{lines}")
        };
        let good = users(&[format!("alice:{hash}"), format!("'bob:{hash}'")]);
        let good = format!("apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\n{good}");
        assert_eq!(parse(good.as_bytes()).unwrap().registry.users.len(), 2);
        for (lines, start) in [
            (
                [format!("alice:{hash}"), "bob:geheim".to_owned()],
                "line 8, column 5: registry.users[1]: the password of bob is not hashed",
            ),
            (
                [format!("alice:{hash}"), format!("alice:{hash}")],
                "line 8, column 5: registry.users[1]: alice has a line already",
            ),
            (
                [format!("haulboot-node:{hash}"), format!("alice:{hash}")],
                "line 7, column 5: registry.users[0]: the name haulboot-node is the nodes' own",
            ),
        ] {
            let error = refused(&users(&lines));
            assert!(error.starts_with(start), "{error}");
            assert!(!error.contains("bvIG6"), "{error}");
        }
    }

    #[test]
    fn another_version_of_the_format_is_refused_by_name() {
        let error = parse(b"apiVersion: haulboot.dev/v9\nkind: Cluster\nname: a\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 1, column 13: apiVersion: \"haulboot.dev/v9\" is not haulboot.dev/v1"
        );
    }
}
