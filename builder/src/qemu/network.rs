//! Network cards, the cables in them, and QEMU's arguments for both.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use image_layout::cluster::Mac;

use super::arguments::{Arguments, joined};

/// A network card.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Where its cable leads.
    pub cable: Cable,
    /// The card's MAC address.
    pub mac: Option<Mac>,
}

/// Where a network card's cable leads.
#[derive(Clone, Debug)]
pub enum Cable {
    /// To a network of its own.
    Own(UserNetwork),
    /// To another QEMU, as datagrams over Unix sockets. Either side may be gone and come back.
    Datagrams {
        /// The socket of this side; QEMU makes it.
        local: PathBuf,
        /// The socket of the other side.
        remote: PathBuf,
    },
}

impl Default for Cable {
    fn default() -> Cable {
        Cable::Own(UserNetwork::default())
    }
}

/// A network on which QEMU is the DHCP server. There is no way out of it, as in the field: no
/// gateway, no name server.
#[derive(Clone, Debug, Default)]
pub struct UserNetwork {
    /// Local ports of this computer that reach ports of nodes.
    pub forwards: Vec<Forward>,
}

/// A local port that reaches a port of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The port on 127.0.0.1; 0 lets QEMU pick one.
    pub local: u16,
    /// Address of the node, where it isn't the first one that QEMU's DHCP server hands out.
    pub address: Option<std::net::Ipv4Addr>,
    /// The node's port.
    pub port: u16,
}

impl Network {
    pub(super) fn render(&self, arguments: &mut Arguments) {
        match &self.cable {
            Cable::Own(network) => arguments.pair("-netdev", network.netdev("net")),
            Cable::Datagrams { local, remote } => {
                arguments.pair("-netdev", datagrams("net", local, remote));
            }
        }
        let mac = self
            .mac
            .map_or_else(String::new, |mac| format!(",mac={mac}"));
        // Without the boot ROM firmware does not spend minutes on network boot.
        arguments.pair(
            "-device",
            format!("virtio-net-pci,netdev=net,id=card,romfile={mac}"),
        );
    }
}

impl UserNetwork {
    /// The value of `-netdev` that makes this network.
    pub fn netdev(&self, id: &str) -> String {
        use std::fmt::Write as _;
        // QEMU would otherwise announce a default route by IPv6 that leads nowhere.
        let mut netdev = format!("user,id={id},restrict=on,ipv6=off");
        for forward in &self.forwards {
            let address = forward
                .address
                .map_or_else(String::new, |address| address.to_string());
            // writing to a string can't fail
            let _ = write!(
                netdev,
                ",hostfwd=tcp:127.0.0.1:{}-{address}:{}",
                forward.local, forward.port
            );
        }
        netdev
    }
}

/// The value of `-netdev` that is one end of [`Cable::Datagrams`].
pub fn datagrams(id: &str, local: &Path, remote: &Path) -> OsString {
    let mut netdev = joined(
        &format!("dgram,id={id},local.type=unix,local.path="),
        local,
        ",remote.type=unix,",
    );
    netdev.push(joined("remote.path=", remote, ""));
    netdev
}
