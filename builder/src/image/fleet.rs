//! What a `cluster.yaml` asks for that k3s on this image can't do.

use std::path::{Path, PathBuf};

use image_layout::catalog::{ArtifactKind, Catalog};
use image_layout::cluster::{Chart, Cluster, Role};

/// Names that an error lists before it says how many more there are.
const SHOWN: usize = 8;

/// Why a cluster can't start as described.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// More than one server.
    #[error("{}: {first} and {second} are both servers; this version starts one server", path.display())]
    TwoServers {
        /// The file.
        path: PathBuf,
        /// A server's name.
        first: String,
        /// Another one's.
        second: String,
    },
    /// Agents that have nobody to join.
    #[error("{}: {who} no node with role: server to join", path.display())]
    NoServer {
        /// The file.
        path: PathBuf,
        /// `w-1 is an agent and there is`, or the like.
        who: String,
    },
    /// An image for agents, and nothing that says where their server is.
    #[error("an image for agents needs a cluster.yaml that names their server")]
    NoConfig,
    /// An image for agents without k3s.
    #[error("an image for agents needs k3s")]
    NoK3s,
    /// A chart that is not in the haul.
    #[error("{}: charts: {release}: {wanted} is not in the haul; {has}", path.display())]
    NoChart {
        /// The file.
        path: PathBuf,
        /// Name of the release.
        release: String,
        /// The chart, and its version if one is asked for.
        wanted: String,
        /// What there is instead.
        has: String,
    },
}

impl FleetError {
    /// What a person can do about it.
    pub fn help(&self) -> &'static str {
        match self {
            FleetError::TwoServers { .. } => {
                "make one of them an agent; several servers come with a later version"
            }
            FleetError::NoServer { .. } => {
                "add the server to nodes:, with role: server and its address"
            }
            FleetError::NoConfig => {
                "give it with --config, the same file as for the servers' image"
            }
            FleetError::NoK3s => "add --k3s FILE, or leave --role out",
            FleetError::NoChart { .. } => {
                "name one of those, or add the chart to the haul: hauler store add chart"
            }
        }
    }
}

/// Looks at the roles of an image with k3s.
pub(super) fn check_roles(
    path: &Path,
    cluster: &Cluster,
    agents_only: bool,
) -> Result<(), FleetError> {
    let of = |role| cluster.nodes.iter().filter(move |node| node.role == role);
    let mut servers = of(Role::Server);
    let (first, second) = (servers.next(), servers.next());
    if let (Some(first), Some(second)) = (first, second) {
        return Err(FleetError::TwoServers {
            path: path.to_owned(),
            first: first.name.clone(),
            second: second.name.clone(),
        });
    }
    if first.is_some() {
        return Ok(());
    }
    let who = match of(Role::Agent).next() {
        Some(node) => format!("{} is an agent, and there is", node.name),
        None if cluster.unmatched.role == Role::Agent => {
            "unmatched: makes agents, and there is".to_owned()
        }
        None if agents_only => "the image is for agents, and there is".to_owned(),
        None => return Ok(()),
    };
    Err(FleetError::NoServer {
        path: path.to_owned(),
        who,
    })
}

/// What is odd about the roles without being an error.
pub(super) fn oddity(cluster: &Cluster) -> Option<String> {
    let server = cluster
        .nodes
        .iter()
        .find(|node| node.role == Role::Server)?;
    let agents = cluster.nodes.iter().any(|node| node.role == Role::Agent)
        || cluster.unmatched.role == Role::Agent;
    (agents && server.address.is_none()).then(|| {
        format!(
            "agents join {0} by its address, and cluster.yaml gives it none: add address: to {0}",
            server.name
        )
    })
}

/// Looks for every chart in the haul.
pub(super) fn check_charts(
    path: &Path,
    charts: &[Chart],
    catalog: &Catalog,
) -> Result<(), FleetError> {
    for chart in charts {
        let named: Vec<&str> = catalog
            .of_kind(ArtifactKind::Chart)
            .filter(|artifact| artifact.repository.as_str() == chart.chart)
            .filter_map(|artifact| Some(artifact.tag.as_ref()?.as_str()))
            .collect();
        // OCI tags have no plus; Helm and Hauler write an underscore (helm: pkg/registry)
        let tag = |version: &str| version.replace('+', "_");
        let found = match &chart.version {
            Some(version) => named.iter().any(|name| *name == tag(version)),
            None => !named.is_empty(),
        };
        if found {
            continue;
        }
        let (wanted, has) = match (&chart.version, named.is_empty()) {
            (Some(version), false) => (
                format!("version {version} of {}", chart.chart),
                format!("it has {}", listed(&named)),
            ),
            _ => {
                let all: Vec<String> = catalog
                    .of_kind(ArtifactKind::Chart)
                    .map(|artifact| artifact.name())
                    .collect();
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                let has = match all.is_empty() {
                    true => "it has no charts".to_owned(),
                    false => format!("its charts are {}", listed(&all)),
                };
                (chart.chart.clone(), has)
            }
        };
        return Err(FleetError::NoChart {
            path: path.to_owned(),
            release: chart.name.clone(),
            wanted,
            has,
        });
    }
    Ok(())
}

