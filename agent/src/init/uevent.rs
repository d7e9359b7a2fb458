//! The kernel's device events, over netlink (Linux: lib/kobject_uevent.c).

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with, sockopt,
};

/// The kernel's own group; group 2 is udev's.
const KERNEL_GROUP: u32 = 1;
/// The kernel's events are at most 2 KiB of variables and a header.
const PACKET_BYTES: usize = 8 << 10;
/// Room for the burst that a coldplug makes.
const RECEIVE_BYTES: usize = 4 << 20;
/// Events taken in one turn of the loop.
const EVENTS_A_TURN: usize = 500;

/// One device event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uevent {
    /// `add`, `remove`, `change`, `bind` ...
    pub(super) action: String,
    /// Path of the device below `/sys`.
    pub(super) path: String,
    /// `block`, `net`, `input` ...
    pub(super) subsystem: String,
    /// Name in `/dev`, if it has one.
    pub(super) device: Option<String>,
    /// What the device calls itself to modules.
    pub(super) modalias: Option<String>,
}

impl Uevent {
    /// Reads a packet: `action@path`, then `KEY=value` pairs, each ended by a zero.
    pub(super) fn parse(packet: &[u8]) -> Option<Uevent> {
        let mut fields = packet.split(|&byte| byte == 0).map(String::from_utf8_lossy);
        let header = fields.next()?;
        let (action, path) = header.split_once('@')?;
        let mut event = Uevent {
            action: action.to_owned(),
            path: path.to_owned(),
            ..Uevent::default()
        };
        for field in fields {
            match field.split_once('=') {
                Some(("SUBSYSTEM", value)) => event.subsystem = value.to_owned(),
                Some(("DEVNAME", value)) => event.device = Some(value.to_owned()),
                Some(("MODALIAS", value)) => event.modalias = Some(value.to_owned()),
                _ => {}
            }
        }
        Some(event)
    }
}

/// What a turn of reading brought.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Events in order.
    pub(super) events: Vec<Uevent>,
    /// Whether the kernel dropped events: everything must be looked at anew.
    pub(super) lost: bool,
}

/// The socket.
#[derive(Debug)]
pub(super) struct UeventSocket(OwnedFd);

impl UeventSocket {
    /// Opens the socket. Opened before coldplug, it misses no device.
    pub(super) fn open() -> io::Result<UeventSocket> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            flags,
            Some(KOBJECT_UEVENT),
        )?;
        sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BYTES)?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(UeventSocket(socket))
    }

    /// The descriptor to poll.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// What has come since, at most a turn's worth. Only the kernel is listened to.
    pub(super) fn read(&self) -> Batch {
        let mut batch = Batch::default();
        let mut buffer = vec![0; PACKET_BYTES];
        for _ in 0..EVENTS_A_TURN {
            match recvfrom(&self.0, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((length, _, from)) => {
                    let sender = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
                    if sender.is_some_and(|sender| sender.pid() == 0) {
                        batch
                            .events
                            .extend(buffer.get(..length).and_then(Uevent::parse));
                    }
                }
                Err(Errno::NOBUFS) => batch.lost = true,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_event_is_read_with_the_variables_that_matter() {
        let packet = b"add@/devices/pci0000:00/x/block/sda/sda3\0ACTION=add\0DEVPATH=/devices/x\0\
            SUBSYSTEM=block\0MAJOR=8\0DEVNAME=sda3\0DEVTYPE=partition\0SEQNUM=1\0";
        assert_eq!(
            Uevent::parse(packet),
            Some(Uevent {
                action: "add".into(),
                path: "/devices/pci0000:00/x/block/sda/sda3".into(),
                subsystem: "block".into(),
                device: Some("sda3".into()),
                modalias: None,
            })
        );
        let usb = b"add@/devices/u\0MODALIAS=usb:v046DpC31C\0";
        assert_eq!(
            Uevent::parse(usb).unwrap().modalias.as_deref(),
            Some("usb:v046DpC31C")
        );
    }

    #[test]
    fn packets_of_udev_and_garbage_are_no_events() {
        assert_eq!(Uevent::parse(b"libudev\0\xfe\xed\xca\xfe"), None);
        assert_eq!(Uevent::parse(b""), None);
    }

    proptest! {
        #[test]
        fn no_packet_panics(packet in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Uevent::parse(&packet);
        }
    }
}
