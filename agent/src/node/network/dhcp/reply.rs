//! Reading what a server, or anybody else on the cable, sent.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder};
use image_layout::cluster::{Cidr, Mac};

use super::lease::{Lease, Route, SHORTEST, Times, is_host};
use super::options;

/// More name servers than resolvers look at are not kept.
const DNS_SERVERS: usize = 3;
/// Routes that are kept of one lease.
const ROUTES: usize = 32;
/// IPv4 hosts must take packets of this size (RFC 791); less is a mistake.
const SMALLEST_MTU: u16 = 576;
/// Characters kept of a server's own words.
const WORDS: usize = 80;

/// A server's answer to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It offers a lease.
    Offer(Lease),
    /// It grants a lease.
    Ack(Lease),
    /// It refuses what was asked for.
    Nak {
        /// Who.
        server: Option<Ipv4Addr>,
        /// Its own words, printable.
        words: String,
    },
}

/// Why a packet was not taken for an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Not an answer to what this card asked; nothing worth a word.
    #[error("it answers somebody else")]
    NotOurs,
    /// An answer that can't be used.
    #[error("{0}")]
    Unusable(String),
}

/// Reads the payload of a UDP packet to the client's port. Since when a lease counts is for the
/// client to say.
pub(super) fn read(packet: &[u8], xid: u32, mac: Mac) -> Result<Reply, Refused> {
    let mut ignored = Vec::new();
    let cleaned = options::clean(packet, &mut ignored).ok_or(Refused::NotOurs)?;
    let message = Message::decode(&mut Decoder::new(&cleaned)).map_err(|_| Refused::NotOurs)?;
    let ours = message.opcode() == Opcode::BootReply
        && message.xid() == xid
        && message.hlen() == 6
        && message.chaddr() == mac.0;
    if !ours {
        return Err(Refused::NotOurs);
    }
    match message.opts().msg_type() {
        Some(MessageType::Offer) => lease(&message, ignored).map(Reply::Offer),
        Some(MessageType::Ack) => lease(&message, ignored).map(Reply::Ack),
        Some(MessageType::Nak) => Ok(Reply::Nak {
            server: server(&message),
            words: words(&message),
        }),
        _ => Err(Refused::NotOurs),
    }
}

/// Takes one option out of a message: `option!(message, Router)`.
macro_rules! option {
    ($message:expr, $name:ident) => {
        match $message.opts().get(OptionCode::$name) {
            Some(DhcpOption::$name(value)) => Some(value),
            _ => None,
        }
    };
}

fn lease(message: &Message, mut ignored: Vec<String>) -> Result<Lease, Refused> {
    let server = server(message)
        .ok_or_else(|| Refused::Unusable("the server does not say who it is".to_owned()))?;
    let address = address(message, &mut ignored)?;
    let (gateway, routes) = routes(message, address.address, &mut ignored);
    let (dns, bad): (Vec<_>, Vec<_>) = option!(message, DomainNameServer)
        .into_iter()
        .flatten()
        .partition(|dns| is_host(**dns));
    ignored.extend(bad.iter().map(|dns| format!("{dns} is no name server")));
    let domain = option!(message, DomainName).map(|name| name.trim_end_matches(['\0', '.']));
    let (domain, bad) = match domain {
        Some(name) if is_domain(name) => (Some(name.to_owned()), false),
        other => (None, other.is_some_and(|name| !name.is_empty())),
    };
    if bad {
        ignored.push("the domain is no domain name".to_owned());
    }
    let mtu = option!(message, InterfaceMtu).copied();
    if let Some(mtu) = mtu.filter(|mtu| *mtu < SMALLEST_MTU) {
        ignored.push(format!("an MTU of {mtu} is too small"));
    }
    let time = option!(message, AddressLeaseTime).copied();
    if let Some(seconds) = time.filter(|seconds| *seconds < SHORTEST) {
        ignored.push(format!(
            "a lease of {seconds} s counts as one of {SHORTEST} s"
        ));
    }
    Ok(Lease {
        address,
        server,
        gateway,
        routes,
        dns: dns.into_iter().copied().take(DNS_SERVERS).collect(),
        domain,
        mtu: mtu.filter(|mtu| *mtu >= SMALLEST_MTU).map(u32::from),
        times: Times::new(
            time,
            option!(message, Renewal).copied(),
            option!(message, Rebinding).copied(),
        ),
        since: Duration::ZERO,
        ignored,
    })
}

fn server(message: &Message) -> Option<Ipv4Addr> {
    option!(message, ServerIdentifier)
        .copied()
        .filter(|server| is_host(*server))
}

