//! A socket below IP, for one card: what DHCP needs before there is an address, and ARP always.

use std::io::{self, Read};

use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

/// Which packets; the numbers are EtherTypes (IEEE 802).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EtherType {
    /// IPv4, of which only UDP to port 68 is let through.
    DhcpAnswers = 0x0800,
    /// ARP.
    Arp = 0x0806,
}

/// A packet socket (packet(7)) bound to one card. Packets begin behind the Ethernet header.
#[derive(Debug)]
pub(super) struct PacketSocket {
    socket: AsyncFd<Socket>,
    broadcast: SockAddr,
}

impl PacketSocket {
    /// Opens the socket on the card with this index. Needs CAP_NET_RAW.
    pub(super) fn open(index: u32, kind: EtherType) -> io::Result<PacketSocket> {
        // with protocol 0 nothing is received until the filter is in place and bind says what
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        if kind == EtherType::DhcpAnswers {
            socket.attach_filter(&dhcp_answers())?;
        }
        let broadcast = link_address(index, kind)?;
        socket.bind(&broadcast)?;
        Ok(PacketSocket {
            socket: register(socket)?,
            broadcast,
        })
    }

    /// Sends one packet to every machine on the cable.
    pub(super) fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        self.socket
            .get_ref()
            .send_to(packet, &self.broadcast)
            .map(drop)
    }

    /// Waits for a packet; what does not fit into `buffer` is cut off. Gives its length.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| socket.get_ref().read(buffer)) {
                Ok(received) => return received,
                Err(_would_block) => {}
            }
        }
    }
}

#[allow(unsafe_code)]
fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a Socket owns one descriptor, gives the same for all its life, and is neither
    // replaced nor closed while the AsyncFd holds it.
    unsafe { AsyncFd::register(socket) }.map_err(|error| error.into_parts().1)
}

/// A filter (linux/filter.h) for whole UDP packets to port 68, so that the traffic of a registry
/// never wakes this process.
fn dhcp_answers() -> [SockFilter; 9] {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_HALF_AT_X: u16 = 0x48;
    const X_IS_HEADER_LENGTH: u16 = 0xb1;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 9),
        SockFilter::new(JUMP_EQUAL, 0, 6, 17),
        SockFilter::new(LOAD_HALF, 0, 0, 6),
        SockFilter::new(JUMP_ANY_BIT, 4, 0, 0x3fff),
        SockFilter::new(X_IS_HEADER_LENGTH, 0, 0, 0),
        SockFilter::new(LOAD_HALF_AT_X, 0, 0, 2),
        SockFilter::new(JUMP_EQUAL, 0, 1, 68),
        SockFilter::new(RETURN, 0, 0, 0x0001_0000),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// The broadcast address of one card.
#[allow(unsafe_code)]
fn link_address(index: u32, kind: EtherType) -> io::Result<SockAddr> {
    use nix::libc::{AF_PACKET, sockaddr_ll};

    let mut storage = socket2::SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the system's socket addresses, smaller than the storage, and
    // valid when zeroed.
    let address = unsafe { storage.view_as::<sockaddr_ll>() };
    address.sll_family = u16::try_from(AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = (kind as u16).to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    address.sll_halen = 6;
    address.sll_addr = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0];
    let length = u32::try_from(size_of::<sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: the first `length` bytes are a complete sockaddr_ll.
    Ok(unsafe { SockAddr::new(storage, length) })
}
