//! Writing what the client sends.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{DhcpOption, DhcpOptions, Flags, Message, MessageType, OptionCode};
use dhcproto::{Encodable, Encoder};
use image_layout::cluster::Mac;

/// What is told apart in the four places where RFC 2131 (4.3.6) has a client send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Who is there? With the address we would like.
    Discover {
        /// The address we had.
        wish: Option<Ipv4Addr>,
    },
    /// This offer, please.
    Select {
        /// Its address.
        address: Ipv4Addr,
        /// Its server.
        server: Ipv4Addr,
    },
    /// May we go on using this address? Asked of everybody, after a restart or a new cable.
    Reboot {
        /// The address we have.
        address: Ipv4Addr,
    },
    /// Extend the lease on this address, which is in use.
    Extend {
        /// The address.
        address: Ipv4Addr,
    },
}

/// BOOTP relays drop shorter packets (RFC 1542, 2.1).
const SHORTEST: usize = 300;
/// The largest answer that fits into one packet behind the IP and UDP headers.
const LARGEST_ANSWER: u16 = 1472;

/// Options asked for: those that [`super::reply`] reads.
const ASKED: [OptionCode; 8] = [
    OptionCode::SubnetMask,
    OptionCode::ClasslessStaticRoute,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::DomainName,
    OptionCode::InterfaceMtu,
    OptionCode::Renewal,
    OptionCode::Rebinding,
];

/// Who asks.
#[derive(Clone, Debug)]
pub(in crate::node::network) struct Asker {
    /// MAC address of the card, also the client identifier: the same for firmware, boot menu and
    /// node, so that a server gives all of them one address.
    pub(in crate::node::network) mac: Mac,
    /// Host name, for the server's list.
    pub(in crate::node::network) host_name: String,
}

/// One packet to a server, without IP and UDP headers.
///
/// `waiting` is the time since the client began to ask; `broadcast` asks for an answer to
/// everybody, for switches and cards that don't pass one to an address not yet in use.
pub(super) fn write(
    asker: &Asker,
    kind: Kind,
    xid: u32,
    waiting: Duration,
    broadcast: bool,
) -> Option<Vec<u8>> {
    let none = Ipv4Addr::UNSPECIFIED;
    let in_use = match kind {
        Kind::Extend { address } => address,
        _ => none,
    };
    let mut message = Message::new_with_id(xid, in_use, none, none, none, &asker.mac.0);
    message.set_secs(u16::try_from(waiting.as_secs()).unwrap_or(u16::MAX));
    if broadcast {
        message.set_flags(Flags::default().set_broadcast());
    }
    let mut options = DhcpOptions::new();
    let mut client = vec![1];
    client.extend(asker.mac.0);
    options.insert(DhcpOption::ClientIdentifier(client));
    options.insert(DhcpOption::ClassIdentifier(b"haulboot".to_vec()));
    options.insert(DhcpOption::Hostname(asker.host_name.clone()));
    options.insert(DhcpOption::MaxMessageSize(LARGEST_ANSWER));
    options.insert(DhcpOption::ParameterRequestList(ASKED.to_vec()));
    let (kind, wish, server) = match kind {
        Kind::Discover { wish } => (MessageType::Discover, wish, None),
        Kind::Select { address, server } => (MessageType::Request, Some(address), Some(server)),
        Kind::Reboot { address } => (MessageType::Request, Some(address), None),
        Kind::Extend { .. } => (MessageType::Request, None, None),
    };
    options.insert(DhcpOption::MessageType(kind));
    if let Some(address) = wish {
        options.insert(DhcpOption::RequestedIpAddress(address));
    }
    if let Some(server) = server {
        options.insert(DhcpOption::ServerIdentifier(server));
    }
    message.set_opts(options);
    let mut bytes = Vec::new();
    // only values too long for their option can fail, and none here is
    message.encode(&mut Encoder::new(&mut bytes)).ok()?;
    if bytes.len() < SHORTEST {
        bytes.resize(SHORTEST, 0);
    }
    Some(bytes)
}
