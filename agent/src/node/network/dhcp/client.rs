//! The states of a DHCP client (RFC 2131, figure 5), without I/O and without a clock of its own.
//!
//! * *selecting*: ask everybody, take the first usable offer;
//! * *requesting*: ask for that offer; four questions without an answer lead back;
//! * *rebooting*: ask everybody whether the address we have is still ours, after a restart of
//!   this process or when a cable is put in again;
//! * *bound*: the lease holds; at T1 *renewing* with the server, at T2 *rebinding* with any;
//! * at the end of the lease the address is given up and selecting begins anew.
//!
//! Questions are repeated after 1, 2, 4 ... 32 seconds, each a quarter longer or shorter by
//! chance, so that a hall full of nodes that get power at once does not ask in step.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::lease::Lease;
use super::reply::{self, Refused, Reply};
use super::request::{self, Asker, Kind};

/// Time since the kernel started.
pub(super) type Time = Duration;

/// Unanswered requests for an offer before another is looked for.
const REQUESTS: u32 = 4;
/// Unanswered questions after a restart before anything is taken.
const REBOOT_REQUESTS: u32 = 3;
/// From this question on an answer to everybody is asked for.
const BROADCAST_FROM: u32 = 3;
/// The longest pause between two questions.
const LONGEST_PAUSE: Duration = Duration::from_secs(32);
/// Complaints that one client makes in its life; a flood of bad packets is one line each.
const COMPLAINTS: usize = 8;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Send to everybody, from this address.
    Broadcast {
        /// Our address, or the unspecified one.
        from: Ipv4Addr,
        /// The packet without headers.
        packet: Vec<u8>,
    },
    /// Send to one server, from the address in use.
    Unicast {
        /// Our address.
        from: Ipv4Addr,
        /// The server.
        to: Ipv4Addr,
        /// The packet without headers.
        packet: Vec<u8>,
    },
    /// The lease holds, anew or still.
    Bound(Lease),
    /// The address must no longer be used; why, in words.
    Lost(String),
    /// Something a person should know.
    Say(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Selecting,
    Requesting(Lease),
    Rebooting(Ipv4Addr),
    Bound,
    Renewing,
    Rebinding,
}

/// A client for one card.
pub(super) struct Client<R> {
    asker: Asker,
    random: R,
    state: State,
    held: Option<Lease>,
    /// The address to wish for.
    wish: Option<Ipv4Addr>,
    xid: u32,
    /// Questions asked in this state.
    asked: u32,
    /// When the first was asked.
    asking_since: Time,
    /// When the last was sent.
    last_sent: Time,
    /// When to act without a packet.
    deadline: Time,
    /// Refusals in a row.
    naks: u32,
    /// What was complained about already.
    complaints: Vec<String>,
}

impl<R: FnMut() -> u32> Client<R> {
    /// A client that begins now. With `held`, a lease of an earlier run that has not ended, it
    /// asks whether it may keep it, and uses it meanwhile.
    pub(super) fn new(asker: Asker, held: Option<Lease>, now: Time, mut random: R) -> Self {
        let xid = random();
        let address = held.as_ref().map(|lease| lease.address.address);
        Client {
            asker,
            random,
            state: address.map_or(State::Selecting, State::Rebooting),
            held,
            wish: address,
            xid,
            asked: 0,
            asking_since: now,
            last_sent: now,
            deadline: now,
            naks: 0,
            complaints: Vec::new(),
        }
    }

    /// When [`Client::tick`] wants to be called.
    pub(super) fn deadline(&self) -> Time {
        self.deadline
    }

    /// The cable is in again: perhaps another network.
    pub(super) fn link_up(&mut self, now: Time) -> Vec<Action> {
        match self.held.as_ref().map(|lease| lease.address.address) {
            Some(address) => self.enter(State::Rebooting(address), now),
            None => self.enter(State::Selecting, now),
        }
        self.tick(now)
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        if now < self.deadline {
            return actions;
        }
        if let Some(lease) = &self.held
            && now >= lease.end()
        {
            let address = lease.address.address;
            let what = format!("the lease of {address} ended and no DHCP server extended it");
            self.lose(what, Duration::ZERO, now, &mut actions);
        }
        match &self.state {
            State::Requesting(_) if self.asked >= REQUESTS => self.enter(State::Selecting, now),
            State::Rebooting(_) if self.asked >= REBOOT_REQUESTS => {
                let next = if self.held.is_some() {
                    State::Bound
                } else {
                    State::Selecting
                };
                self.enter(next, now);
            }
            _ => {}
        }
        self.follow_the_lease(now);
        if self.state == State::Bound {
            self.plan(now);
        } else {
            self.ask(now, &mut actions);
        }
        actions
    }

