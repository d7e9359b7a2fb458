//! `/etc/resolv.conf`.

use std::net::{IpAddr, Ipv4Addr};

/// Resolvers look at no more than three servers (resolv.conf(5)).
const SERVERS: usize = 3;

/// The file's contents.
///
/// k3s takes a file without a server that pods can reach for missing and sends them to the
/// Internet's, where every name in an air gap waits for a time-out. So without a name server the
/// node's own address stands there: nobody answers, at once.
pub(super) fn resolv_conf(servers: &[IpAddr], search: &[String], own: Option<Ipv4Addr>) -> String {
    let own = own.map(IpAddr::from).into_iter();
    // addresses of one link count for nothing with k3s, and resolvers look at no fourth server
    let mut servers: Vec<IpAddr> = servers
        .iter()
        .copied()
        .filter(|server| !server.is_loopback() && !server.is_unspecified())
        .take(SERVERS)
        .collect();
    if servers.iter().all(of_one_link) {
        servers.truncate(SERVERS - 1);
        servers.extend(own);
    }
    let mut text = String::new();
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    for server in &servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text
}

/// Whether an address is reached on one link only, where pods are not (k3s: pkg/agent/config,
/// locateOrGenerateResolvConf, asks for a global unicast address).
fn of_one_link(server: &IpAddr) -> bool {
    match server {
        IpAddr::V4(server) => server.is_link_local(),
        IpAddr::V6(server) => server.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_a_server_that_is_not_the_loopback() {
        let own = Some(Ipv4Addr::new(10, 0, 0, 7));
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(resolv_conf(&[], &[], own), "nameserver 10.0.0.7\n");
        assert_eq!(
            resolv_conf(&[ip("127.0.0.1"), ip("0.0.0.0")], &[], own),
            "nameserver 10.0.0.7\n"
        );
        assert_eq!(
            resolv_conf(&[ip("fe80::1"), ip("169.254.0.1"), ip("fe80::2")], &[], own),
            "nameserver fe80::1\nnameserver 169.254.0.1\nnameserver 10.0.0.7\n"
        );
        assert_eq!(
            resolv_conf(
                &[
                    ip("10.0.0.1"),
                    ip("fd00::1"),
                    ip("10.0.0.3"),
                    ip("10.0.0.4")
                ],
                &["edge.example".to_owned(), "example".to_owned()],
                own
            ),
            "search edge.example example\nnameserver 10.0.0.1\nnameserver fd00::1\nnameserver 10.0.0.3\n"
        );
    }
}
