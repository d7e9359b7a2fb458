//! The network of a node: cards, addresses, routes, name servers; for as long as it runs.
//!
//! [`manager`] decides and `apply` brings what the kernel has in line with what `cluster.yaml`, the cables and the
//! DHCP servers say, whenever one of them changes. See `docs/network.md`.

mod apply;
mod arp;
mod dhcp;
mod dns;
pub(super) mod links;
mod manager;
pub(super) mod netlink;
mod packet_socket;
mod plan;
mod problem;
mod routes;
#[cfg(test)]
mod tests;

pub(super) use manager::{Patience, Published, Reach, run};
pub(super) use plan::Plan;
