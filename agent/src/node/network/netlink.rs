//! Links, IPv4 addresses and routes of the kernel (rtnetlink(7)), as few typed calls.
//!
//! Every call is idempotent: putting what is there already and removing what is gone succeed.
//! Addresses and routes that this process puts carry the protocol number [`OURS`], so that after
//! a restart it knows which it may take away: others' (k3s, a virtual address) stay.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use image_layout::cluster::{Cidr, Mac};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol, CacheInfo};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
};
use rtnetlink::{Handle, LinkDummy, LinkUnspec, MulticastGroup, RouteMessageBuilder};

/// Our number among the protocols that addresses and routes may carry; nobody else's in
/// iproute2's list.
const OURS: u8 = 104;
/// How long the kernel may take for one request. Adding a link may load a module.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the kernel's network could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(in crate::node) enum NetlinkError {
    /// No connection.
    #[error("opening a netlink socket: {0}")]
    Connect(#[source] io::Error),
    /// The kernel refused.
    #[error("{what}: {why}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The kernel's reason.
        why: String,
    },
    /// The kernel did not answer in time.
    #[error("{what}: no answer from the kernel for {} seconds", PATIENCE.as_secs())]
    Silent {
        /// What was asked for.
        what: String,
    },
    /// The connection ended.
    #[error("the netlink connection ended")]
    Ended,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) struct Link {
    /// Its number.
    pub(in crate::node) index: u32,
    /// Its name.
    pub(in crate::node) name: String,
    /// Its MAC address; none where it has no Ethernet address.
    pub(in crate::node) mac: Option<Mac>,
    /// Whether it is switched on.
    pub(in crate::node) up: bool,
    /// Whether there is somebody at the other end of the cable.
    pub(in crate::node) carrier: bool,
    /// Bytes of the largest packet.
    pub(in crate::node) mtu: u32,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) struct Address {
    /// The interface.
    pub(in crate::node) index: u32,
    /// The address.
    pub(in crate::node) address: IpAddr,
    /// Bits of its network.
    pub(in crate::node) prefix: u8,
    /// Whether this process, or an earlier run of it, put it.
    pub(in crate::node) ours: bool,
    message: AddressMessage,
}

/// An IPv4 route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node) struct Route {
    /// Network; unspecified with prefix 0 for the default route.
    pub(in crate::node) destination: Ipv4Addr,
    /// Bits of the network.
    pub(in crate::node) prefix: u8,
    /// Through whom; none: directly.
    pub(in crate::node) gateway: Option<Ipv4Addr>,
    /// Through which interface.
    pub(in crate::node) index: u32,
    /// The lower, the better.
    pub(in crate::node) metric: u32,
}

impl Route {
    /// Whether it leads everywhere.
    pub(in crate::node) fn is_default(&self) -> bool {
        self.prefix == 0
    }
}

/// A connection for questions and requests.
#[derive(Clone, Debug)]
pub(in crate::node) struct Netlink {
    handle: Handle,
}

/// Tells that links, addresses or routes changed.
pub(in crate::node) struct Changes {
    messages: futures_util::stream::BoxStream<'static, ()>,
}

impl Changes {
    /// Waits for a change and takes in all that came with it.
    pub(in crate::node) async fn wait(&mut self) -> Result<(), NetlinkError> {
        self.messages.next().await.ok_or(NetlinkError::Ended)?;
        while let Some(Some(())) = futures_util::FutureExt::now_or_never(self.messages.next()) {}
        Ok(())
    }
}

