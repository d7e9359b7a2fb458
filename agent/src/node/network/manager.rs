//! Brings the kernel's network in line with what is wanted, again and again.
//!
//! There is one procedure, [`Manager::refresh`]: read what is there, decide, put what is missing,
//! take away what is ours and no longer wanted. It runs after every change of a cable, an
//! address or a lease, so a restart of this process, a card that was reset and the first boot
//! are the same thing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use image_layout::cluster::Mac;
use image_layout::limits;
use image_layout::status::{MissingFirmware, Stage, Status};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::dhcp::{self, Command, Event, Lease};
use super::links::{self, Card};
use super::netlink::{Address, Changes, Netlink, NetlinkError};
use super::plan::{self, Plan, Use};
use super::{dns, problem, routes};
use crate::node::status::Reports;
use crate::node::{Place, etc};

/// How long to wait before saying that there is no network.
#[derive(Clone, Copy, Debug)]
pub(in crate::node) struct Patience {
    /// For any card to appear.
    pub(in crate::node) card: Duration,
    /// For a cable in one.
    pub(in crate::node) carrier: Duration,
    /// For a DHCP server, once a cable is in.
    pub(in crate::node) answer: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            card: Duration::from_secs(10),
            carrier: Duration::from_secs(30),
            answer: Duration::from_secs(30),
        }
    }
}

/// What the rest of the node needs to know of its network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::node) struct Reach {
    /// The node's own address and the name of the interface that has it.
    pub(in crate::node) own: Option<(Ipv4Addr, String)>,
    /// Whether that interface has a cable with somebody at its other end.
    pub(in crate::node) up: bool,
}

/// Where the rest of the node learns of its network.
#[derive(Debug)]
pub(in crate::node) struct Published {
    /// How the node is reached.
    pub(in crate::node) reach: watch::Sender<Reach>,
    /// Every address of its cards.
    pub(in crate::node) addresses: watch::Sender<BTreeSet<IpAddr>>,
}

/// How long cards take to agree on a speed with the switch.
const SETTLE: Duration = Duration::from_secs(3);
/// The shortest time between two refreshes; changes come in swarms when pods start.
const REFRESH: Duration = Duration::from_millis(100);
/// When to try again what the kernel refused.
pub(super) const RETRY: Duration = Duration::from_secs(10);

/// One card and what is known of it.
pub(super) struct Known {
    card: Card,
    client: Option<dhcp::Running>,
    lease: Option<Lease>,
    /// Whether the lease is to be put anew, with its new time.
    pub(super) renewed: bool,
    /// Whether a server, or its silence to the end of a lease, has decided about the address.
    /// Until then what an earlier run of this process put stays.
    pub(super) decided: bool,
    /// When a client may be started, after one ended.
    start_at: Instant,
}

/// What another machine on the cable was found to do.
pub(super) struct Conflict {
    pub(super) card: String,
    pub(super) address: String,
    pub(super) other: Mac,
}

pub(super) struct Manager<'a> {
    pub(super) plan: &'a Plan,
    place: &'a Place,
    patience: Patience,
    store: dhcp::Store,
    reports: &'a mut Reports,
    pub(super) netlink: Netlink,
    pub(super) cards: BTreeMap<u32, Known>,
    /// The card that is the node's, where one only is used.
    pub(super) chosen: Option<u32>,
    events: mpsc::Sender<(u32, Event)>,
    pub(super) conflicts: mpsc::Sender<Conflict>,
    began: Instant,
    carrier_since: Option<Instant>,
    used_since: Option<Instant>,
    /// Whether the stage ended, and whether well.
    pub(super) ended: Option<bool>,
    /// The card that was looked at for conflicts.
    pub(super) probed: Option<u32>,
    /// Notices that were given.
    said: Vec<String>,
    published: Published,
    pub(super) retry_at: Option<Instant>,
}