fn address(message: &Message, ignored: &mut Vec<String>) -> Result<Cidr, Refused> {
    let address = message.yiaddr();
    if !is_host(address) {
        let what = format!("it gives the address {address}, which no host can have");
        return Err(Refused::Unusable(what));
    }
    let mask = option!(message, SubnetMask).map(|mask| mask.to_bits());
    let prefix = match mask {
        Some(mask) if mask != 0 && mask.leading_ones() + mask.trailing_zeros() == 32 => {
            mask.leading_ones()
        }
        said => {
            let said = said.map_or("no netmask".to_owned(), |mask| {
                format!("the netmask {}", Ipv4Addr::from_bits(mask))
            });
            ignored.push(format!("{said} was taken for 255.255.255.0"));
            24
        }
    };
    // Cidr's own rules: neither the network's nor the broadcast address
    format!("{address}/{prefix}")
        .parse()
        .map_err(|why: String| {
            Refused::Unusable(format!("it gives an address that is none: {why}"))
        })
}

/// The default gateway and the further routes. Where option 121 is given, option 3 does not
/// count (RFC 3442).
fn routes(
    message: &Message,
    own: Ipv4Addr,
    ignored: &mut Vec<String>,
) -> (Option<Ipv4Addr>, Vec<Route>) {
    let usable = |gateway: &Ipv4Addr| is_host(*gateway) && *gateway != own;
    let Some(list) = option!(message, ClasslessStaticRoute) else {
        let routers = option!(message, Router).map_or(&[][..], Vec::as_slice);
        let bad = routers.iter().filter(|router| !usable(router));
        ignored.extend(bad.map(|router| format!("{router} is no gateway")));
        return (
            routers.iter().copied().find(|router| usable(router)),
            vec![],
        );
    };
    let mut default = None;
    let mut routes = Vec::new();
    for (network, gateway) in list {
        let direct = gateway.is_unspecified() && network.prefix_len() > 0;
        let destination = network.trunc().addr();
        if !(direct || usable(gateway)) {
            ignored.push(format!("{gateway} is no gateway"));
        } else if network.prefix_len() == 0 {
            default = default.or(Some(*gateway));
        } else if !is_host(destination) {
            ignored.push(format!("{network} is no network to route to"));
        } else if routes.len() < ROUTES {
            routes.push(Route {
                destination,
                prefix: network.prefix_len(),
                gateway: *gateway,
            });
        }
    }
    (default, routes)
}

