//! Why there is no network, in words for the person in front of the machine.

use image_layout::status::{MissingFirmware, Problem};

use super::links::Card;
use super::plan::Plan;

/// The screen for a node without an address. `firmware` is what drivers asked for and did not
/// get.
pub(super) fn no_network(plan: &Plan, cards: &[Card], firmware: &[MissingFirmware]) -> Problem {
    let candidates: Vec<&Card> = super::links::candidates(cards, plan.interface.as_deref());
    let carrier = candidates.iter().any(|card| card.carrier);
    let wanted = plan.interface.as_deref();
    let (why, mend) = if cards.is_empty() {
        (
            "This machine has no network card that Linux knows.".to_owned(),
            "If it has one, its driver or firmware may not be on the stick: write the stick \
             again with builder --firmware, or use another card (USB ones work too). The node \
             takes a card as soon as it appears."
                .to_owned(),
        )
    } else if let Some(wanted) = wanted.filter(|_| candidates.is_empty()) {
        (
            format!("No network card has the name, MAC address or driver {wanted}."),
            format!(
                "Put the stick into any computer, open cluster.yaml on the drive HAULCFG and \
                 change `interface: {wanted}` of {} to one of the cards above.",
                plan.host_name
            ),
        )
    } else if plan.address.is_none() && !plan.dhcp() {
        (
            format!("{} has no address and DHCP is off.", plan.host_name),
            format!(
                "Put the stick into any computer, open cluster.yaml on the drive HAULCFG and \
                 give {} an `address:`, or remove `dhcp: false`.",
                plan.host_name
            ),
        )
    } else if !carrier {
        (
            "No cable is in, or nobody is at its other end.".to_owned(),
            "Put a network cable in and look whether the switch is on. The node goes on by \
             itself."
                .to_owned(),
        )
    } else if plan.address.is_some() {
        (
            "No card for the address could be chosen.".to_owned(),
            "Give the node an `interface:` in cluster.yaml on the drive HAULCFG.".to_owned(),
        )
    } else {
        (
            "No DHCP server answers.".to_owned(),
            "Start a DHCP server in this network, or put the stick into any computer, open \
             cluster.yaml on the drive HAULCFG and give the node an `address:`. The node keeps \
             asking."
                .to_owned(),
        )
    };
    let mut what = why;
    if !cards.is_empty() {
        let cards: Vec<String> = cards.iter().map(|card| line(card, firmware)).collect();
        what.push_str(&format!(" Network cards: {}.", cards.join("; ")));
    }
    let of_no_card = firmware
        .iter()
        .filter(|missing| !cards.iter().any(|card| is_of(missing, card)));
    let files: Vec<&str> = of_no_card.map(|missing| missing.file.as_str()).collect();
    if cards.is_empty() && !files.is_empty() {
        what.push_str(&format!(
            " Firmware that drivers miss: {}.",
            files.join(", ")
        ));
    }
    Problem { what, mend }
}

fn is_of(missing: &MissingFirmware, card: &Card) -> bool {
    missing.device == card.name || (!missing.driver.is_empty() && missing.driver == card.driver)
}

/// `eth0 (52:54:00:12:34:56, igb, no cable)`.
fn line(card: &Card, firmware: &[MissingFirmware]) -> String {
    let mut facts = vec![card.mac.to_string()];
    if !card.driver.is_empty() {
        facts.push(card.driver.clone());
    }
    facts.push(if card.carrier { "cable in" } else { "no cable" }.to_owned());
    let missing = firmware.iter().filter(|missing| is_of(missing, card));
    facts.extend(missing.map(|missing| format!("lacks firmware {}", missing.file)));
    format!("{} ({})", card.name, facts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::links::tests::card;
    use super::*;

    #[test]
    fn every_card_is_listed_with_what_is_wrong_with_it() {
        let missing = MissingFirmware {
            driver: "igb".to_owned(),
            device: "0000:01:00.0".to_owned(),
            file: "intel/igb.fw".to_owned(),
        };
        let cards = [card(0, false), card(1, false)];
        let problem = no_network(&Plan::default(), &cards, &[missing]);
        assert_eq!(
            problem.what,
            "No cable is in, or nobody is at its other end. Network cards: \
             eth0 (52:54:00:00:00:00, e1000e, no cable); \
             eth1 (52:54:00:00:00:01, igb, no cable, lacks firmware intel/igb.fw)."
        );
    }

    #[test]
    fn each_reason_has_its_remedy() {
        let plan = |interface: Option<&str>, dhcp| Plan {
            host_name: "node-1".to_owned(),
            interface: interface.map(str::to_owned),
            network: image_layout::cluster::Network {
                dhcp,
                ..Default::default()
            },
            ..Plan::default()
        };
        let up = [card(0, true)];
        for (plan, cards, why, mend) in [
            (plan(None, None), &[][..], "no network card", "--firmware"),
            (
                plan(None, Some(false)),
                &[card(0, false)][..],
                "no address and DHCP is off",
                "`address:`",
            ),
            (
                plan(Some("eth7"), None),
                &up[..],
                "driver eth7",
                "interface: eth7",
            ),
            (
                plan(None, None),
                &up[..],
                "No DHCP server",
                "Start a DHCP server",
            ),
            (
                plan(None, Some(false)),
                &up[..],
                "DHCP is off",
                "dhcp: false",
            ),
        ] {
            let problem = no_network(&plan, cards, &[]);
            assert!(problem.what.contains(why), "{}", problem.what);
            assert!(problem.mend.contains(mend), "{}", problem.mend);
        }
    }
}
