//! Which routes a node needs. A default route always exists.
//!
//! k3s ends at once where there is none ("no default routes found"), and without one programs on
//! the node reach no service address, since the kernel looks for a route before anything else.
//! Air-gapped networks often have no gateway: then the default leads to an interface that drops
//! everything, `dummy0`, with an address of the range kept for documentation (RFC 5737). Its
//! metric is so bad that any real gateway goes first.

use std::net::Ipv4Addr;

use image_layout::cluster::Cidr;

use super::netlink::{Netlink, NetlinkError, Route};

/// Name of the interface that leads nowhere.
pub(super) const DUMMY: &str = "dummy0";
/// Its address.
pub(super) const DUMMY_ADDRESS: Cidr = Cidr {
    address: Ipv4Addr::new(203, 0, 113, 254),
    prefix: 31,
};
/// The neighbour that nobody is.
const NOBODY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 255);
/// Metric of the default route to nowhere.
const LAST: u32 = 1000;
/// Metric of the first card's default route; further cards come behind it.
const FIRST: u32 = 100;

/// The default route through the `nth` card in use.
pub(super) fn default_route(index: u32, gateway: Ipv4Addr, nth: u32) -> Route {
    Route {
        destination: Ipv4Addr::UNSPECIFIED,
        prefix: 0,
        gateway: Some(gateway),
        index,
        metric: FIRST.saturating_add(nth).min(LAST - 1),
    }
}

/// A route that came with a lease through the `nth` card in use.
pub(super) fn further_route(index: u32, route: &super::dhcp::Route, nth: u32) -> Route {
    Route {
        destination: route.destination,
        prefix: route.prefix,
        gateway: Some(route.gateway).filter(|gateway| !gateway.is_unspecified()),
        index,
        metric: FIRST.saturating_add(nth),
    }
}

/// The default route where the kernel has no dummy interfaces: everything counts as reachable
/// through the card's own cable.
fn on_link(index: u32) -> Route {
    Route {
        destination: Ipv4Addr::UNSPECIFIED,
        prefix: 0,
        gateway: None,
        index,
        metric: LAST,
    }
}

/// What the default route leads to where no card has a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nowhere {
    /// The dummy interface.
    Dummy,
    /// The cable of the card with this index.
    OnLink(u32),
}

/// Puts a default route for a node without a gateway. `card` is used where the kernel can't make
/// the dummy interface.
pub(super) async fn put_nowhere(
    netlink: &Netlink,
    card: Option<u32>,
) -> Result<Nowhere, NetlinkError> {
    let error = match put_dummy(netlink).await {
        Ok(()) => return Ok(Nowhere::Dummy),
        Err(error) => error,
    };
    match card {
        Some(index) => {
            tracing::warn!("{error}; the default route leads onto the cable instead");
            netlink.put_route(on_link(index)).await?;
            Ok(Nowhere::OnLink(index))
        }
        None => Err(error),
    }
}

async fn put_dummy(netlink: &Netlink) -> Result<(), NetlinkError> {
    let dummy = netlink.put_dummy(DUMMY).await?;
    netlink
        .put_address(dummy.index, DUMMY_ADDRESS, None)
        .await?;
    netlink
        .put_route(Route {
            destination: Ipv4Addr::UNSPECIFIED,
            prefix: 0,
            gateway: Some(NOBODY),
            index: dummy.index,
            metric: LAST,
        })
        .await
}

/// Whether a route is the one to nowhere, which stays once it is there: k3s may have taken its
/// address, and any gateway goes before it.
pub(super) fn is_nowhere(route: &Route) -> bool {
    route.is_default() && route.metric == LAST
}
