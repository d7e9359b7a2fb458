//! The stage *identity*: which node of `cluster.yaml` this machine is.

use std::time::Duration;

use image_layout::bootargs::BootArgs;
use image_layout::cluster::{Assignment, Cluster, Machine, Matched, MatchedBy, Network, Role};
use image_layout::status::{Problem, Stage};
use tokio::time::{Instant, timeout_at};

use super::config_file::{self, Found};
use super::network::Plan;
use super::network::links::{self, Card};
use super::network::netlink::{Changes, Netlink, NetlinkError};
use super::status::Reports;
use super::{Place, clock, etc, machine};

/// How long network cards may take to appear, in all.
const CARDS: Duration = Duration::from_secs(15);
/// No new card for so long: they are all there.
const QUIET: Duration = Duration::from_secs(3);

/// Who this machine is.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// What is wanted of its network; its name, too.
    pub(super) plan: Plan,
    /// What it is for.
    pub(super) role: Role,
    /// The whole configuration; none where it could not be read, or does not say who the machine
    /// is.
    pub(super) cluster: Option<Cluster>,
}

/// Finds out who this machine is, sets clock and host name, writes the files that depend on it.
/// Never fails: what is wrong is reported, and the machine serves its haul as a registry.
pub(super) async fn identify(
    place: &Place,
    args: &BootArgs,
    netlink: &Netlink,
    changes: &mut Changes,
    reports: &mut Reports,
) -> Result<Identity, NetlinkError> {
    reports.begin(Stage::Identity);
    let clock = clock::set(built(place, args), &place.sys);
    let config = config_file::read(&place.config, &place.cluster_yaml);
    let mut problem = None;
    let mut cluster = None;
    match config {
        Ok(Found {
            cluster: read,
            name,
            passed_over,
        }) => {
            for other in passed_over {
                reports.notice(format!(
                    "both {name} and {other} are on the drive HAULCFG; {name} is used"
                ));
            }
            cluster = Some(read);
        }
        Err(error) => problem = Some((error.short(), error.problem())),
    }
    let (machine, cards) = settle(place, args, cluster.as_ref(), netlink, changes, reports).await?;
    let assignment = match &cluster {
        None => None,
        Some(cluster) => match cluster.node_for(&machine, args.role) {
            Ok(assignment) => Some(assignment),
            Err(error) => {
                let what = format!("{error}.");
                let mend = format!(
                    "Put the stick into any computer, open cluster.yaml on the drive HAULCFG \
                     and change `match:` of {} or {}.",
                    error.first, error.second
                );
                problem = Some((error.to_string(), Problem { what, mend }));
                None
            }
        },
    };
    let assignment = assignment.unwrap_or_else(fallback);
    let name = assignment.name.clone();
    let name = name.unwrap_or_else(|| machine::own_name(&machine));
    let registry_address = cluster
        .as_ref()
        .and_then(|cluster| cluster.registry.address.clone())
        .unwrap_or_default();
    let https = cluster.as_ref().is_some_and(|cluster| cluster.registry.tls);
    let logs = cluster
        .as_ref()
        .is_some_and(|cluster| cluster.registry.logs);
    reports.node(|node| {
        node.logs = logs;
        node.registry_address = registry_address;
        node.https = https;
        node.cluster = cluster
            .as_ref()
            .map(|cluster| cluster.name.clone())
            .unwrap_or_default();
        node.name = name.clone();
        node.role = assignment.role.to_string();
        node.matched_by = assignment.matched.to_string();
        node.interfaces = cards.iter().map(Card::interface).collect();
    });
    if let Err(error) = etc::write_identity(&place.root, &name, &machine) {
        reports.notice(error.to_string());
    }
    if let Err(error) = rustix::system::sethostname(name.as_bytes()) {
        reports.notice(format!("setting the host name to {name}: {error}"));
    }
    match problem {
        Some((detail, problem)) => {
            cluster = None;
            let detail = format!("{name} (registry); {clock}; {detail}");
            reports.failed(Stage::Identity, detail, problem);
        }
        None => {
            let by = &assignment.matched;
            let role = assignment.role;
            reports.done(
                Stage::Identity,
                format!("{name} ({role}), matched by {by}; {clock}"),
            );
        }
    }
    let plan = Plan {
        host_name: name,
        address: assignment.address,
        every_card: assignment.role == Role::Registry && assignment.interface.is_none(),
        interface: assignment.interface,
        network: assignment.network,
    };
    Ok(Identity {
        plan,
        role: assignment.role,
        cluster,
    })
}