/// The stage *network* and all that follows: returns only where the kernel can't be talked to.
/// A network that can't be had is no error but a failed stage; it is tried on. `published` always
/// holds how the node is reached, and its addresses.
pub(in crate::node) async fn run(
    plan: &Plan,
    place: &Place,
    patience: Patience,
    netlink: Netlink,
    mut changes: Changes,
    published: Published,
    reports: &mut Reports,
) -> Result<std::convert::Infallible, NetlinkError> {
    reports.begin(Stage::Network);
    let (events, mut happened) = mpsc::channel(16);
    let (conflicts, mut conflicting) = mpsc::channel(1);
    let now = Instant::now();
    links::loopback_up(&netlink).await?;
    let mut manager = Manager {
        plan,
        place,
        patience,
        store: dhcp::Store::below(&place.root),
        reports,
        netlink,
        cards: BTreeMap::new(),
        chosen: None,
        events,
        conflicts,
        began: now,
        carrier_since: None,
        used_since: None,
        ended: None,
        probed: None,
        said: Vec::new(),
        published,
        retry_at: None,
    };
    loop {
        manager.refresh().await?;
        let next = Instant::now() + REFRESH;
        let wake = manager.wake();
        tokio::select! {
            changed = changes.wait() => {
                changed?;
                // what else changes until then is taken in by the same refresh
                sleep_until(next).await;
            }
            Some((index, event)) = happened.recv() => {
                manager.heard(index, event);
                while let Ok((index, event)) = happened.try_recv() {
                    manager.heard(index, event);
                }
            }
            Some(conflict) = conflicting.recv() => {
                let Conflict { card, address, other } = conflict;
                manager.reports.notice(format!(
                    "{card}: another machine ({other}) uses the address {address} too; change \
                     one of them"
                ));
            }
            () = sleep_until(wake.unwrap_or(next)), if wake.is_some() => {}
        }
    }
}

