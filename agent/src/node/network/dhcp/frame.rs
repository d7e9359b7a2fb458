//! IPv4 and UDP headers (RFC 791, 768), for packets from and to a card without an address.

use std::net::Ipv4Addr;

use super::{CLIENT_PORT, SERVER_PORT};

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
/// Flags and offset of a fragment, without "don't fragment".
const FRAGMENT: u16 = 0x3fff;

/// A packet from `from` to everybody, client port to server port. `None` if it were too long.
pub(super) fn wrap(from: Ipv4Addr, payload: &[u8]) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(UDP_HEADER + payload.len()).ok()?;
    let length = u16::try_from(IP_HEADER + UDP_HEADER + payload.len()).ok()?;
    let to = Ipv4Addr::BROADCAST;
    let mut ip = [0_u8; IP_HEADER];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&length.to_be_bytes());
    ip[8] = 64;
    ip[9] = UDP;
    ip[12..16].copy_from_slice(&from.octets());
    ip[16..20].copy_from_slice(&to.octets());
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = [0_u8; UDP_HEADER];
    udp[0..2].copy_from_slice(&CLIENT_PORT.to_be_bytes());
    udp[2..4].copy_from_slice(&SERVER_PORT.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_length.to_be_bytes());
    let [high, low] = udp_length.to_be_bytes();
    let pseudo = [0, UDP, high, low];
    let sum = match checksum(&[&from.octets(), &to.octets(), &pseudo, &udp, payload]) {
        // zero would say that there is none
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    Some([&ip[..], &udp, payload].concat())
}

/// The payload of a UDP packet to the client's port; `None` for anything else.
///
/// UDP's checksum is not looked at: a virtual card hands packets over before it is filled in.
pub(super) fn unwrap(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let header_length = usize::from(first & 0xf) * 4;
    let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let length = usize::from(word(2)?);
    let header = packet.get(..header_length)?;
    let good = first >> 4 == 4
        && header_length >= IP_HEADER
        && packet.get(9) == Some(&UDP)
        && word(6)? & FRAGMENT == 0
        && checksum(&[header]) == 0
        && word(header_length + 2)? == CLIENT_PORT;
    if !good {
        return None;
    }
    let udp_length = usize::from(word(header_length + 4)?);
    // behind the packet's own length may follow padding of the card
    packet
        .get(..length)?
        .get(header_length..header_length.checked_add(udp_length)?)?
        .get(UDP_HEADER..)
}

/// The Internet checksum (RFC 1071); every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|word| match *word {
            [high, low] => u32::from(u16::from_be_bytes([high, low])),
            [high] => u32::from(high) << 8,
            _ => 0,
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a server would have sent: ports the other way round.
    pub(in super::super) fn answer(payload: &[u8]) -> Vec<u8> {
        let mut packet = wrap(Ipv4Addr::new(10, 0, 0, 1), payload).unwrap();
        packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
        packet
    }

    #[test]
    fn the_checksums_are_those_of_the_rfc() {
        // RFC 1071, 3: the words 0001 f203 f4f5 f6f7 sum up to ddf2
        assert_eq!(
            checksum(&[&[0, 1, 0xf2, 3], &[0xf4, 0xf5, 0xf6, 0xf7]]),
            !0xddf2
        );
        let packet = wrap(Ipv4Addr::UNSPECIFIED, b"odd").unwrap();
        assert_eq!(checksum(&[&packet[..20]]), 0);
    }

    #[test]
    fn only_whole_udp_packets_to_the_clients_port_are_unwrapped() {
        let packet = answer(b"payload");
        assert_eq!(unwrap(&packet), Some(&b"payload"[..]));
        let mut padded = packet.clone();
        padded.extend([0; 9]);
        assert_eq!(unwrap(&padded), Some(&b"payload"[..]));
        assert_eq!(unwrap(&wrap(Ipv4Addr::LOCALHOST, b"x").unwrap()), None);
        for at in [0, 2, 6, 9, 10, 23, 24] {
            let mut spoilt = packet.clone();
            spoilt[at] ^= 0x21;
            assert_eq!(unwrap(&spoilt), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = unwrap(&bytes);
        }
    }
}