/// A machine about which nothing is known: it serves its haul on every card.
fn fallback() -> Assignment {
    Assignment {
        name: None,
        role: Role::Registry,
        matched: Matched::Unmatched,
        address: None,
        interface: None,
        network: Network::default(),
    }
}

/// Waits until it is clear which cards there are, and gives them with the machine's facts.
///
/// Cards on USB and those whose driver waits for firmware appear late. Nothing is waited for
/// where the machine is recognised already, or where no card could change who it is.
async fn settle(
    place: &Place,
    args: &BootArgs,
    cluster: Option<&Cluster>,
    netlink: &Netlink,
    changes: &mut Changes,
    reports: &Reports,
) -> Result<(Machine, Vec<Card>), NetlinkError> {
    let begin = Instant::now();
    let mut last = begin;
    let mut count = 0;
    let mut said = false;
    loop {
        let cards = links::cards(netlink, &place.sys).await?;
        let machine = machine::machine(place, &cards);
        if cards.len() != count {
            count = cards.len();
            last = Instant::now();
        }
        let deadline = (last + QUIET).min(begin + CARDS);
        let clear = !may_change(args, cluster, &machine);
        if clear || Instant::now() >= deadline {
            return Ok((machine, cards));
        }
        if !said {
            said = true;
            reports.notice(format!(
                "waiting up to {} s for network cards, to recognise this machine by one",
                CARDS.as_secs()
            ));
        }
        if let Ok(changed) = timeout_at(deadline, changes.wait()).await {
            changed?;
        }
    }
}

/// Whether one more network card could change who this machine is.
fn may_change(args: &BootArgs, cluster: Option<&Cluster>, machine: &Machine) -> bool {
    let Some(cluster) = cluster else {
        // its name comes from a card
        return machine.macs.is_empty();
    };
    match cluster
        .node_for(machine, args.role)
        .map(|found| found.matched)
    {
        Ok(Matched::Node(MatchedBy::Properties(_))) | Err(_) => false,
        Ok(Matched::Node(MatchedBy::Any)) => cluster.matches_by_mac(),
        Ok(Matched::Unmatched) => cluster.matches_by_mac() || machine.macs.is_empty(),
    }
}

/// When the image was built: from the boot menu, else from the image itself.
fn built(place: &Place, args: &BootArgs) -> u64 {
    let image = || {
        let bytes = super::read_bounded(&place.image_json, image_layout::limits::IMAGE_JSON_BYTES);
        let info: image_layout::image::ImageInfo = serde_json::from_slice(&bytes.ok()?).ok()?;
        Some(info.built)
    };
    args.built.or_else(image).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use image_layout::cluster::{Mac, parse};

    use super::*;

    #[test]
    fn cards_are_waited_for_only_where_one_could_change_who_the_machine_is() {
        let cluster = |nodes: &str| {
            let text =
                format!("apiVersion: haulboot.dev/v1\nkind: Cluster\nname: e\nnodes:\n{nodes}");
            parse(text.as_bytes()).unwrap()
        };
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let with = |macs: &[Mac]| Machine::new(macs.to_vec(), Some("ABC123"), None);
        let args = BootArgs::default();
        let any = cluster("- {name: a, match: any, role: agent}\n");
        assert!(!may_change(&args, Some(&any), &with(&[])));
        let by_mac = cluster(
            "- {name: a, match: {mac: \"02:00:00:00:00:01\"}, role: agent}\n\
             - {name: b, match: any, role: agent}\n",
        );
        assert!(may_change(&args, Some(&by_mac), &with(&[])));
        assert!(!may_change(&args, Some(&by_mac), &with(&[mac])));
        let by_serial = cluster("- {name: a, match: {serial: XYZ}, role: agent}\n");
        assert!(!may_change(&args, Some(&by_serial), &with(&[mac])));
        assert!(
            may_change(&args, Some(&by_serial), &with(&[])),
            "its name comes from a card"
        );
        assert!(may_change(&args, None, &with(&[])));
        assert!(!may_change(&args, None, &with(&[mac])));
    }
}
