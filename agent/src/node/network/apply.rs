//! Putting what is wanted into the kernel.

use std::net::IpAddr;

use tokio::time::Instant;

use super::dhcp::{self, Lease};
use super::manager::{Conflict, Manager, RETRY};
use super::netlink::{Address, NetlinkError};
use super::plan::{self, Use};
use super::{arp, routes};

impl Manager<'_> {
    /// Puts what is missing, takes away what is ours and not wanted. What the kernel refuses is
    /// said once and tried again later.
    pub(super) async fn apply(
        &mut self,
        uses: &[Use],
        addresses: &[Address],
    ) -> Result<(), NetlinkError> {
        for one in uses {
            if let Some(mtu) = one.mtu.filter(|mtu| *mtu != one.card.mtu) {
                let set = self.netlink.set_mtu(one.card.index, mtu).await;
                self.tolerate(&one.card.name, set);
            }
            let there = addresses.iter().any(|address| is_at(address, one));
            let known = self.cards.get_mut(&one.card.index);
            let renewed = known.is_some_and(|known| std::mem::take(&mut known.renewed));
            if !there || renewed {
                let left = |lease: &Lease| lease.end().saturating_sub(dhcp::uptime());
                let lifetime = one.lease.as_ref().map(left);
                let index = one.card.index;
                let put = self.netlink.put_address(index, one.address, lifetime).await;
                self.tolerate(&one.card.name, put);
            }
            self.probe(one);
        }
        for address in addresses {
            let decided = self.is_decided(address.index);
            let wanted = uses.iter().any(|one| is_at(address, one));
            if address.ours && decided && !wanted {
                let removed = self.netlink.remove_address(address).await;
                self.tolerate("an address", removed);
            }
        }
        self.apply_routes(uses).await
    }

    pub(super) async fn apply_routes(&mut self, uses: &[Use]) -> Result<(), NetlinkError> {
        let wanted = plan::wanted_routes(uses);
        let there = self.netlink.routes().await?;
        for (route, ours) in &there {
            let kept = wanted.contains(route) || routes::is_nowhere(route);
            if *ours && !kept && self.is_decided(route.index) {
                let removed = self.netlink.remove_route(*route).await;
                self.tolerate("a route", removed);
            }
        }
        let mut has_default = there
            .iter()
            .filter(|(route, _)| route.is_default())
            .any(|(route, ours)| !*ours || wanted.contains(route) || routes::is_nowhere(route));
        for route in &wanted {
            if !there.iter().any(|(existing, _)| existing == route) {
                let put = self.netlink.put_route(*route).await;
                // one that the kernel refuses is none
                has_default |= put.is_ok() && route.is_default();
                self.tolerate("a route", put);
            }
        }
        if !has_default && (!uses.is_empty() || self.ended.is_some()) {
            let card = uses.first().map(|one| one.card.index);
            let put = routes::put_nowhere(&self.netlink, card).await.map(drop);
            self.tolerate("the default route", put);
        }
        Ok(())
    }

    /// Whether what is ours on this interface may be taken away.
    fn is_decided(&self, index: u32) -> bool {
        let fixed = self.plan.address.is_some();
        self.cards
            .get(&index)
            .is_some_and(|known| known.decided || (fixed && self.chosen.is_some()))
    }

    fn tolerate(&mut self, what: &str, result: Result<(), NetlinkError>) {
        if let Err(error) = result {
            self.retry_at = Some(Instant::now() + RETRY);
            self.say(format!("{what}: {error}"));
        }
    }

    /// Looks once whether another machine uses the fixed address; takes a second beside the
    /// rest.
    pub(super) fn probe(&mut self, one: &Use) {
        let index = one.card.index;
        if one.lease.is_some() || !one.card.carrier || self.probed == Some(index) {
            return;
        }
        self.probed = Some(index);
        let (card, address) = (one.card.clone(), one.address);
        let found = self.conflicts.clone();
        tokio::spawn(async move {
            match arp::conflict(index, card.mac, address.address).await {
                Ok(Some(other)) => {
                    let conflict = Conflict {
                        card: card.name,
                        address: address.to_string(),
                        other,
                    };
                    // the manager is gone only when the process ends
                    let _ = found.send(conflict).await;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!("{}: looking for {address}: {error}", card.name),
            }
        });
    }
}

fn is_at(address: &Address, one: &Use) -> bool {
    address.index == one.card.index
        && address.address == IpAddr::from(one.address.address)
        && address.prefix == one.address.prefix
}