fn listed(names: &[&str]) -> String {
    let (shown, rest) = names.split_at(names.len().min(SHOWN));
    match rest.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use image_layout::Digest;
    use image_layout::catalog::Artifact;

    use super::*;

    fn cluster(rest: &str) -> Cluster {
        let text = format!("apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\n{rest}");
        image_layout::cluster::parse(text.as_bytes()).unwrap()
    }

    fn node(name: &str, role: &str) -> String {
        format!("- {{name: {name}, match: {{serial: X-{name}}}, role: {role}}}\n")
    }

    fn said(rest: &str, agents_only: bool) -> Option<String> {
        let error = check_roles(Path::new("cluster.yaml"), &cluster(rest), agents_only).err()?;
        assert!(!error.help().is_empty());
        Some(error.to_string())
    }

    #[test]
    fn one_server_is_what_this_version_starts() {
        let two = format!(
            "nodes:\n{}{}",
            node("cp-1", "server"),
            node("cp-2", "server")
        );
        let error = said(&two, false).unwrap();
        assert!(
            error.contains("cluster.yaml: cp-1 and cp-2 are both servers"),
            "{error}"
        );
        let one = format!("nodes:\n{}{}", node("cp-1", "server"), node("w-1", "agent"));
        assert_eq!(said(&one, false), None);
        assert_eq!(
            said(&format!("{one}unmatched: {{role: agent}}"), true),
            None
        );
        assert_eq!(
            said(&format!("nodes:\n{}", node("r", "registry")), false),
            None
        );
    }

    #[test]
    fn agents_without_a_server_are_told_what_is_missing() {
        let agents = format!("nodes:\n{}", node("w-1", "agent"));
        let error = said(&agents, false).unwrap();
        assert!(error.contains("w-1 is an agent, and there is no node with role: server"));
        assert!(
            said("unmatched: {role: agent}", false)
                .unwrap()
                .contains("unmatched:")
        );
        assert!(
            said("unmatched: {role: server}", true)
                .unwrap()
                .contains("for agents")
        );
        assert_eq!(said("unmatched: {role: server}", false), None);
    }

    #[test]
    fn a_server_without_an_address_is_odd_where_agents_look_for_it() {
        let both = format!("nodes:\n{}{}", node("cp-1", "server"), node("w-1", "agent"));
        assert!(
            oddity(&cluster(&both))
                .unwrap()
                .contains("add address: to cp-1")
        );
        assert_eq!(
            oddity(&cluster(&format!("nodes:\n{}", node("cp-1", "server")))),
            None
        );
    }

    #[test]
    fn charts_are_looked_for_by_name_and_version() {
        let artifact = |tag: &str| Artifact {
            kind: ArtifactKind::Chart,
            host: None,
            repository: "hauler/shop".parse().unwrap(),
            origin: None,
            tag: Some(tag.parse().unwrap()),
            digest: Digest::sha256_of(tag.as_bytes()),
            title: None,
            size: 1,
            platforms: Vec::new(),
            content: None,
        };
        let catalog = Catalog {
            artifacts: vec![artifact("1.2.3_k3s1"), artifact("2.0.0")],
            ..Catalog::default()
        };
        let check = |chart: &str| {
            let cluster = cluster(&format!("charts: [{{name: shop, chart: {chart}}}]"));
            check_charts(Path::new("c.yaml"), &cluster.charts, &catalog).map_err(|e| e.to_string())
        };
        assert_eq!(check("hauler/shop"), Ok(()));
        assert_eq!(check("hauler/shop, version: 1.2.3+k3s1"), Ok(()));
        assert_eq!(check("hauler/shop, version: 1.2.3_k3s1"), Ok(()));
        let error = check("hauler/shop, version: 3.0.0").unwrap_err();
        assert_eq!(
            error,
            "c.yaml: charts: shop: version 3.0.0 of hauler/shop is not in the haul; \
             it has 1.2.3_k3s1, 2.0.0"
        );
        let error = check("shop").unwrap_err();
        assert!(error.ends_with("its charts are hauler/shop:1.2.3_k3s1, hauler/shop:2.0.0"));
        let none = check_charts(
            Path::new("c.yaml"),
            &cluster("charts: [{name: a, chart: b}]").charts,
            &Catalog::default(),
        );
        assert!(none.unwrap_err().to_string().ends_with("it has no charts"));
    }
}