impl Netlink {
    /// Connects to the network namespace of this thread. Needs a tokio runtime.
    pub(in crate::node) fn connect() -> Result<(Netlink, Changes), NetlinkError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
        ];
        let (connection, handle, messages) =
            rtnetlink::new_multicast_connection(&groups).map_err(NetlinkError::Connect)?;
        tokio::spawn(connection);
        // which change it was does not matter, the state is read anew; so a lost message (an
        // overrun is one more message) does no harm
        let messages = messages.map(drop).boxed();
        Ok((Netlink { handle }, Changes { messages }))
    }

    /// Every interface of the namespace, by index.
    pub(in crate::node) async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let messages: Vec<LinkMessage> = bounded(
            "listing the network interfaces",
            self.handle.link().get().execute().try_collect(),
        )
        .await?;
        let mut links: Vec<Link> = messages.into_iter().map(link).collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// Switches an interface on.
    pub(in crate::node) async fn set_up(&self, link: &Link) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        let what = format!("switching {} on", link.name);
        bounded(&what, self.handle.link().change(message).execute()).await
    }

    /// Sets the size of the largest packet.
    pub(in crate::node) async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).mtu(mtu).build();
        let what = format!("setting the MTU to {mtu}");
        bounded(&what, self.handle.link().change(message).execute()).await
    }

    /// Makes an interface that leads nowhere and gives it; one of that name may exist already.
    pub(in crate::node) async fn put_dummy(&self, name: &str) -> Result<Link, NetlinkError> {
        let what = format!("making the interface {name}");
        let message = LinkDummy::new(name).up().build();
        let made = bounded(&what, self.handle.link().add(message).execute()).await;
        // a failure that leaves the interface there is none
        let found = self
            .links()
            .await?
            .into_iter()
            .find(|link| link.name == name);
        match (found, made) {
            (Some(link), _) => {
                if !link.up {
                    self.set_up(&link).await?;
                }
                Ok(link)
            }
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(NetlinkError::Refused {
                what,
                why: "it is not there afterwards".to_owned(),
            }),
        }
    }

    /// Every address of the namespace.
    pub(in crate::node) async fn addresses(&self) -> Result<Vec<Address>, NetlinkError> {
        let messages: Vec<AddressMessage> = bounded(
            "listing the addresses",
            self.handle.address().get().execute().try_collect(),
        )
        .await?;
        Ok(messages.into_iter().filter_map(address).collect())
    }

    /// Puts an address, or renews its time if it is there. The kernel removes it after
    /// `lifetime` unless it is put again; none: never.
    pub(in crate::node) async fn put_address(
        &self,
        index: u32,
        address: Cidr,
        lifetime: Option<Duration>,
    ) -> Result<(), NetlinkError> {
        let handle = self.handle.address();
        let mut request = handle
            .add(index, address.address.into(), address.prefix)
            .replace();
        let seconds = lifetime.map_or(u32::MAX, |lifetime| {
            u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
        });
        let mut times = CacheInfo::default();
        times.ifa_valid = seconds;
        times.ifa_preferred = seconds;
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::CacheInfo(times));
        attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(OURS)));
        bounded(&format!("adding the address {address}"), request.execute()).await
    }

    /// Removes an address.
    pub(in crate::node) async fn remove_address(
        &self,
        address: &Address,
    ) -> Result<(), NetlinkError> {
        let what = format!("removing the address {}", address.address);
        let request = self.handle.address().del(address.message.clone());
        gone_is_fine(bounded(&what, request.execute()).await)
    }

    /// The IPv4 routes of the main table, each with whether this process put it.
    pub(in crate::node) async fn routes(&self) -> Result<Vec<(Route, bool)>, NetlinkError> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let messages: Vec<RouteMessage> = bounded(
            "listing the routes",
            self.handle.route().get(all).execute().try_collect(),
        )
        .await?;
        Ok(messages.iter().filter_map(route).collect())
    }

    /// Puts a route. A gateway counts as reachable directly, wherever its address lies.
    pub(in crate::node) async fn put_route(&self, route: Route) -> Result<(), NetlinkError> {
        let message = route_message(route);
        let what = format!("adding the route to {}/{}", route.destination, route.prefix);
        let request = self.handle.route().add(message).replace();
        bounded(&what, request.execute()).await
    }

    /// Removes a route.
    pub(in crate::node) async fn remove_route(&self, route: Route) -> Result<(), NetlinkError> {
        let what = format!(
            "removing the route to {}/{}",
            route.destination, route.prefix
        );
        let request = self.handle.route().del(route_message(route));
        gone_is_fine(bounded(&what, request.execute()).await)
    }
}

/// Waits for the kernel's answer, but not for ever.
async fn bounded<T>(
    what: &str,
    request: impl Future<Output = Result<T, rtnetlink::Error>>,
) -> Result<T, NetlinkError> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(NetlinkError::Refused {
            what: what.to_owned(),
            why: match error {
                rtnetlink::Error::NetlinkError(message) => message.to_io().to_string(),
                other => other.to_string(),
            },
        }),
        Err(_) => Err(NetlinkError::Silent {
            what: what.to_owned(),
        }),
    }
}

/// What is removed may be gone already, with its interface or its address.
fn gone_is_fine(removed: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match removed {
        Err(NetlinkError::Refused { what, why }) => {
            tracing::debug!("{what}: {why}");
            Ok(())
        }
        other => other,
    }
}

fn link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message
            .header
            .flags
            .contains(LinkFlags::Up | LinkFlags::LowerUp),
        mtu: 0,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => {
                link.mac = <[u8; 6]>::try_from(bytes.as_slice())
                    .ok()
                    .filter(|bytes| *bytes != [0; 6])
                    .map(Mac);
            }
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            _ => {}
        }
    }
    link
}

fn address(message: AddressMessage) -> Option<Address> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    // on a point-to-point link the peer's is in Address, our own in Local
    let local = find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let plain = find(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let ours = message
        .attributes
        .contains(&AddressAttribute::Protocol(AddressProtocol::Other(OURS)));
    Some(Address {
        index: message.header.index,
        address: local.or(plain)?,
        prefix: message.header.prefix_len,
        ours,
        message,
    })
}

fn route(message: &RouteMessage) -> Option<(Route, bool)> {
    let mut table = u32::from(message.header.table);
    let mut route = Route {
        destination: Ipv4Addr::UNSPECIFIED,
        prefix: message.header.destination_prefix_length,
        gateway: None,
        index: 0,
        metric: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                route.destination = *address;
            }
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => route.gateway = Some(*address),
            RouteAttribute::Oif(index) => route.index = *index,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            _ => {}
        }
    }
    let main = table == u32::from(RouteHeader::RT_TABLE_MAIN);
    let ours = message.header.protocol == RouteProtocol::Other(OURS);
    main.then_some((route, ours))
}

fn route_message(route: Route) -> RouteMessage {
    let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(route.destination, route.prefix)
        .output_interface(route.index)
        .priority(route.metric)
        .protocol(RouteProtocol::Other(OURS));
    builder = match route.gateway {
        Some(gateway) => builder.gateway(gateway).onlink(),
        None => builder.scope(RouteScope::Link),
    };
    builder.build()
}
