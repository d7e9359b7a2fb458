//! Network cards: which there are, and which of them the node uses.

use std::path::Path;

use image_layout::cluster::Mac;
use image_layout::status::Interface;

use super::netlink::{Link, Netlink, NetlinkError};

/// A physical network card that cables go into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) struct Card {
    /// Number of the interface.
    pub(in crate::node) index: u32,
    /// Name of the interface.
    pub(in crate::node) name: String,
    /// MAC address.
    pub(in crate::node) mac: Mac,
    /// Driver; empty where the kernel does not say.
    pub(in crate::node) driver: String,
    /// Whether there is somebody at the other end of the cable.
    pub(in crate::node) carrier: bool,
    /// Bytes of the largest packet.
    pub(in crate::node) mtu: u32,
}

impl Card {
    /// The card as the status shows it.
    pub(in crate::node) fn interface(&self) -> Interface {
        Interface {
            name: self.name.clone(),
            mac: self.mac.to_string(),
            driver: self.driver.clone(),
            carrier: self.carrier,
        }
    }

    /// Whether `interface:` of cluster.yaml means this card: by name, MAC address or driver.
    pub(in crate::node) fn is(&self, wanted: &str) -> bool {
        self.name == wanted
            || (!self.driver.is_empty() && self.driver == wanted)
            || wanted.parse() == Ok(self.mac)
    }
}

/// The physical cards, all switched on, by index. `sys` is where sysfs is mounted.
///
/// Bridges, pods' ends of cables and tunnels have no device behind them; wireless cards need
/// more than this process can do and are left out.
pub(in crate::node) async fn cards(
    netlink: &Netlink,
    sys: &Path,
) -> Result<Vec<Card>, NetlinkError> {
    let mut cards = Vec::new();
    for link in netlink.links().await? {
        let class = sys.join("class/net").join(&link.name);
        let Some(mac) = link.mac.filter(|_| class.join("device").exists()) else {
            continue;
        };
        if class.join("phy80211").exists() || class.join("wireless").exists() {
            continue;
        }
        if !link.up
            && let Err(error) = netlink.set_up(&link).await
        {
            // a card may refuse for want of firmware; it is listed, without a carrier
            tracing::warn!("{error}");
        }
        cards.push(Card {
            mac,
            driver: driver(&class),
            index: link.index,
            carrier: link.carrier,
            mtu: link.mtu,
            name: link.name,
        });
    }
    Ok(cards)
}

/// Switches the loopback interface on.
pub(super) async fn loopback_up(netlink: &Netlink) -> Result<(), NetlinkError> {
    let lo = |link: &Link| link.name == "lo";
    match netlink.links().await?.into_iter().find(lo) {
        Some(link) if !link.up => netlink.set_up(&link).await,
        _ => Ok(()),
    }
}

fn driver(class: &Path) -> String {
    let link = std::fs::read_link(class.join("device/driver")).unwrap_or_default();
    let name = link.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The cards that may carry the node's address: the one that `wanted` means, or all.
pub(super) fn candidates<'a>(cards: &'a [Card], wanted: Option<&str>) -> Vec<&'a Card> {
    let meant = |card: &&Card| wanted.is_none_or(|wanted| card.is(wanted));
    cards.iter().filter(meant).collect()
}

/// The card for a fixed address, once that can be told: `None` means wait.
///
/// * The only candidate is it, cable or not.
/// * Of several, the only one with a carrier; cards take up to three seconds to agree on a
///   speed, so while some have none yet and `settled` is false, nothing is decided.
/// * Of several with a carrier, the first by name.
pub(super) fn for_fixed_address<'a>(candidates: &[&'a Card], settled: bool) -> Option<&'a Card> {
    if let [only] = candidates {
        return Some(only);
    }
    let with_carrier = || candidates.iter().filter(|card| card.carrier);
    if !settled && with_carrier().count() < candidates.len() {
        return None;
    }
    with_carrier().min_by(|a, b| a.name.cmp(&b.name)).copied()
}

#[cfg(test)]
pub(in crate::node) mod tests {
    use super::*;

    pub(in crate::node) fn card(index: u32, carrier: bool) -> Card {
        Card {
            index,
            name: format!("eth{index}"),
            mac: Mac([0x52, 0x54, 0, 0, 0, u8::try_from(index).unwrap()]),
            driver: if index == 0 { "e1000e" } else { "igb" }.to_owned(),
            carrier,
            mtu: 1500,
        }
    }

    #[test]
    fn a_card_is_meant_by_name_mac_address_or_driver() {
        let cards = [card(0, true), card(1, true), card(2, true)];
        let names = |wanted| {
            candidates(&cards, wanted)
                .iter()
                .map(|card| card.name.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(Some("eth1")), ["eth1"]);
        assert_eq!(names(Some("52-54-00-00-00-02")), ["eth2"]);
        assert_eq!(names(Some("igb")), ["eth1", "eth2"]);
        assert_eq!(names(Some("eth7")), [""; 0]);
        assert_eq!(names(None), ["eth0", "eth1", "eth2"]);
    }

    #[test]
    fn a_fixed_address_goes_to_the_only_card_with_a_cable() {
        let chosen = |carriers: &[bool], settled| {
            let cards: Vec<Card> = (0..).zip(carriers).map(|(i, c)| card(i, *c)).collect();
            let all: Vec<&Card> = cards.iter().collect();
            for_fixed_address(&all, settled).map(|card| card.index)
        };
        assert_eq!(
            chosen(&[false], false),
            Some(0),
            "the only one, cable or not"
        );
        assert_eq!(
            chosen(&[false, true], false),
            None,
            "the other may still come up"
        );
        assert_eq!(chosen(&[false, true], true), Some(1));
        assert_eq!(chosen(&[true, true], false), Some(0), "all are up");
        assert_eq!(chosen(&[false, false], true), None);
        assert_eq!(chosen(&[], true), None);
    }
}
