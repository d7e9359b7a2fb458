//! Looking whether somebody else uses an address (RFC 5227, "IPv4 Address Conflict Detection").

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use image_layout::cluster::Mac;
use tokio::time::{Instant, sleep, sleep_until};

use super::packet_socket::{EtherType, PacketSocket};

/// Probes that are sent, one each [`PAUSE`].
const PROBES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(330);
/// Announcements, one each [`PAUSE`].
const ANNOUNCEMENTS: u32 = 2;
/// Packets read in all; a flood of others' ARP ends the look, not the node.
const PACKETS: u32 = 1000;

/// Asks three times within a second who has `address`. Gives the MAC address of another machine
/// that says it does. Where nobody does, tells everybody that we have it.
pub(super) async fn conflict(index: u32, own: Mac, address: Ipv4Addr) -> io::Result<Option<Mac>> {
    let socket = PacketSocket::open(index, EtherType::Arp)?;
    let mut buffer = [0; 64];
    let mut read = 0;
    let begin = Instant::now();
    for probe in 0..PROBES {
        socket.broadcast(&question(own, address))?;
        let until = begin + PAUSE * (probe + 1);
        while read < PACKETS {
            let length = tokio::select! {
                received = socket.receive(&mut buffer) => received?,
                () = sleep_until(until) => break,
            };
            read += 1;
            let packet = buffer.get(..length).unwrap_or_default();
            if let Some(other) = claims(packet, address).filter(|other| *other != own) {
                return Ok(Some(other));
            }
        }
    }
    // whoever remembers another machine there learns better (RFC 5227, 2.3)
    for _ in 0..ANNOUNCEMENTS {
        socket.broadcast(&announcement(own, address))?;
        sleep(PAUSE).await;
    }
    Ok(None)
}

/// "`address` is mine": a question for it that names us as its owner already.
fn announcement(own: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut packet = question(own, address);
    if let Some(sender) = packet.get_mut(14..18) {
        sender.copy_from_slice(&address.octets());
    }
    packet
}

/// "Who has `address`?", without saying who asks, so that nobody's table is changed.
fn question(own: Mac, address: Ipv4Addr) -> Vec<u8> {
    // Ethernet, IPv4, 6 and 4 bytes, request (RFC 826)
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend(own.0);
    packet.extend([0; 4]);
    packet.extend([0; 6]);
    packet.extend(address.octets());
    packet
}

/// Who says in this packet that `address` is his: its sender, or one who probes for it too.
fn claims(packet: &[u8], address: Ipv4Addr) -> Option<Mac> {
    let (head, rest) = packet.split_first_chunk::<8>()?;
    if head.get(..6) != Some(&[0, 1, 8, 0, 6, 4]) {
        return None;
    }
    let (mac, rest) = rest.split_first_chunk::<6>()?;
    let (sender, rest) = rest.split_first_chunk::<4>()?;
    let target = rest.get(6..10)?;
    let sender = Ipv4Addr::from(*sender);
    let probes = sender.is_unspecified() && target == address.octets();
    (sender == address || probes).then_some(Mac(*mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

    #[test]
    fn an_answer_or_anothers_probe_is_a_claim() {
        let mut answer = vec![0, 1, 8, 0, 6, 4, 0, 2];
        answer.extend(OTHER.0);
        answer.extend(ADDRESS.octets());
        answer.extend(OWN.0);
        answer.extend([0; 4]);
        assert_eq!(claims(&answer, ADDRESS), Some(OTHER));
        assert_eq!(claims(&question(OTHER, ADDRESS), ADDRESS), Some(OTHER));
        assert_eq!(claims(&announcement(OTHER, ADDRESS), ADDRESS), Some(OTHER));
        assert_eq!(claims(&answer, Ipv4Addr::new(10, 0, 0, 8)), None);
        for cut in 0..answer.len() {
            let _ = claims(&answer[..cut], ADDRESS);
        }
        answer[2] = 0x86;
        assert_eq!(claims(&answer, ADDRESS), None, "no IPv4");
    }
}