/// Letters, digits, dashes and dots, as in a host name (RFC 1123): what may be written into
/// resolv.conf.
fn is_domain(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn words(message: &Message) -> String {
    let said = option!(message, Message).map_or("", String::as_str);
    said.chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(WORDS)
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use dhcproto::v4::DhcpOptions;
    use dhcproto::{Encodable, Encoder};
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
    pub(in super::super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    /// What a server sends: the message type, an address and further options.
    pub(in super::super) fn answer(
        kind: MessageType,
        xid: u32,
        address: Ipv4Addr,
        more: Vec<DhcpOption>,
    ) -> Vec<u8> {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(xid, none, address, none, none, &MAC.0);
        message.set_opcode(Opcode::BootReply);
        let mut options: DhcpOptions = more.into_iter().collect();
        options.insert(DhcpOption::MessageType(kind));
        if !options.contains(OptionCode::ServerIdentifier) {
            options.insert(DhcpOption::ServerIdentifier(SERVER));
        }
        message.set_opts(options);
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).unwrap();
        bytes
    }

    fn offer(address: &str, more: Vec<DhcpOption>) -> Result<Lease, Refused> {
        let bytes = answer(MessageType::Offer, 7, address.parse().unwrap(), more);
        match read(&bytes, 7, MAC)? {
            Reply::Offer(lease) => Ok(lease),
            other => panic!("{other:?} is no offer"),
        }
    }

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn an_offer_as_servers_send_it_is_understood() {
        let lease = offer(
            "10.0.0.7",
            vec![
                DhcpOption::SubnetMask(ip("255.255.0.0")),
                DhcpOption::Router(vec![ip("10.0.0.1")]),
                DhcpOption::DomainNameServer(vec![ip("10.0.0.2"); 5]),
                DhcpOption::DomainName("edge.example.".to_owned()),
                DhcpOption::InterfaceMtu(1400),
                DhcpOption::AddressLeaseTime(3600),
            ],
        )
        .unwrap();
        assert_eq!(lease.address.to_string(), "10.0.0.7/16");
        assert_eq!(lease.gateway, Some(ip("10.0.0.1")));
        assert_eq!(lease.dns, [ip("10.0.0.2"); 3]);
        assert_eq!(lease.domain.as_deref(), Some("edge.example"));
        assert_eq!(lease.mtu, Some(1400));
        assert_eq!(lease.times.renew.as_secs(), 1800);
        assert_eq!(lease.ignored, [""; 0]);
    }

    #[test]
    fn nonsense_in_an_offer_is_left_out_and_said() {
        let lease = offer(
            "10.0.0.7",
            vec![
                DhcpOption::SubnetMask(ip("255.0.255.0")),
                DhcpOption::Router(vec![
                    ip("0.0.0.0"),
                    ip("10.0.0.7"),
                    ip("224.0.0.1"),
                    ip("192.168.9.1"),
                ]),
                DhcpOption::DomainNameServer(vec![ip("127.0.0.1"), ip("0.0.0.0"), ip("10.0.0.2")]),
                DhcpOption::DomainName("a b\nnameserver 6.6.6.6".to_owned()),
                DhcpOption::InterfaceMtu(0),
                DhcpOption::AddressLeaseTime(0),
            ],
        )
        .unwrap();
        assert_eq!(lease.address.prefix, 24);
        assert_eq!(
            lease.gateway,
            Some(ip("192.168.9.1")),
            "outside, but a host"
        );
        assert_eq!(lease.dns, [ip("10.0.0.2")]);
        assert_eq!(lease.domain, None);
        assert_eq!(lease.mtu, None);
        assert!(lease.times.expire.as_secs() >= 20);
        assert_eq!(lease.ignored.len(), 9, "{:#?}", lease.ignored);
    }

    #[test]
    fn addresses_that_no_host_can_have_are_refused() {
        for address in ["0.0.0.0", "127.0.0.5", "239.1.1.1", "255.255.255.255"] {
            assert!(
                matches!(offer(address, vec![]), Err(Refused::Unusable(_))),
                "{address}"
            );
        }
        let mask = DhcpOption::SubnetMask(ip("255.255.255.0"));
        for address in ["10.0.0.0", "10.0.0.255"] {
            assert!(offer(address, vec![mask.clone()]).is_err(), "{address}");
        }
        let nobody = DhcpOption::ServerIdentifier(Ipv4Addr::UNSPECIFIED);
        assert!(offer("10.0.0.7", vec![nobody]).is_err());
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let network = |text: &str| text.parse().unwrap();
        let lease = offer(
            "10.0.0.7",
            vec![
                DhcpOption::SubnetMask(ip("255.255.255.0")),
                DhcpOption::Router(vec![ip("10.0.0.9")]),
                DhcpOption::ClasslessStaticRoute(vec![
                    (network("0.0.0.0/0"), ip("10.0.0.1")),
                    (network("172.16.0.0/12"), ip("10.0.0.2")),
                    (network("192.0.2.0/24"), ip("0.0.0.0")),
                    (network("127.0.0.0/8"), ip("10.0.0.2")),
                ]),
            ],
        )
        .unwrap();
        assert_eq!(lease.gateway, Some(ip("10.0.0.1")));
        assert_eq!(lease.routes.len(), 2);
        assert_eq!(lease.ignored.len(), 1, "{:?}", lease.ignored);
    }

    #[test]
    fn answers_to_others_are_not_ours() {
        let bytes = answer(MessageType::Offer, 7, ip("10.0.0.7"), vec![]);
        let other = Mac([2, 0, 0, 0, 0, 9]);
        assert_eq!(read(&bytes, 8, MAC), Err(Refused::NotOurs));
        assert_eq!(read(&bytes, 7, other), Err(Refused::NotOurs));
        let mut request = bytes.clone();
        request[0] = 1;
        assert_eq!(read(&request, 7, MAC), Err(Refused::NotOurs));
    }

    #[test]
    fn a_servers_words_reach_the_console_without_control_characters() {
        let words = DhcpOption::Message("no\x1b[2J such\nlease".to_owned() + &"x".repeat(200));
        let bytes = answer(MessageType::Nak, 7, Ipv4Addr::UNSPECIFIED, vec![words]);
        let Ok(Reply::Nak { words, .. }) = read(&bytes, 7, MAC) else {
            panic!("no NAK");
        };
        assert!(words.starts_with("no[2J suchlease"), "{words}");
        assert_eq!(words.len(), WORDS);
    }

    proptest! {
        #[test]
        fn no_packet_panics(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
            let _ = read(&bytes, 7, MAC);
        }

        #[test]
        fn no_options_panic_and_every_lease_is_usable(
            options in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..30),
            address in any::<u32>(),
        ) {
            let mut bytes = answer(MessageType::Ack, 7, Ipv4Addr::from_bits(address), vec![]);
            prop_assert_eq!(bytes.pop(), Some(255), "the end option");
            for (code, value) in options {
                bytes.extend([code, value.len() as u8]);
                bytes.extend(value);
            }
            if let Ok(Reply::Ack(lease)) = read(&bytes, 7, MAC) {
                prop_assert!(is_host(lease.address.address) && (1..=32).contains(&lease.address.prefix));
                prop_assert!(lease.gateway.is_none_or(is_host));
                prop_assert!(lease.dns.iter().all(|dns| is_host(*dns)));
                prop_assert!(lease.mtu.is_none_or(|mtu| mtu >= 576));
                prop_assert!(lease.times.renew < lease.times.rebind && lease.times.rebind < lease.times.expire);
                prop_assert!(lease.routes.len() <= ROUTES);
            }
        }
    }
}
