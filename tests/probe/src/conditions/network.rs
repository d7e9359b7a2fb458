//! Interfaces, addresses, routes, sysctls of the network.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use super::{Found, ensure, read};
use crate::config::Config;
use crate::report::verdict;

/// IFF_UP, netdevice(7).
const UP: u32 = 1;

pub(super) fn check(config: &Config) {
    verdict("lo is up", up("lo"));
    verdict(
        "127.0.0.1 is an address of this machine",
        local("127.0.0.1"),
    );
    let address = config.get("node-ip").unwrap_or_default();
    let interface = config.get("flannel-iface").unwrap_or_default();
    verdict("node-ip is an address of this machine", local(address));
    verdict("flannel-iface is up", up(interface));
    verdict("node-ip is on flannel-iface", routed(address, interface));
    verdict(
        "flannel-iface has an MTU",
        read(&format!("/sys/class/net/{interface}/mtu")).and_then(|text| {
            ensure(
                text.trim().parse::<u32>().is_ok_and(|mtu| mtu >= 576),
                text.trim(),
            )
        }),
    );
    verdict(
        "there is a default route",
        routes().and_then(|routes| {
            let route = routes.iter().find(|route| route.mask == 0);
            ensure(
                route.is_some(),
                route.map_or("none", |route| route.interface.as_str()),
            )
        }),
    );
}

fn up(interface: &str) -> Found {
    let text = read(&format!("/sys/class/net/{interface}/flags"))?;
    let flags = u32::from_str_radix(text.trim().trim_start_matches("0x"), 16);
    ensure(flags.is_ok_and(|flags| flags & UP != 0), text.trim())
}

fn local(address: &str) -> Found {
    let parsed: IpAddr = address
        .parse()
        .map_err(|_| format!("{address:?} is no address"))?;
    UdpSocket::bind((parsed, 0)).map_err(|error| format!("{address}: {error}"))?;
    Ok(address.to_owned())
}

/// The kernel adds the route of an address's network to the interface that has the address.
fn routed(address: &str, interface: &str) -> Found {
    let address: Ipv4Addr = address
        .parse()
        .map_err(|_| format!("{address:?} is no address"))?;
    let routes = routes()?;
    let ours = routes.iter().find(|route| {
        route.interface == interface
            && route.mask != 0
            && u32::from(address) & route.mask == route.to
    });
    match ours {
        Some(route) => Ok(format!(
            "{}/{} {interface}",
            Ipv4Addr::from(route.to),
            route.mask.count_ones()
        )),
        None => Err(format!("no route of {interface} covers {address}")),
    }
}

struct Route {
    interface: String,
    to: u32,
    mask: u32,
}

fn routes() -> Result<Vec<Route>, String> {
    Ok(parse(&read("/proc/net/route")?))
}

/// `/proc/net/route`: addresses are hexadecimal numbers whose bytes lie in memory as on the wire.
fn parse(text: &str) -> Vec<Route> {
    let number = |text: &str| {
        u32::from_str_radix(text, 16)
            .ok()
            .map(|n| u32::from_be_bytes(n.to_ne_bytes()))
    };
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            Some(Route {
                interface: (*fields.first()?).to_owned(),
                to: number(fields.get(1)?)?,
                mask: number(fields.get(7)?)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read() {
        let routes = parse(
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t0202000A\
             \t0003\t0\t0\t0\t00000000\neth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n",
        );
        assert_eq!(routes[0].mask, 0);
        assert_eq!(Ipv4Addr::from(routes[1].to), Ipv4Addr::new(10, 0, 2, 0));
        assert_eq!(routes[1].mask.count_ones(), 24);
    }
}
