//! Addresses and what else a node needs of its network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `network:` of the cluster, and the same keys on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    /// Ask a DHCP server; default: yes for nodes without an address.
    #[serde(default)]
    pub dhcp: Option<bool>,
    /// Default gateway.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    #[serde(default)]
    pub dns: Vec<IpAddr>,
    /// Search domains.
    #[serde(default)]
    pub search: Vec<String>,
    /// Bytes of the largest packet; default: the card's.
    #[serde(default)]
    pub mtu: Option<u32>,
}

/// An address with the length of its network's prefix: `192.168.0.2/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of the network, 1 to 32.
    pub prefix: u8,
}

impl Cidr {
    /// The netmask, `255.255.255.0`.
    pub fn netmask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(
            u32::MAX
                .checked_shl(32 - u32::from(self.prefix))
                .unwrap_or(0),
        )
    }

    /// Whether `other` is in the same network.
    pub fn contains(self, other: Ipv4Addr) -> bool {
        let mask = self.netmask().to_bits();
        self.address.to_bits() & mask == other.to_bits() & mask
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("{text:?} is no address with a prefix length, such as 192.168.0.2/24");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if !(1..=32).contains(&prefix) {
            return Err(wrong());
        }
        if address.is_loopback() || address.is_multicast() || address.is_unspecified() {
            return Err(format!("{address} is no address that a node can have"));
        }
        let cidr = Cidr { address, prefix };
        let host = address.to_bits() & !cidr.netmask().to_bits();
        if prefix < 31 && (host == 0 || host == !cidr.netmask().to_bits()) {
            return Err(format!(
                "{text} is the address of the network itself or its broadcast address"
            ));
        }
        Ok(cidr)
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_a_prefix_and_must_be_a_hosts() {
        let cidr: Cidr = "192.168.0.2/24".parse().unwrap();
        assert_eq!(cidr.netmask(), Ipv4Addr::new(255, 255, 255, 0));
        assert!(cidr.contains(Ipv4Addr::new(192, 168, 0, 254)));
        assert!(!cidr.contains(Ipv4Addr::new(192, 168, 1, 1)));
        for bad in [
            "192.168.0.2",
            "192.168.0.2/0",
            "192.168.0.2/33",
            "192.168.0.0/24",
            "192.168.0.255/24",
            "127.0.0.1/8",
            "0.0.0.0/8",
            "x/24",
            "::1/64",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
        assert!("10.0.0.1/32".parse::<Cidr>().is_ok());
        assert!("10.0.0.0/31".parse::<Cidr>().is_ok());
    }
}