    /// A packet came in: the payload of UDP to the client's port.
    pub(super) fn packet(&mut self, packet: &[u8], now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        match reply::read(packet, self.xid, self.asker.mac) {
            Err(Refused::NotOurs) => {}
            Err(Refused::Unusable(why)) => {
                let what = format!("a DHCP server's answer can't be used: {why}");
                self.complain(what, &mut actions);
            }
            Ok(Reply::Offer(lease)) => {
                if self.state == State::Selecting {
                    self.enter(State::Requesting(lease), now);
                    self.ask(now, &mut actions);
                }
            }
            Ok(Reply::Ack(lease)) => self.granted(lease, now, &mut actions),
            Ok(Reply::Nak { server, words }) => self.refused(server, &words, now, &mut actions),
        }
        actions
    }

    fn granted(&mut self, mut lease: Lease, now: Time, actions: &mut Vec<Action>) {
        match &self.state {
            State::Selecting | State::Bound => return,
            State::Requesting(offer) if offer.server != lease.server => return,
            _ => {}
        }
        for what in &lease.ignored {
            self.complain(format!("the DHCP server {}: {what}", lease.server), actions);
        }
        self.wish = Some(lease.address.address);
        lease.since = self.last_sent;
        self.held = Some(lease.clone());
        self.naks = 0;
        self.state = State::Bound;
        self.plan(now);
        actions.push(Action::Bound(lease));
    }

    fn refused(
        &mut self,
        server: Option<Ipv4Addr>,
        words: &str,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        match &self.state {
            State::Selecting | State::Bound => return,
            State::Requesting(offer) if server.is_some_and(|server| server != offer.server) => {
                return;
            }
            _ => {}
        }
        let server = server.map_or("without a name".to_owned(), |server| server.to_string());
        let quote = if words.is_empty() {
            String::new()
        } else {
            format!(" ({words})")
        };
        let what = format!("the DHCP server {server} refused our address{quote}");
        // each refusal in a row doubles the pause, so that two servers at odds make no storm
        let pause = Duration::from_secs(1 << self.naks.min(5));
        self.naks = self.naks.saturating_add(1);
        self.wish = None;
        self.lose(what, pause, now, actions);
    }

    /// Gives up the lease, if there is one, and begins anew after `pause`.
    fn lose(&mut self, what: String, pause: Duration, now: Time, actions: &mut Vec<Action>) {
        if self.held.take().is_some() {
            actions.push(Action::Lost(what));
        } else {
            self.complain(what, actions);
        }
        self.enter(State::Selecting, now);
        self.deadline = now + pause;
    }

    /// From bound to renewing to rebinding, as the lease gets older.
    fn follow_the_lease(&mut self, now: Time) {
        let Some(lease) = &self.held else { return };
        let age = now.saturating_sub(lease.since);
        let next = match self.state {
            State::Bound | State::Renewing if age >= lease.times.rebind => State::Rebinding,
            State::Bound if age >= lease.times.renew => State::Renewing,
            _ => return,
        };
        self.enter(next, now);
    }

    fn enter(&mut self, state: State, now: Time) {
        // the offer's own transaction goes on (RFC 2131, 4.4.1)
        if !matches!(state, State::Requesting(_) | State::Bound) {
            self.xid = (self.random)();
        }
        if !matches!(state, State::Requesting(_)) {
            self.asking_since = now;
        }
        self.state = state;
        self.asked = 0;
        self.deadline = now;
    }

    fn ask(&mut self, now: Time, actions: &mut Vec<Action>) {
        let in_use = self.held.as_ref();
        let in_use = in_use.map(|lease| (lease.address.address, lease.server));
        let kind = match &self.state {
            State::Selecting => Kind::Discover { wish: self.wish },
            State::Requesting(offer) => Kind::Select {
                address: offer.address.address,
                server: offer.server,
            },
            State::Rebooting(address) => Kind::Reboot { address: *address },
            State::Bound | State::Renewing | State::Rebinding => match in_use {
                Some((address, _)) => Kind::Extend { address },
                None => Kind::Discover { wish: self.wish },
            },
        };
        let waiting = now.saturating_sub(self.asking_since);
        let broadcast = self.asked + 1 >= BROADCAST_FROM && !matches!(kind, Kind::Extend { .. });
        if let Some(packet) = request::write(&self.asker, kind, self.xid, waiting, broadcast) {
            actions.push(match (&self.state, in_use) {
                (State::Renewing, Some((from, to))) => Action::Unicast { from, to, packet },
                (State::Rebinding, Some((from, _))) => Action::Broadcast { from, packet },
                _ => Action::Broadcast {
                    from: Ipv4Addr::UNSPECIFIED,
                    packet,
                },
            });
        }
        self.last_sent = now;
        self.asked = self.asked.saturating_add(1);
        self.plan(now);
    }