impl Manager<'_> {
    async fn refresh(&mut self) -> Result<(), NetlinkError> {
        self.retry_at = None;
        let cards = links::cards(&self.netlink, &self.place.sys).await?;
        self.take_in(cards);
        let addresses = self.netlink.addresses().await?;
        self.start_clients();
        let uses = self.uses(&addresses);
        self.apply(&uses, &addresses).await?;
        self.write_files(&uses);
        let addresses = self.netlink.addresses().await?;
        self.report(&addresses);
        self.publish_addresses(&addresses);
        self.publish(&uses);
        self.end(&uses).await
    }

    /// Compares the cards with those known before.
    fn take_in(&mut self, cards: Vec<Card>) {
        let now = Instant::now();
        let gone = |index: &u32| !cards.iter().any(|card| card.index == *index);
        for index in self.cards.keys().copied().filter(gone).collect::<Vec<_>>() {
            if let Some(known) = self.cards.remove(&index) {
                self.reports
                    .notice(format!("{}: the card is gone", known.card.name));
            }
            self.chosen = self.chosen.filter(|chosen| *chosen != index);
        }
        for card in cards {
            let before = self.cards.get(&card.index).map(|known| known.card.carrier);
            if let (Some(before), true) = (before, self.ended.is_some())
                && before != card.carrier
            {
                let what = if card.carrier { "in" } else { "out" };
                self.reports
                    .notice(format!("{}: the cable is {what}", card.name));
                // by itself the node changes no address that k3s knows it by
                let unplugged = |chosen| {
                    let known: Option<&Known> = self.cards.get(&chosen);
                    chosen != card.index && known.is_some_and(|known| !known.card.carrier)
                };
                if card.carrier && !self.plan.every_card && self.chosen.is_some_and(unplugged) {
                    self.reports.notice(format!(
                        "{}: not used, the node's card is another; put the cable back there, or \
                         restart the node",
                        card.name
                    ));
                }
            }
            let known = self.cards.entry(card.index).or_insert_with(|| Known {
                card: card.clone(),
                client: None,
                lease: None,
                renewed: false,
                decided: false,
                start_at: now,
            });
            if before.is_none()
                && self.plan.dhcp()
                && self
                    .plan
                    .interface
                    .as_deref()
                    .is_none_or(|wanted| card.is(wanted))
            {
                // an earlier run of this process left it
                known.lease = self.store.load(card.mac);
                known.renewed = known.lease.is_some();
                if known.lease.is_some() && !self.plan.every_card {
                    self.chosen = self.chosen.or(Some(card.index));
                }
            }
            if before == Some(false)
                && card.carrier
                && let Some(client) = &known.client
            {
                client.tell(Command::LinkUp);
            }
            known.card = card;
        }
        let carrier = self.candidates().iter().any(|card| card.carrier);
        self.carrier_since = match self.carrier_since {
            _ if !carrier => None,
            None => Some(now),
            since => since,
        };
    }

    fn all_cards(&self) -> Vec<Card> {
        self.cards
            .values()
            .map(|known| known.card.clone())
            .collect()
    }

    fn candidates(&self) -> Vec<Card> {
        let cards = self.all_cards();
        let wanted = self.plan.interface.as_deref();
        links::candidates(&cards, wanted)
            .into_iter()
            .cloned()
            .collect()
    }

    /// Starts a DHCP client on every card that may be the node's and has a cable.
    fn start_clients(&mut self) {
        if !self.plan.dhcp() {
            return;
        }
        let now = Instant::now();
        for card in self.candidates() {
            let chosen = self.chosen.is_none_or(|chosen| chosen == card.index);
            let Some(known) = self.cards.get_mut(&card.index) else {
                continue;
            };
            if !chosen {
                known.client = None;
                known.lease = None;
                known.decided = true;
            } else if known.client.is_none() && card.carrier {
                if known.start_at > now {
                    let at = known.start_at;
                    self.retry_at = Some(self.retry_at.map_or(at, |other| other.min(at)));
                    continue;
                }
                let events = self.events.clone();
                known.client = Some(dhcp::start(
                    &card,
                    &self.plan.host_name,
                    known.lease.clone(),
                    events,
                ));
            }
        }
    }

    /// A DHCP client said something.
    fn heard(&mut self, index: u32, event: Event) {
        let Some(known) = self.cards.get_mut(&index) else {
            return;
        };
        let name = known.card.name.clone();
        match event {
            Event::Bound(lease) => {
                let late = self.chosen.is_some_and(|chosen| chosen != index);
                if late && !self.plan.every_card {
                    return;
                }
                let new = known.lease.as_ref().map(|old| old.address) != Some(lease.address);
                if new && self.ended == Some(true) {
                    let address = lease.address;
                    self.reports.notice(format!("{name}: {address} by DHCP"));
                }
                known.renewed = true;
                known.decided = true;
                self.store.keep(known.card.mac, Some(&lease));
                known.lease = Some(*lease);
                if !self.plan.every_card {
                    self.chosen = Some(index);
                }
            }
            Event::Lost(why) => {
                known.lease = None;
                known.decided = true;
                self.store.keep(known.card.mac, None);
                self.chosen = self.chosen.filter(|chosen| *chosen != index);
                self.reports.notice(format!("{name}: {why}"));
            }
            Event::Say(what) => self.say(format!("{name}: {what}")),
            Event::Ended(error) => {
                known.client = None;
                known.start_at = Instant::now() + RETRY;
                self.say(format!("{name}: asking for an address failed: {error}"));
            }
        }
    }

    fn uses(&mut self, addresses: &[Address]) -> Vec<Use> {
        let candidates = self.candidates();
        if let Some(fixed) = self.plan.address {
            let refs: Vec<&Card> = candidates.iter().collect();
            // an earlier run of this process chose it
            let had =
                |address: &&Address| address.ours && address.address == IpAddr::from(fixed.address);
            let before = addresses.iter().find(had).map(|address| address.index);
            self.chosen = self.chosen.or(before);
            // Once it served, a card stays the node's as long as it is there. Before that one
            // without a cable is no more than a guess, and a better one may appear.
            let had_network = self.ended == Some(true);
            let kept = refs
                .iter()
                .find(|card| Some(card.index) == self.chosen && (card.carrier || had_network));
            let settled = self
                .carrier_since
                .is_some_and(|since| since.elapsed() >= SETTLE);
            let fixed = kept
                .copied()
                .or_else(|| links::for_fixed_address(&refs, settled));
            self.chosen = fixed.map(|card| card.index);
            return plan::uses(self.plan, fixed, &[]);
        }
        let mut leases: Vec<(&Card, &Lease)> = self
            .cards
            .values()
            .filter_map(|known| Some((&known.card, known.lease.as_ref()?)))
            .collect();
        // the kernel would go on using routes of a card whose cable is out before another's
        if leases.iter().any(|(card, _)| card.carrier) {
            leases.retain(|(card, _)| card.carrier);
        }
        plan::uses(self.plan, None, &leases)
    }

    fn write_files(&mut self, uses: &[Use]) {
        let own = uses.first().map(|one| one.address.address);
        let own = own.or(self.ended.map(|_| routes::DUMMY_ADDRESS.address));
        let (servers, search) = plan::resolvers(self.plan, uses);
        let resolv_conf = dns::resolv_conf(&servers, &search, own);
        let name = &self.plan.host_name;
        if let Err(error) = etc::write_network(&self.place.root, name, own, &resolv_conf) {
            self.say(error.to_string());
        }
    }

    fn publish(&self, uses: &[Use]) {
        let reach = uses.first().map_or_else(Reach::default, |one| Reach {
            own: Some((one.address.address, one.card.name.clone())),
            up: one.card.carrier,
        });
        self.published.reach.send_if_modified(|known| {
            let new = *known != reach;
            *known = reach;
            new
        });
    }

    fn publish_addresses(&self, addresses: &[Address]) {
        let of_a_card = |address: &&Address| self.cards.contains_key(&address.index);
        let of_cards = addresses.iter().filter(of_a_card);
        let new: BTreeSet<IpAddr> = of_cards.map(|address| address.address).collect();
        self.published.addresses.send_if_modified(|known| {
            let changed = *known != new;
            *known = new;
            changed
        });
    }

    /// Tells PID 1 the cards and their addresses.
    fn report(&mut self, addresses: &[Address]) {
        let of_a_card = |address: &&Address| {
            let link_local =
                matches!(address.address, IpAddr::V6(v6) if v6.is_unicast_link_local());
            self.cards.contains_key(&address.index) && !link_local
        };
        let addresses: Vec<String> = addresses
            .iter()
            .filter(of_a_card)
            .map(|address| format!("{}/{}", address.address, address.prefix))
            .collect();
        let interfaces = self
            .cards
            .values()
            .map(|known| known.card.interface())
            .collect();
        self.reports.node(|node| {
            node.addresses = addresses;
            node.interfaces = interfaces;
        });
    }

    /// Ends the stage when there is an address, or when it is time to say that there is none;
    /// ends it anew when one comes after that.
    async fn end(&mut self, uses: &[Use]) -> Result<(), NetlinkError> {
        if uses.is_empty() {
            self.used_since = None;
        } else {
            self.used_since.get_or_insert_with(Instant::now);
        }
        if self.ended != Some(true) && self.is_complete(uses) {
            self.ended = Some(true);
            let summary = plan::summary(self.plan, uses);
            self.reports.done(Stage::Network, summary);
        } else if self.ended.is_none() && self.give_up_at() <= Instant::now() {
            self.ended = Some(false);
            let cards = self.all_cards();
            let firmware = missing_firmware(&self.place.root);
            let problem = problem::no_network(self.plan, &cards, &firmware);
            let detail = match cards.len() {
                0 => "no network card".to_owned(),
                _ => "no address".to_owned(),
            };
            self.reports.failed(Stage::Network, detail, problem);
            // a node without a network has a default route and an address in its files too
            self.apply_routes(uses).await?;
            self.write_files(uses);
        } else if self.ended.is_none() && self.carrier_since.is_none() && self.is_slow() {
            let names: Vec<String> = self
                .candidates()
                .into_iter()
                .map(|card| card.name)
                .collect();
            if !names.is_empty() {
                let left = self.patience.carrier.as_secs();
                self.say(format!(
                    "waiting up to {left} s for a cable in {}",
                    names.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// Whether the network is as it should be: an address on a card with a cable; and where every
    /// card counts, on all with a cable, or the others had their time.
    fn is_complete(&self, uses: &[Use]) -> bool {
        let connected = uses.iter().any(|one| one.card.carrier);
        let pending = self.plan.every_card
            && self.plan.dhcp()
            && self
                .candidates()
                .iter()
                .any(|card| card.carrier && !uses.iter().any(|one| one.card.index == card.index));
        let waited = self
            .used_since
            .is_some_and(|since| since.elapsed() >= SETTLE);
        connected && (!pending || waited)
    }

    fn is_slow(&self) -> bool {
        self.began.elapsed() >= SETTLE
    }

    /// When the stage ends without an address.
    fn give_up_at(&self) -> Instant {
        if self.plan.address.is_none() && !self.plan.dhcp() {
            return self.began;
        }
        match self.carrier_since {
            Some(since) => since + self.patience.answer,
            None if self.candidates().is_empty() => self.began + self.patience.card,
            None => self.began + self.patience.carrier,
        }
    }

    /// When to refresh though nothing changes.
    fn wake(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut times = vec![self.retry_at];
        if self.ended != Some(true) {
            times.push(self.carrier_since.map(|since| since + SETTLE));
            times.push(self.used_since.map(|since| since + SETTLE));
        }
        if self.ended.is_none() {
            times.push(Some(self.began + SETTLE));
            times.push(Some(self.give_up_at()));
        }
        times.into_iter().flatten().filter(|time| *time > now).min()
    }

    /// Gives a notice once.
    pub(super) fn say(&mut self, what: String) {
        const KEPT: usize = 64;
        if self.said.len() < KEPT && !self.said.contains(&what) {
            self.said.push(what.clone());
            self.reports.notice(what);
        }
    }
}

/// What drivers asked for and did not get, as far as PID 1 has heard.
fn missing_firmware(root: &std::path::Path) -> Vec<MissingFirmware> {
    let path = root.join(image_layout::paths::node::STATUS.trim_start_matches('/'));
    let status = crate::node::read_bounded(&path, limits::STATUS_BYTES)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Status>(&bytes).ok());
    status.unwrap_or_default().missing_firmware
}
