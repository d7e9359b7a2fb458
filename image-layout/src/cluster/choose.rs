//! Which of the nodes a machine is, and what follows for it.

use super::{Cidr, Cluster, Machine, Match, MatchedBy, Network, Node, Role};

/// Who a machine is: the node's own keys merged over the cluster's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Name of the node; none for a machine that matches none, which names itself.
    pub name: Option<String>,
    /// What it does.
    pub role: Role,
    /// How it was recognised.
    pub matched: Matched,
    /// Its address; none where it asks a DHCP server.
    pub address: Option<Cidr>,
    /// Its interface by name, MAC address or driver.
    pub interface: Option<String>,
    /// `network:` of the cluster with the node's own keys over it.
    pub network: Network,
}

/// How a machine was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matched {
    /// As one of the nodes.
    Node(MatchedBy),
    /// As none of them: `unmatched:` holds.
    Unmatched,
}

impl std::fmt::Display for Matched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Matched::Node(by) => by.fmt(f),
            Matched::Unmatched => f.write_str("nothing (unmatched)"),
        }
    }
}

/// One machine that has the properties of two nodes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("this machine is {first} by its {first_by} and {second} by its {second_by}")]
pub struct TwoNodes {
    /// Name of the first node in the file.
    pub first: String,
    /// By what it is that node.
    pub first_by: MatchedBy,
    /// Name of the second.
    pub second: String,
    /// By what it is that node.
    pub second_by: MatchedBy,
}

impl Cluster {
    /// The node that `machine` is. Nodes with properties come first, `any` after all of them,
    /// `unmatched:` last. `role` overrides what the file says.
    pub fn node_for(
        &self,
        machine: &Machine,
        role: Option<Role>,
    ) -> Result<Assignment, Box<TwoNodes>> {
        let mut exact = self.nodes.iter().filter_map(|node| match &node.matches {
            Match::Properties(properties) if machine.has(properties) => {
                Some((node, MatchedBy::Properties(properties.clone())))
            }
            _ => None,
        });
        let first = exact.next();
        if let (Some((first, first_by)), Some((second, second_by))) = (&first, exact.next()) {
            return Err(Box::new(TwoNodes {
                first: first.name.clone(),
                first_by: first_by.clone(),
                second: second.name.clone(),
                second_by,
            }));
        }
        let any = || {
            let node = self.nodes.iter().find(|node| node.matches == Match::Any)?;
            Some((node, MatchedBy::Any))
        };
        Ok(match first.or_else(any) {
            Some((node, by)) => Assignment {
                name: Some(node.name.clone()),
                role: role.unwrap_or(node.role),
                matched: Matched::Node(by),
                address: node.address,
                interface: node.interface.clone(),
                network: self.network.overridden_by(node),
            },
            None => Assignment {
                name: None,
                role: role.unwrap_or(self.unmatched.role),
                matched: Matched::Unmatched,
                address: None,
                interface: None,
                network: self.network.clone(),
            },
        })
    }

    /// Whether a network card that has not appeared yet could still decide which node a machine
    /// is.
    pub fn matches_by_mac(&self) -> bool {
        self.nodes.iter().any(|node| {
            matches!(&node.matches, Match::Properties(properties) if properties.mac.is_some())
        })
    }
}

impl Network {
    /// These keys with those of `node` over them. An address of its own turns DHCP off.
    fn overridden_by(&self, node: &Node) -> Network {
        let own = &node.network;
        Network {
            dhcp: if node.address.is_some() {
                Some(false)
            } else {
                own.dhcp.or(self.dhcp)
            },
            gateway: own.gateway.or(self.gateway),
            dns: first_given(&own.dns, &self.dns),
            search: first_given(&own.search, &self.search),
            mtu: own.mtu.or(self.mtu),
        }
    }
}

fn first_given<T: Clone>(own: &[T], shared: &[T]) -> Vec<T> {
    if own.is_empty() { shared } else { own }.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Mac, parse};

    const FILE: &str = "apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\n\
        network: {gateway: 192.168.0.1, dns: [192.168.0.1], mtu: 1400, dhcp: true}\n\
        unmatched: {role: agent}\n\
        nodes:\n\
        - {name: spare, match: any, role: registry, network: {dns: [10.0.0.1]}}\n\
        - {name: cp-1, match: {mac: \"52:54:00:00:00:01\"}, role: server, address: 192.168.0.2/24}\n\
        - {name: w-1, match: {serial: ABC123}, role: agent, interface: eth1}\n";

    fn machine(macs: &[u8], serial: Option<&str>) -> Machine {
        let macs = macs
            .iter()
            .map(|last| Mac([0x52, 0x54, 0, 0, 0, *last]))
            .collect();
        Machine::new(macs, serial, None)
    }

    fn cluster() -> Cluster {
        parse(FILE.as_bytes()).unwrap()
    }

    #[test]
    fn properties_go_before_any_wherever_they_stand_in_the_file() {
        let assignment = cluster().node_for(&machine(&[9, 1], None), None).unwrap();
        assert_eq!(assignment.name.as_deref(), Some("cp-1"));
        assert_eq!(assignment.matched.to_string(), "MAC 52:54:00:00:00:01");
        let spare = cluster().node_for(&machine(&[9], None), None).unwrap();
        assert_eq!(spare.name.as_deref(), Some("spare"));
        assert_eq!(spare.matched.to_string(), "any");
    }

    #[test]
    fn the_nodes_keys_go_over_the_clusters() {
        let cp = cluster().node_for(&machine(&[1], None), None).unwrap();
        assert_eq!(cp.network.dhcp, Some(false), "it has an address of its own");
        assert_eq!(cp.network.mtu, Some(1400));
        assert_eq!(cp.address, Some("192.168.0.2/24".parse().unwrap()));
        let spare = cluster().node_for(&machine(&[], None), None).unwrap();
        assert_eq!(
            spare.network.dns,
            ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]
        );
        assert_eq!(spare.network.dhcp, Some(true));
    }

    #[test]
    fn a_machine_that_is_two_nodes_is_an_error_with_both_names() {
        let error = cluster()
            .node_for(&machine(&[1], Some("abc123")), None)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "this machine is cp-1 by its MAC 52:54:00:00:00:01 and w-1 by its serial ABC123"
        );
    }

    #[test]
    fn without_any_the_rest_is_unmatched_and_the_boot_menu_decides_the_role() {
        let mut cluster = cluster();
        cluster.nodes.remove(0);
        let stranger = machine(&[7], None);
        let assignment = cluster.node_for(&stranger, None).unwrap();
        assert_eq!((assignment.name, assignment.role), (None, Role::Agent));
        assert_eq!(assignment.matched, Matched::Unmatched);
        let assignment = cluster.node_for(&stranger, Some(Role::Registry)).unwrap();
        assert_eq!(assignment.role, Role::Registry);
    }
}
