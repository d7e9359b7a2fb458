//! What is wanted of the network, and what follows from it and from the leases at hand.

use std::net::{IpAddr, Ipv4Addr};

use image_layout::cluster::{Cidr, Network};

use super::dhcp::Lease;
use super::links::Card;
use super::netlink::Route;
use super::routes;

/// What `cluster.yaml` wants of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::node) struct Plan {
    /// Name of the node.
    pub(in crate::node) host_name: String,
    /// Its address; none: DHCP.
    pub(in crate::node) address: Option<Cidr>,
    /// Its interface by name, MAC address or driver; none: the one with a cable.
    pub(in crate::node) interface: Option<String>,
    /// Everything else.
    pub(in crate::node) network: Network,
    /// Whether every card asks for a lease and keeps it. Otherwise the first one that gets one
    /// is the node's.
    pub(in crate::node) every_card: bool,
}

impl Plan {
    /// Whether addresses come from DHCP servers.
    pub(in crate::node) fn dhcp(&self) -> bool {
        self.address.is_none() && self.network.dhcp != Some(false)
    }
}

/// A card in use: its address and what came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// The card.
    pub(super) card: Card,
    /// Its address.
    pub(super) address: Cidr,
    /// Who granted it; none: the file.
    pub(super) lease: Option<Lease>,
    /// Default gateway.
    pub(super) gateway: Option<Ipv4Addr>,
    /// Bytes of the largest packet, if somebody said.
    pub(super) mtu: Option<u32>,
}

/// Cards in use, from the cards with a lease and the one for the fixed address. The file's
/// gateway and MTU go before a server's.
pub(super) fn uses(plan: &Plan, fixed: Option<&Card>, leases: &[(&Card, &Lease)]) -> Vec<Use> {
    let network = &plan.network;
    if let Some(address) = plan.address {
        let one = fixed.map(|card| Use {
            card: card.clone(),
            address,
            lease: None,
            gateway: network.gateway,
            mtu: network.mtu,
        });
        return one.into_iter().collect();
    }
    let from_file = |lease: &Lease| {
        let alone = leases.len() == 1;
        network
            .gateway
            .filter(|gateway| alone || lease.address.contains(*gateway))
    };
    leases
        .iter()
        .map(|(card, lease)| Use {
            card: (*card).clone(),
            address: lease.address,
            gateway: from_file(lease).or(lease.gateway),
            mtu: network.mtu.or(lease.mtu),
            lease: Some((*lease).clone()),
        })
        .collect()
}

/// The routes that the cards in use need, the first card's first.
pub(super) fn wanted_routes(uses: &[Use]) -> Vec<Route> {
    let mut wanted = Vec::new();
    for (nth, one) in (0..).zip(uses) {
        let index = one.card.index;
        let gateway = one.gateway.iter();
        wanted.extend(gateway.map(|gateway| routes::default_route(index, *gateway, nth)));
        let further = one.lease.iter().flat_map(|lease| &lease.routes);
        wanted.extend(further.map(|route| routes::further_route(index, route, nth)));
    }
    wanted
}

/// Name servers and search domains: the file's, else those of the leases.
pub(super) fn resolvers(plan: &Plan, uses: &[Use]) -> (Vec<IpAddr>, Vec<String>) {
    let leases = || uses.iter().filter_map(|one| one.lease.as_ref());
    let mut servers = plan.network.dns.clone();
    if servers.is_empty() {
        for server in leases().flat_map(|lease| &lease.dns) {
            let server = IpAddr::from(*server);
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
    }
    let mut search = plan.network.search.clone();
    if search.is_empty() {
        search.extend(leases().filter_map(|lease| lease.domain.clone()).take(1));
    }
    (servers, search)
}

/// One line for the console:
/// `eth0 192.168.0.2/24 by DHCP, gateway 192.168.0.1, DNS 192.168.0.1`.
pub(super) fn summary(plan: &Plan, uses: &[Use]) -> String {
    let cards = uses.iter().map(|one| {
        let how = if one.lease.is_some() { " by DHCP" } else { "" };
        let gateway = one.gateway.map_or(", no gateway".to_owned(), |gateway| {
            format!(", gateway {gateway}")
        });
        let mtu = one.mtu.map_or(String::new(), |mtu| format!(", MTU {mtu}"));
        format!("{} {}{how}{gateway}{mtu}", one.card.name, one.address)
    });
    let mut line = cards.collect::<Vec<_>>().join("; ");
    let (servers, _) = resolvers(plan, uses);
    if !servers.is_empty() {
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        line.push_str(&format!(", DNS {}", servers.join(", ")));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::links::tests::card;
    use super::*;
    use crate::node::network::dhcp::tests::lease;

    fn plan(network: Network) -> Plan {
        Plan {
            host_name: "node-1".to_owned(),
            network,
            ..Plan::default()
        }
    }

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn what_the_file_says_goes_before_what_a_server_says() {
        let mut lease = lease("10.0.0.7/24");
        lease.gateway = Some(ip("10.0.0.1"));
        lease.dns = vec![ip("10.0.0.2")];
        lease.mtu = Some(1400);
        let eth0 = card(0, true);
        let from_server = uses(&plan(Network::default()), None, &[(&eth0, &lease)]);
        assert_eq!(
            summary(&plan(Network::default()), &from_server),
            "eth0 10.0.0.7/24 by DHCP, gateway 10.0.0.1, MTU 1400, DNS 10.0.0.2"
        );
        let file = plan(Network {
            gateway: Some(ip("10.0.0.9")),
            dns: vec![ip("10.0.0.8").into()],
            mtu: Some(1300),
            ..Network::default()
        });
        assert_eq!(
            summary(&file, &uses(&file, None, &[(&eth0, &lease)])),
            "eth0 10.0.0.7/24 by DHCP, gateway 10.0.0.9, MTU 1300, DNS 10.0.0.8"
        );
    }

    #[test]
    fn with_two_leases_the_files_gateway_goes_to_the_card_of_its_network() {
        let file = plan(Network {
            gateway: Some(ip("10.1.0.1")),
            ..Network::default()
        });
        let (a, b) = (lease("10.0.0.7/24"), lease("10.1.0.7/24"));
        let (eth0, eth1) = (card(0, true), card(1, true));
        let both = uses(&file, None, &[(&eth0, &a), (&eth1, &b)]);
        let wanted = wanted_routes(&both);
        assert_eq!(wanted.len(), 1);
        assert_eq!(
            (wanted[0].index, wanted[0].gateway),
            (1, Some(ip("10.1.0.1")))
        );
    }

    #[test]
    fn a_fixed_address_needs_no_lease() {
        let file = Plan {
            address: Some("192.168.0.2/24".parse().unwrap()),
            ..plan(Network::default())
        };
        assert!(!file.dhcp());
        assert_eq!(uses(&file, None, &[]), []);
        let eth0 = card(0, true);
        let one = uses(&file, Some(&eth0), &[]);
        assert_eq!(summary(&file, &one), "eth0 192.168.0.2/24, no gateway");
        assert_eq!(wanted_routes(&one), []);
    }
}