    /// Sets the deadline for what comes next in this state.
    fn plan(&mut self, now: Time) {
        let half_way = |to: Time| now + (to.saturating_sub(now) / 2).max(Duration::from_secs(1));
        self.deadline = match (&self.state, &self.held) {
            (State::Bound, Some(lease)) => (lease.since + lease.times.renew).max(now),
            (State::Renewing, Some(lease)) => {
                let rebind = lease.since + lease.times.rebind;
                half_way(rebind).min(rebind)
            }
            (State::Rebinding, Some(lease)) => half_way(lease.end()).min(lease.end()),
            (_, held) => {
                let pause = now + self.pause();
                let end = held.as_ref().map(|lease| lease.end().max(now));
                end.map_or(pause, |end| pause.min(end))
            }
        };
    }

    /// 1, 2, 4 ... 32 seconds, a quarter more or less.
    fn pause(&self) -> Duration {
        let whole = Duration::from_secs(1 << self.asked.saturating_sub(1).min(5));
        let whole = whole.min(LONGEST_PAUSE);
        // the transaction's number is random enough to be out of step with others
        let share = (self.xid.rotate_left(self.asked) & 0xff) * 2;
        whole * 3 / 4 + whole * share / 1024
    }

    fn complain(&mut self, what: String, actions: &mut Vec<Action>) {
        if self.complaints.len() < COMPLAINTS && !self.complaints.contains(&what) {
            self.complaints.push(what.clone());
            actions.push(Action::Say(what));
        }
    }
}

#[cfg(test)]
mod tests {
    use dhcproto::v4::{DhcpOption, Message, MessageType};
    use dhcproto::{Decodable, Decoder};
    use proptest::prelude::*;

    use super::super::reply::tests::{MAC, SERVER, answer};
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

