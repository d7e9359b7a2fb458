//! What a DHCP server granted, checked.

use std::net::Ipv4Addr;
use std::time::Duration;

use image_layout::cluster::Cidr;
use serde::{Deserialize, Serialize};

/// An address with what came with it. Every value was checked when the packet was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::node::network) struct Lease {
    /// The address.
    pub(in crate::node::network) address: Cidr,
    /// Who granted it.
    pub(in crate::node::network) server: Ipv4Addr,
    /// Default gateway; may lie outside the address's network.
    pub(in crate::node::network) gateway: Option<Ipv4Addr>,
    /// Further routes (option 121).
    pub(in crate::node::network) routes: Vec<Route>,
    /// Name servers, at most three.
    pub(in crate::node::network) dns: Vec<Ipv4Addr>,
    /// Domain for short names.
    pub(in crate::node::network) domain: Option<String>,
    /// Bytes of the largest packet.
    pub(in crate::node::network) mtu: Option<u32>,
    /// When it is to be renewed, asked for anywhere, and given up, each from the grant.
    pub(in crate::node::network) times: Times,
    /// When it was asked for: time since the kernel started, from which the times count.
    pub(in crate::node::network) since: Duration,
    /// What the server said that could not be used, one sentence each.
    pub(in crate::node::network) ignored: Vec<String>,
}

impl Lease {
    /// When it ends, as time since the kernel started.
    pub(in crate::node::network) fn end(&self) -> Duration {
        self.since.saturating_add(self.times.expire)
    }
}

/// A route that came with a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::node::network) struct Route {
    /// Network, host bits zero.
    pub(in crate::node::network) destination: Ipv4Addr,
    /// Bits of the network, 1 to 32.
    pub(in crate::node::network) prefix: u8,
    /// Through whom; unspecified means: directly.
    pub(in crate::node::network) gateway: Ipv4Addr,
}

/// A lease's times, each counted from the request that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::node::network) struct Times {
    /// T1: ask the server that granted it.
    pub(in crate::node::network) renew: Duration,
    /// T2: ask any server.
    pub(in crate::node::network) rebind: Duration,
    /// The end.
    pub(in crate::node::network) expire: Duration,
}

/// The shortest lease that is honoured as said. Shorter ones, zero among them, would make the
/// node do nothing but renew.
pub(super) const SHORTEST: u32 = 20;
/// A lease without an end is looked after once a year.
const ENDLESS: Duration = Duration::from_secs(365 * 24 * 3600);

impl Times {
    /// From the options 51, 58 and 59. T1 and T2 that don't come in order are replaced by the
    /// defaults of RFC 2131 4.4.5: half and seven eighths.
    pub(super) fn new(lease: Option<u32>, renew: Option<u32>, rebind: Option<u32>) -> Times {
        let expire = match lease {
            None | Some(u32::MAX) => ENDLESS,
            Some(seconds) => Duration::from_secs(seconds.max(SHORTEST).into()),
        };
        let said = renew.zip(rebind).map(|(renew, rebind)| {
            (
                Duration::from_secs(renew.into()),
                Duration::from_secs(rebind.into()),
            )
        });
        let (renew, rebind) = said
            .filter(|(renew, rebind)| !renew.is_zero() && renew < rebind && *rebind < expire)
            .unwrap_or((expire / 2, expire / 8 * 7));
        Times {
            renew,
            rebind,
            expire,
        }
    }
}

/// Whether a host can have this address: no loopback, multicast, broadcast, reserved or zero one.
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first != 127 && first < 224
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_always_come_in_order_whatever_the_server_says() {
        for lease in [
            None,
            Some(0),
            Some(1),
            Some(60),
            Some(u32::MAX - 1),
            Some(u32::MAX),
        ] {
            for renew in [None, Some(0), Some(30), Some(u32::MAX)] {
                for rebind in [None, Some(0), Some(40), Some(u32::MAX)] {
                    let times = Times::new(lease, renew, rebind);
                    assert!(
                        Duration::ZERO < times.renew
                            && times.renew < times.rebind
                            && times.rebind < times.expire,
                        "{lease:?} {renew:?} {rebind:?}: {times:?}"
                    );
                }
            }
        }
        let said = Times::new(Some(60), Some(30), Some(40));
        assert_eq!(said.renew, Duration::from_secs(30));
        assert_eq!(said.rebind, Duration::from_secs(40));
    }

    #[test]
    fn addresses_no_host_can_have_are_told() {
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!is_host(bad.parse().unwrap()), "{bad}");
        }
        assert!(is_host("192.168.0.1".parse().unwrap()));
    }
}
