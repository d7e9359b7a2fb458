//! A DHCP client for IPv4 (RFC 2131, 2132, 3396, 3442).
//!
//! [`client`] is the state machine: packets and times in, packets and leases out, no I/O.
//! [`reply`] turns a packet from the network into a checked [`Lease`] or refuses it, [`request`]
//! writes what is sent, [`frame`] adds and removes the IP and UDP headers, and [`run`] drives all
//! of it over a socket of one card. [`store`] keeps a lease for the next run of this process.

mod client;
mod frame;
mod lease;
mod options;
mod reply;
mod request;
mod run;
mod store;

pub(super) use lease::{Lease, Route};
pub(super) use run::{Command, Event, Running, start, uptime};
pub(super) use store::Store;

/// Port of a server.
const SERVER_PORT: u16 = 67;
/// Port of a client.
const CLIENT_PORT: u16 = 68;
/// The largest packet that is looked at, in bytes, IP header included.
const PACKET_BYTES: usize = 1500;

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;

    use super::Lease;
    use super::lease::Times;

    /// A lease of an hour with nothing but an address.
    pub(in super::super) fn lease(address: &str) -> Lease {
        Lease {
            address: address.parse().unwrap(),
            server: Ipv4Addr::new(10, 0, 0, 1),
            gateway: None,
            routes: vec![],
            dns: vec![],
            domain: None,
            mtu: None,
            times: Times::new(Some(3600), None, None),
            since: std::time::Duration::ZERO,
            ignored: vec![],
        }
    }
}
