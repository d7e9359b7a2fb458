//! How many connections each machine has.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use super::limits;

/// How many connections each address has.
#[derive(Clone, Debug, Default)]
pub(super) struct PerAddress {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One counted connection; leaves when dropped.
#[derive(Debug)]
pub(super) struct Place {
    addresses: PerAddress,
    key: Option<IpAddr>,
}

impl PerAddress {
    pub(super) fn enter(&self, client: SocketAddr, local: Option<SocketAddr>) -> Option<Place> {
        let key = key(client.ip(), local.map(|local| local.ip()));
        if let Some(key) = key {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(key).or_default();
            if *count >= limits::CONNECTIONS_PER_ADDRESS {
                return None;
            }
            *count += 1;
        }
        let addresses = self.clone();
        Some(Place { addresses, key })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut counts = self
            .addresses
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }
}

/// Whom a connection counts for: nobody on loopback, else its machine. Whoever is in this end's own
/// /64 is a neighbour with an address of its own.
fn key(address: IpAddr, local: Option<IpAddr>) -> Option<IpAddr> {
    let address = address.to_canonical();
    let machine = match network(address) {
        network if local.map(self::network) == Some(network) => address,
        network => network,
    };
    (!address.is_loopback()).then_some(machine)
}

/// What is one machine's: its address, or the /64 of IPv6, which is what one has at least where
/// addresses are given out. On a cable (link-local and unique local addresses) a /64 is everybody.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if address.is_unicast_link_local() || address.is_unique_local() => {
            address.into()
        }
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(network.into())
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_can_not_take_all_connections_and_gives_them_back() {
        let addresses = PerAddress::default();
        let client: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
        let neighbour: SocketAddr = "[2001:db8::2]:1".parse().unwrap();
        let other: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let places: Vec<_> = (0..limits::CONNECTIONS_PER_ADDRESS)
            .map(|_| addresses.enter(client, None).unwrap())
            .collect();
        assert!(addresses.enter(client, None).is_none());
        assert!(addresses.enter(neighbour, None).is_none());
        assert!(addresses.enter(other, None).is_some());
        assert!(
            addresses
                .enter("127.0.0.1:1".parse().unwrap(), None)
                .is_some()
        );
        drop(places);
        assert!(addresses.enter(client, None).is_some());
        assert!(addresses.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn neighbours_of_ipv6_count_for_themselves_and_guests_for_their_network() {
        let of = |client: &str| key(client.parse().unwrap(), "2001:db8::5".parse().ok()).unwrap();
        assert_ne!(of("2001:db8::1"), of("2001:db8::2"));
        assert_eq!(of("2001:db8:1::1"), of("2001:db8:1::2"));
        assert_ne!(of("fe80::1"), of("fe80::2"));
        assert_ne!(of("fd00::1"), of("fd00::2"));
    }

    #[test]
    fn an_ipv4_address_is_the_same_through_an_ipv6_socket() {
        let mapped = key("::ffff:192.0.2.1".parse().unwrap(), None);
        assert_eq!(mapped, key("192.0.2.1".parse().unwrap(), None));
        assert_eq!(key("::ffff:127.0.0.1".parse().unwrap(), None), None);
    }
}
