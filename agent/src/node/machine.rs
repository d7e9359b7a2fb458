//! What this machine says about itself.

use std::path::Path;

use image_layout::cluster::{Mac, Machine};

use super::Place;
use super::network::links::Card;

/// Bytes read of one fact; SMBIOS strings have at most 64.
const FACT_BYTES: u64 = 256;

/// The machine's facts: MAC addresses of `cards`, serial number and UUID as its firmware says,
/// by SMBIOS or device tree.
pub(super) fn machine(place: &Place, cards: &[Card]) -> Machine {
    let dmi = place.sys.join("class/dmi/id");
    let serial = fact(&dmi.join("product_serial"))
        .or_else(|| fact(&place.proc.join("device-tree/serial-number")));
    let uuid = fact(&dmi.join("product_uuid"));
    let macs = cards.iter().map(|card| card.mac).collect();
    Machine::new(macs, serial.as_deref(), uuid.as_deref())
}

/// A text file of the kernel's; device tree strings end with a zero byte.
fn fact(path: &Path) -> Option<String> {
    let bytes = super::read_bounded(path, FACT_BYTES).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!text.is_empty()).then(|| text.to_owned())
}

/// The name of a machine that `cluster.yaml` gives none: `haulboot-123456`, from the lowest MAC
/// address, since the order of cards differs from boot to boot. Addresses that a card made up
/// itself count only where there is no other.
pub(super) fn own_name(machine: &Machine) -> String {
    let made_up = |mac: &Mac| mac.0.first().is_some_and(|first| first & 2 != 0);
    match machine.macs.iter().min_by_key(|mac| (made_up(mac), **mac)) {
        Some(Mac([_, _, _, a, b, c])) => format!("haulboot-{a:02x}{b:02x}{c:02x}"),
        None => "haulboot".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::node::network::links::tests::card;

    #[test]
    fn facts_come_from_smbios_or_the_device_tree() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::below(dir.path());
        fs::create_dir_all(place.sys.join("class/dmi/id")).unwrap();
        fs::create_dir_all(place.proc.join("device-tree")).unwrap();
        fs::write(
            place.proc.join("device-tree/serial-number"),
            "100000003d1d1c36\0",
        )
        .unwrap();
        let board = machine(&place, &[card(3, true)]);
        assert_eq!(board.serial.as_deref(), Some("100000003d1d1c36"));
        assert_eq!(board.macs.len(), 1);
        fs::write(place.sys.join("class/dmi/id/product_serial"), "ABC123\n").unwrap();
        let uuid = "4c4c4544-0042-3010-8052-b4c04f564d32";
        fs::write(
            place.sys.join("class/dmi/id/product_uuid"),
            format!("{uuid}\n"),
        )
        .unwrap();
        let server = machine(&place, &[]);
        assert_eq!(server.serial.as_deref(), Some("ABC123"));
        assert_eq!(
            server.uuid.map(|uuid| uuid.to_string()).as_deref(),
            Some(uuid)
        );
    }

    #[test]
    fn the_name_does_not_depend_on_the_order_of_cards() {
        let mac = |text: &str| text.parse::<Mac>().unwrap();
        let burnt_in = [mac("d8:9e:f3:00:00:02"), mac("d8:9e:f3:00:00:01")];
        let made_up = mac("02:00:00:aa:bb:cc");
        let with = |macs: &[Mac]| own_name(&Machine::new(macs.to_vec(), None, None));
        assert_eq!(
            with(&[burnt_in[0], made_up, burnt_in[1]]),
            "haulboot-000001"
        );
        assert_eq!(with(&[made_up]), "haulboot-aabbcc");
        assert_eq!(with(&[]), "haulboot");
    }
}