    fn seconds(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    fn asker() -> Asker {
        Asker {
            mac: MAC,
            host_name: "node-1".to_owned(),
        }
    }

    fn counter() -> impl FnMut() -> u32 {
        let mut last = 0;
        move || {
            last += 1;
            last
        }
    }

    fn client(held: Option<Lease>) -> Client<impl FnMut() -> u32> {
        Client::new(asker(), held, Time::ZERO, counter())
    }

    /// The one packet among the actions: its kind and the message.
    fn sent(actions: &[Action]) -> (MessageType, Message) {
        let packets: Vec<_> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Broadcast { packet, .. } | Action::Unicast { packet, .. } => Some(packet),
                _ => None,
            })
            .collect();
        assert_eq!(packets.len(), 1, "{actions:?}");
        let message = Message::decode(&mut Decoder::new(packets[0])).unwrap();
        (message.opts().msg_type().unwrap(), message)
    }

    fn lease(kind: MessageType, xid: u32) -> Vec<u8> {
        let hour = DhcpOption::AddressLeaseTime(3600);
        let mask = DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0));
        answer(kind, xid, ADDRESS, vec![hour, mask])
    }

    /// A client with a lease granted at one second.
    fn bound() -> Client<impl FnMut() -> u32> {
        let mut client = client(None);
        client.tick(Time::ZERO);
        client.packet(&lease(MessageType::Offer, client.xid), seconds(1));
        let actions = client.packet(&lease(MessageType::Ack, client.xid), seconds(1));
        assert!(matches!(actions[..], [Action::Bound(_)]), "{actions:?}");
        client
    }

    #[test]
    fn an_offer_is_asked_for_and_its_grant_taken() {
        let mut client = client(None);
        let (kind, discover) = sent(&client.tick(Time::ZERO));
        assert_eq!(kind, MessageType::Discover);
        let xid = discover.xid();
        let (kind, request) = sent(&client.packet(&lease(MessageType::Offer, xid), seconds(1)));
        assert_eq!(kind, MessageType::Request);
        assert_eq!(request.xid(), xid, "one transaction");
        assert!(
            request
                .opts()
                .iter()
                .any(|(_, option)| *option == DhcpOption::RequestedIpAddress(ADDRESS))
        );
        assert!(
            request
                .opts()
                .iter()
                .any(|(_, option)| *option == DhcpOption::ServerIdentifier(SERVER))
        );
        let actions = client.packet(&lease(MessageType::Ack, xid), seconds(1));
        let [Action::Bound(lease)] = &actions[..] else {
            panic!("{actions:?}");
        };
        assert_eq!(lease.address.to_string(), "10.0.0.7/24");
        assert_eq!(client.deadline(), seconds(1 + 1800));
    }

    #[test]
    fn questions_are_repeated_ever_more_slowly_and_for_ever() {
        let mut client = client(None);
        let mut pauses = Vec::new();
        let mut now = Time::ZERO;
        for question in 0..12 {
            let (kind, message) = sent(&client.tick(now));
            assert_eq!(kind, MessageType::Discover);
            assert_eq!(message.flags().broadcast(), question >= 2);
            assert_eq!(u64::from(message.secs()), now.as_secs());
            assert_eq!(client.tick(now), [], "nothing before its time");
            pauses.push((client.deadline() - now).as_secs_f64());
            now = client.deadline();
        }
        for (pause, whole) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 32.0]) {
            assert!((whole * 0.75..=whole * 1.25).contains(pause), "{pauses:?}");
        }
    }

    #[test]
    fn an_offer_whose_server_falls_silent_is_let_go() {
        let mut client = client(None);
        client.tick(Time::ZERO);
        client.packet(&lease(MessageType::Offer, client.xid), seconds(0));
        let kinds: Vec<_> = (0..4)
            .map(|_| sent(&client.tick(client.deadline())).0)
            .collect();
        assert_eq!(kinds[..3], [MessageType::Request; 3]);
        assert_eq!(kinds[3], MessageType::Discover);
    }

    #[test]
    fn a_lease_is_renewed_with_its_server_then_with_anybody_then_given_up() {
        let mut client = bound();
        let renew = client.tick(client.deadline());
        assert!(
            matches!(
                renew[..],
                [Action::Unicast {
                    from: ADDRESS,
                    to: SERVER,
                    ..
                }]
            ),
            "{renew:?}"
        );
        let (kind, message) = sent(&renew);
        assert_eq!((kind, message.ciaddr()), (MessageType::Request, ADDRESS));
        let mut broadcasts = 0;
        let lost = loop {
            let now = client.deadline();
            let actions = client.tick(now);
            match &actions[..] {
                [Action::Unicast { .. }] => assert!(now < seconds(1 + 3150)),
                [Action::Broadcast { from, .. }] => {
                    assert_eq!((*from, now >= seconds(3150)), (ADDRESS, true));
                    broadcasts += 1;
                }
                [Action::Lost(why), Action::Broadcast { from, .. }] => {
                    assert_eq!(*from, Ipv4Addr::UNSPECIFIED);
                    break (now, why.clone());
                }
                other => panic!("{other:?}"),
            }
        };
        assert!(broadcasts > 1);
        assert_eq!(lost.0, seconds(1 + 3600));
        assert!(lost.1.contains("10.0.0.7 ended"), "{}", lost.1);
    }

    #[test]
    fn a_renewal_that_is_granted_starts_the_lease_anew() {
        let mut client = bound();
        let at = client.deadline();
        client.tick(at);
        let actions = client.packet(&lease(MessageType::Ack, client.xid), at + seconds(1));
        assert!(matches!(actions[..], [Action::Bound(_)]));
        assert_eq!(
            client.deadline(),
            at + seconds(1800),
            "from the question on"
        );
    }

    #[test]
    fn a_refusal_ends_the_lease_and_refusals_in_a_row_slow_down() {
        let mut client = bound();
        client.tick(client.deadline());
        let mut now = client.deadline();
        let nak = |xid| answer(MessageType::Nak, xid, Ipv4Addr::UNSPECIFIED, vec![]);
        let actions = client.packet(&nak(client.xid), now);
        assert!(
            matches!(&actions[..], [Action::Lost(why)] if why.contains("refused")),
            "{actions:?}"
        );
        let mut pauses = vec![client.deadline() - now];
        for _ in 0..8 {
            now = client.deadline();
            client.tick(now);
            client.packet(&lease(MessageType::Offer, client.xid), now);
            client.packet(&nak(client.xid), now);
            pauses.push(client.deadline() - now);
        }
        assert_eq!(pauses[..3], [seconds(1), seconds(2), seconds(4)]);
        assert_eq!(pauses.last(), Some(&seconds(32)));
    }

    #[test]
    fn after_a_restart_the_lease_in_use_is_asked_about_and_holds_to_its_end() {
        let held = super::super::tests::lease("10.0.0.7/24");
        let mut client = Client::new(asker(), Some(held), seconds(600), counter());
        let (kind, message) = sent(&client.tick(seconds(600)));
        assert_eq!(
            (kind, message.ciaddr()),
            (MessageType::Request, Ipv4Addr::UNSPECIFIED)
        );
        let server = dhcproto::v4::OptionCode::ServerIdentifier;
        assert!(!message.opts().contains(server));
        while client.state != State::Bound {
            let actions = client.tick(client.deadline());
            assert!(
                !actions
                    .iter()
                    .any(|action| matches!(action, Action::Lost(_)))
            );
        }
        assert_eq!(client.deadline(), seconds(1800), "counted from the grant");
        let lost = loop {
            let now = client.deadline();
            if let [Action::Lost(_), ..] = client.tick(now)[..] {
                break now;
            }
        };
        assert_eq!(lost, seconds(3600));
    }

    #[test]
    fn a_cable_put_in_again_is_asked_about_and_silence_changes_nothing() {
        let mut client = bound();
        let renew = client.deadline();
        let (kind, _) = sent(&client.link_up(seconds(100)));
        assert_eq!(kind, MessageType::Request);
        while client.state != State::Bound {
            let actions = client.tick(client.deadline());
            assert!(
                !actions
                    .iter()
                    .any(|action| matches!(action, Action::Lost(_)))
            );
        }
        assert_eq!(client.deadline(), renew);
    }

    #[test]
    fn a_grant_nobody_asked_for_or_from_another_server_is_ignored() {
        let mut client = client(None);
        client.tick(Time::ZERO);
        assert_eq!(
            client.packet(&lease(MessageType::Ack, client.xid), seconds(1)),
            []
        );
        client.packet(&lease(MessageType::Offer, client.xid), seconds(1));
        let other = DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 0, 66));
        let rogue = answer(MessageType::Ack, client.xid, ADDRESS, vec![other]);
        assert_eq!(client.packet(&rogue, seconds(1)), []);
    }

    #[test]
    fn a_flood_of_unusable_answers_is_one_line() {
        let mut client = client(None);
        client.tick(Time::ZERO);
        let loopback = answer(MessageType::Offer, client.xid, Ipv4Addr::LOCALHOST, vec![]);
        let said: usize = (0..1000)
            .map(|_| client.packet(&loopback, seconds(1)).len())
            .sum();
        assert_eq!(said, 1);
    }

    proptest! {
        /// Whatever servers say and whenever: the client always has something to wait for, ticks
        /// do not come in storms, and a lease is never used beyond its end.
        #[test]
        fn no_conversation_hangs_or_storms(
            events in proptest::collection::vec((0_u8..6, 0_u32..5000, any::<u32>()), 1..60)
        ) {
            let mut client = client(None);
            let mut now = Time::ZERO;
            let mut ends = None;
            for (kind, pause, value) in events {
                let target = now + seconds(pause.into());
                let mut ticks = 0;
                let mut run = |actions: Vec<Action>| {
                    for action in actions {
                        match action {
                            Action::Bound(lease) => ends = Some(lease.end()),
                            Action::Lost(_) => ends = None,
                            _ => {}
                        }
                    }
                };
                while client.deadline() <= target {
                    now = now.max(client.deadline());
                    run(client.tick(now));
                    ticks += 1;
                    prop_assert!(client.deadline() > now || ticks < 2000, "a tick that changes nothing");
                    prop_assert!(ticks < 2000);
                }
                now = target;
                let options = vec![
                    DhcpOption::AddressLeaseTime(value),
                    DhcpOption::Renewal(value.rotate_left(7)),
                    DhcpOption::Rebinding(value.rotate_left(13)),
                ];
                let actions = match kind {
                    0 => client.packet(&answer(MessageType::Offer, client.xid, ADDRESS, options), now),
                    1 => client.packet(&answer(MessageType::Ack, client.xid, ADDRESS, options), now),
                    2 => client.packet(&answer(MessageType::Nak, client.xid, ADDRESS, options), now),
                    3 => client.packet(&answer(MessageType::Ack, value, Ipv4Addr::from_bits(value), options), now),
                    4 => client.link_up(now),
                    _ => client.tick(now),
                };
                run(actions);
                prop_assert!(ends.is_none_or(|ends| now <= ends), "used beyond its end");
            }
        }
    }
}
