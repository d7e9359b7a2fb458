//! The whole of it over real (virtual) cables, with a real DHCP server, in network namespaces of
//! its own: nothing of the host's network is touched.
//!
//! Needs root (or CAP_NET_ADMIN, CAP_NET_RAW and CAP_SYS_ADMIN), `ip` (package iproute2) and
//! `dnsmasq` (package dnsmasq-base). Without them these tests fail and say so.

use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use image_layout::cluster::Network;
use image_layout::status::{NodeStatus, Outcome, Stage};
use nix::sched::{CloneFlags, unshare};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};

use super::netlink::Netlink;
use super::{Patience, Plan, Published, Reach};
use crate::node::Place;
use crate::node::status::Reports;
use crate::report::{PACKET_BYTES, Report, Sender};

/// How long anything in these tests may take; far more than it does.
const BOUND: Duration = Duration::from_secs(60);

/// Ends a helper with the test.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{script}: {said} (root and the package iproute2 are needed)"
    );
}

/// Runs a script in another namespace, at the other end of `eth0`'s cable, which is `peer0`
/// there. The script starts when it can read a line.
fn far_end(card: &str, script: &str) -> Helper {
    let script = format!("read go; ip link set lo up; {script}");
    let mut child = Command::new("unshare")
        .args(["--net", "sh", "-ec", &script])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    // the namespace exists once the shell runs in it
    let bound = std::time::Instant::now() + BOUND;
    let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    while std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap() == own {
        assert!(std::time::Instant::now() < bound, "unshare does not start");
        std::thread::yield_now();
    }
    sh(&format!(
        "ip link add {card} type veth peer name peer0 && ip link set peer0 netns {pid}"
    ));
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    Helper(child)
}

/// A DHCP server on 10.0.0.1/24, or whatever `options` of dnsmasq(8) make of it.
fn dhcp_server(card: &str, options: &str) -> Helper {
    let there = Command::new("dnsmasq").arg("--version").output();
    assert!(there.is_ok(), "these tests need the package dnsmasq-base");
    far_end(
        card,
        &format!(
            "ip addr add 10.0.0.1/24 dev peer0; ip link set peer0 up; \
             exec dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --port=0 \
             --interface=peer0 --bind-interfaces --leasefile-ro --no-ping --user=root \
             --dhcp-authoritative --log-facility=/dev/null {options}"
        ),
    )
}

const RANGE: &str = "--dhcp-range=10.0.0.50,10.0.0.99,255.255.255.0,1h";

/// A root directory whose sysfs says that these cards have a device behind them.
fn place(root: &Path, cards: &[&str]) -> Place {
    for card in cards {
        let device = root.join("sys/class/net").join(card).join("device");
        std::fs::create_dir_all(&device).unwrap();
        symlink("/sys/bus/virtio/drivers/virtio_net", device.join("driver")).unwrap();
    }
    Place::below(root)
}

const SHORT: Patience = Patience {
    card: Duration::from_millis(300),
    carrier: Duration::from_millis(300),
    answer: Duration::from_millis(1500),
};

/// The network of a node, as long as the test looks at it.
struct Running {
    channel: tokio::io::unix::AsyncFd<OwnedFd>,
    node: NodeStatus,
    notices: Vec<String>,
    reach: tokio::sync::watch::Receiver<Reach>,
    _task: AbortOnDrop,
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Running {
    #[allow(unsafe_code)]
    fn start(plan: Plan, place: Place, patience: Patience) -> Running {
        let (parent, child) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        let (published, reach) = tokio::sync::watch::channel(Reach::default());
        let published = Published {
            reach: published,
            addresses: tokio::sync::watch::Sender::default(),
        };
        let task = tokio::spawn(async move {
            let (netlink, changes) = Netlink::connect().unwrap();
            let mut reports = Reports::new(Sender::over(child));
            let ended = super::run(
                &plan,
                &place,
                patience,
                netlink,
                changes,
                published,
                &mut reports,
            )
            .await;
            panic!("the network ended: {ended:?}");
        });
        Running {
            // SAFETY: an OwnedFd owns its one descriptor.
            channel: unsafe { tokio::io::unix::AsyncFd::register(parent) }.unwrap(),
            node: NodeStatus::default(),
            notices: vec![],
            reach,
            _task: AbortOnDrop(task),
        }
    }

    async fn report(&mut self) -> Report {
        let mut packet = vec![0; PACKET_BYTES];
        let receive = async {
            loop {
                let mut ready = self.channel.readable().await.unwrap();
                let received = ready.try_io(|channel| {
                    let (length, _) =
                        rustix::net::recv(channel.get_ref(), &mut packet[..], RecvFlags::empty())?;
                    Ok(length)
                });
                if let Ok(received) = received {
                    break received.unwrap();
                }
            }
        };
        let length = tokio::time::timeout(BOUND, receive)
            .await
            .unwrap_or_else(|_| panic!("nothing is reported; so far {:?}", self.notices));
        let report = serde_json::from_slice(&packet[..length]).unwrap();
        match &report {
            Report::Node(node) => self.node = node.clone(),
            Report::Notice(notice) => self.notices.push(notice.clone()),
            _ => {}
        }
        report
    }

    /// The next end of the stage: how, and in which words.
    async fn end(&mut self) -> (Outcome, String) {
        loop {
            if let Report::End {
                stage: Stage::Network,
                outcome,
                detail,
                problem,
            } = self.report().await
            {
                let problem = problem.map_or(String::new(), |problem| problem.what);
                return (outcome, format!("{detail}{problem}"));
            }
        }
    }

    async fn until(&mut self, what: impl Fn(&Running) -> bool) {
        while !what(self) {
            self.report().await;
        }
    }
}

/// Runs a test on a thread in namespaces of its own.
fn in_namespace(test: impl AsyncFnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS)
            .expect("this test makes a network namespace and needs root");
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn dhcp_plan() -> Plan {
    Plan {
        host_name: "node-1".to_owned(),
        every_card: true,
        ..Plan::default()
    }
}

fn fixed_plan(network: Network) -> Plan {
    Plan {
        host_name: "node-1".to_owned(),
        address: Some("10.0.0.7/24".parse().unwrap()),
        network,
        ..Plan::default()
    }
}

async fn addresses(netlink: &Netlink) -> Vec<String> {
    let all = netlink.addresses().await.unwrap();
    let v4 = all
        .iter()
        .filter(|address| matches!(address.address, IpAddr::V4(v4) if !v4.is_loopback()));
    v4.map(|address| format!("{}/{}", address.address, address.prefix))
        .collect()
}

async fn default_gateways(netlink: &Netlink) -> Vec<String> {
    let routes = netlink.routes().await.unwrap();
    let defaults = routes.iter().filter(|(route, _)| route.is_default());
    defaults
        .map(|(route, _)| {
            route
                .gateway
                .map_or("on link".to_owned(), |ip| ip.to_string())
        })
        .collect()
}

#[test]
fn a_dhcp_server_gives_address_gateway_name_servers_routes_and_mtu() {
    in_namespace(async || {
        let root = tempfile::tempdir().unwrap();
        let _server = dhcp_server(
            "eth0",
            &format!(
                "{RANGE} --dhcp-option=3,10.0.0.1 --dhcp-option=6,10.0.0.53,10.0.0.54 \
                 --dhcp-option=15,edge.example --dhcp-option-force=26,1400"
            ),
        );
        let place = place(root.path(), &["eth0"]);
        let mut node = Running::start(dhcp_plan(), place, Patience::default());
        let (outcome, detail) = node.end().await;
        assert_eq!(outcome, Outcome::Done, "{detail}");
        assert!(detail.starts_with("eth0 10.0.0."), "{detail}");
        assert!(
            detail.ends_with("/24 by DHCP, gateway 10.0.0.1, MTU 1400, DNS 10.0.0.53, 10.0.0.54"),
            "{detail}"
        );
        let (netlink, _) = Netlink::connect().unwrap();
        assert_eq!(default_gateways(&netlink).await, ["10.0.0.1"]);
        let links = netlink.links().await.unwrap();
        let mtu = |name| links.iter().find(|link| link.name == name).unwrap().mtu;
        assert_eq!(mtu("eth0"), 1400);
        assert!(links.iter().any(|link| link.name == "lo" && link.up));
        let address = addresses(&netlink).await.remove(0);
        assert_eq!(node.node.addresses, std::slice::from_ref(&address));
        assert_eq!(node.node.interfaces[0].driver, "virtio_net");
        let read = |path: &str| std::fs::read_to_string(root.path().join(path)).unwrap();
        assert_eq!(
            read("etc/resolv.conf"),
            "search edge.example\nnameserver 10.0.0.53\nnameserver 10.0.0.54\n"
        );
        let ip = address.split('/').next().unwrap();
        assert!(read("etc/hosts").contains(&format!("{ip} node-1\n")));
    });
}

#[test]
fn a_short_lease_is_renewed_before_it_ends() {
    in_namespace(async || {
        let root = tempfile::tempdir().unwrap();
        // the shortest lease of dnsmasq is two minutes, its shortest T1 three seconds
        let _server = dhcp_server(
            "eth0",
            "--dhcp-range=10.0.0.50,10.0.0.50,255.255.255.0,2m \
             --dhcp-option=option:T1,4 --dhcp-option=option:T2,100",
        );
        let place = place(root.path(), &["eth0"]);
        let mut node = Running::start(dhcp_plan(), place, Patience::default());
        assert_eq!(node.end().await.0, Outcome::Done);
        let kept = || {
            let dir = std::fs::read_dir(root.path().join("run/haulboot/leases")).unwrap();
            let file = dir.flatten().next().unwrap();
            std::fs::read_to_string(file.path()).unwrap()
        };
        let first = kept();
        let bound = tokio::time::Instant::now() + BOUND;
        while kept() == first {
            assert!(tokio::time::Instant::now() < bound, "it is not renewed");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (netlink, _) = Netlink::connect().unwrap();
        assert_eq!(addresses(&netlink).await, ["10.0.0.50/24"]);
    });
}

#[test]
fn a_fixed_address_without_a_gateway_has_a_default_route_all_the_same() {
    in_namespace(async || {
        let root = tempfile::tempdir().unwrap();
        let _peer = far_end("eth0", "ip link set peer0 up; exec sleep 600");
        let place = place(root.path(), &["eth0"]);
        let plan = fixed_plan(Network::default());
        let mut node = Running::start(plan, place, Patience::default());
        let (outcome, detail) = node.end().await;
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(detail, "eth0 10.0.0.7/24, no gateway");
        let (netlink, _) = Netlink::connect().unwrap();
        let routes = netlink.routes().await.unwrap();
        let defaults: Vec<_> = routes
            .iter()
            .filter(|(route, _)| route.is_default())
            .collect();
        assert_eq!(defaults.len(), 1, "{routes:?}");
        assert_eq!(defaults[0].0.metric, 1000);
        let resolv = std::fs::read_to_string(root.path().join("etc/resolv.conf")).unwrap();
        assert_eq!(resolv, "nameserver 10.0.0.7\n");
    });
}

#[test]
fn a_fixed_address_with_gateway_name_server_and_mtu_is_taken_as_it_is() {
    in_namespace(async || {
        let root = tempfile::tempdir().unwrap();
        let _peer = far_end("eth0", "ip link set peer0 up; exec sleep 600");
        let place = place(root.path(), &["eth0"]);
        let plan = fixed_plan(Network {
            gateway: Some("192.168.9.1".parse().unwrap()),
            dns: vec!["10.0.0.53".parse().unwrap()],
            mtu: Some(1300),
            ..Network::default()
        });
        let mut node = Running::start(plan, place, Patience::default());
        assert_eq!(
            node.end().await.1,
            "eth0 10.0.0.7/24, gateway 192.168.9.1, MTU 1300, DNS 10.0.0.53"
        );
        let (netlink, _) = Netlink::connect().unwrap();
        assert_eq!(
            default_gateways(&netlink).await,
            ["192.168.9.1"],
            "outside the network"
        );
    });
}

#[test]
fn another_machine_with_the_same_address_is_named() {
    in_namespace(async || {
        let root = tempfile::tempdir().unwrap();
        let _peer = far_end(
            "eth0",
            "ip link set peer0 address 02:00:00:00:00:99; ip addr add 10.0.0.7/24 dev peer0; \
             ip link set peer0 up; exec sleep 600",
        );
        let place = place(root.path(), &["eth0"]);
        let mut node = Running::start(fixed_plan(Network::default()), place, Patience::default());
        node.until(|node| {
            let conflict = "eth0: another machine (02:00:00:00:00:99) uses the address 10.0.0.7/24";
            node.notices
                .iter()
                .any(|notice| notice.starts_with(conflict))
        })
        .await;
    });
}

#[test]
fn without_a_server_the_stage_fails_and_ends_well_when_one_comes() {
    in_namespace(async || {
        let root = tempfile::tempdir().unwrap();
        let silent = far_end("eth0", "ip link set peer0 up; exec sleep 600");
        let place = place(root.path(), &["eth0", "eth9"]);
        let mut node = Running::start(dhcp_plan(), place, SHORT);
        let (outcome, words) = node.end().await;
        assert_eq!(outcome, Outcome::Failed);
        assert!(
            words.contains("No DHCP server answers. Network cards: eth0 ("),
            "{words}"
        );
        assert!(words.contains(", virtio_net, cable in)"), "{words}");
        drop(silent);
        sh("ip link del eth0 2>/dev/null || true");
        let _server = dhcp_server("eth9", RANGE);
        let (outcome, words) = node.end().await;
        assert_eq!(outcome, Outcome::Done);
        assert!(words.starts_with("eth9 10.0.0."), "{words}");
    });
}

#[test]
fn without_a_cable_every_card_is_listed_and_one_put_in_later_counts() {
    in_namespace(async || {
        let root = tempfile::tempdir().unwrap();
        sh("ip link add eth0 type veth peer name other0");
        let place = place(root.path(), &["eth0"]);
        let plan = fixed_plan(Network::default());
        let mut node = Running::start(plan, place, SHORT);
        let (outcome, words) = node.end().await;
        assert_eq!(outcome, Outcome::Failed);
        assert!(words.contains("No cable is in"), "{words}");
        assert!(words.contains("virtio_net, no cable)"), "{words}");
        sh("ip link set other0 up");
        assert_eq!(node.end().await.0, Outcome::Done);
        let own = Some((Ipv4Addr::new(10, 0, 0, 7), "eth0".to_owned()));
        assert_eq!(
            *node.reach.borrow(),
            Reach {
                own: own.clone(),
                up: true
            }
        );
        sh("ip link set other0 down");
        node.until(|node| node.notices.contains(&"eth0: the cable is out".to_owned()))
            .await;
        // the address stays the node's
        let down = node.reach.wait_for(|reach| !reach.up).await.unwrap();
        assert_eq!(down.own, own);
    });
}

#[test]
fn a_card_without_a_cable_is_given_up_for_one_with_a_cable_that_comes_later() {
    in_namespace(async || {
        let root = tempfile::tempdir().unwrap();
        sh("ip link add eth0 type veth peer name other0");
        let place = place(root.path(), &["eth0", "eth1"]);
        let mut node = Running::start(fixed_plan(Network::default()), place, SHORT);
        assert_eq!(node.end().await.0, Outcome::Failed);
        let _peer = far_end("eth1", "ip link set peer0 up; exec sleep 600");
        let (outcome, words) = node.end().await;
        assert_eq!(outcome, Outcome::Done);
        assert!(words.starts_with("eth1 10.0.0.7/24"), "{words}");
    });
}

#[test]
fn a_gateway_that_the_kernel_refuses_leaves_a_default_route_all_the_same() {
    in_namespace(async || {
        let root = tempfile::tempdir().unwrap();
        let _peer = far_end("eth0", "ip link set peer0 up; exec sleep 600");
        let place = place(root.path(), &["eth0"]);
        // the node is the gateway of the others
        let plan = fixed_plan(Network {
            gateway: Some(Ipv4Addr::new(10, 0, 0, 7)),
            ..Network::default()
        });
        let mut node = Running::start(plan, place, Patience::default());
        assert_eq!(node.end().await.0, Outcome::Done);
        let (netlink, _) = Netlink::connect().unwrap();
        let routes = netlink.routes().await.unwrap();
        assert!(
            routes.iter().any(|(route, _)| route.is_default()),
            "{routes:?}"
        );
    });
}

#[test]
fn a_restart_keeps_the_address_even_while_no_server_answers() {
    in_namespace(async || {
        let root = tempfile::tempdir().unwrap();
        let server = dhcp_server(
            "eth0",
            "--dhcp-range=10.0.0.50,10.0.0.50,255.255.255.0,1h --dhcp-option=3,10.0.0.1",
        );
        let here = place(root.path(), &["eth0"]);
        let mut node = Running::start(dhcp_plan(), here.clone(), Patience::default());
        assert_eq!(node.end().await.0, Outcome::Done);
        let (netlink, _) = Netlink::connect().unwrap();
        let before = (addresses(&netlink).await, default_gateways(&netlink).await);
        drop(node);
        // the server's process is stopped, its end of the cable stays
        sh(&format!("kill -STOP {}", server.0.id()));
        let mut node = Running::start(dhcp_plan(), here, Patience::default());
        let (outcome, words) = node.end().await;
        assert_eq!(outcome, Outcome::Done);
        assert!(
            words.starts_with("eth0 10.0.0.50/24 by DHCP, gateway 10.0.0.1"),
            "{words}"
        );
        let after = (addresses(&netlink).await, default_gateways(&netlink).await);
        assert_eq!(before, after);
    });
}

#[test]
fn of_two_cards_the_first_with_a_lease_is_a_servers_and_a_registry_takes_both() {
    for every_card in [false, true] {
        in_namespace(async move || {
            let root = tempfile::tempdir().unwrap();
            let _silent = far_end("eth0", "ip link set peer0 up; exec sleep 600");
            let _server = dhcp_server("eth1", RANGE);
            let _second = dhcp_server(
                "eth2",
                "--dhcp-range=10.0.0.100,10.0.0.120,255.255.255.0,1h",
            );
            let place = place(root.path(), &["eth0", "eth1", "eth2"]);
            let plan = Plan {
                every_card,
                ..dhcp_plan()
            };
            let mut node = Running::start(plan, place, Patience::default());
            let (outcome, words) = node.end().await;
            assert_eq!(outcome, Outcome::Done);
            let expected = if every_card { 2 } else { 1 };
            assert_eq!(words.matches("by DHCP").count(), expected, "{words}");
            let (netlink, _) = Netlink::connect().unwrap();
            assert_eq!(addresses(&netlink).await.len(), expected);
        });
    }
}

#[test]
fn others_addresses_and_routes_are_left_alone() {
    in_namespace(async || {
        let root = tempfile::tempdir().unwrap();
        let _peer = far_end("eth0", "ip link set peer0 up; exec sleep 600");
        sh("ip link set eth0 up; ip addr add 192.0.2.9/32 dev eth0; \
            ip route add 198.51.100.0/24 dev eth0");
        let place = place(root.path(), &["eth0"]);
        let mut node = Running::start(fixed_plan(Network::default()), place, Patience::default());
        assert_eq!(node.end().await.0, Outcome::Done);
        let (netlink, _) = Netlink::connect().unwrap();
        let mut all = addresses(&netlink).await;
        all.sort();
        assert_eq!(all, ["10.0.0.7/24", "192.0.2.9/32"]);
        let routes = netlink.routes().await.unwrap();
        assert!(
            routes
                .iter()
                .any(|(route, ours)| route.prefix == 24 && !ours)
        );
    });
}

/// Sends garbage to the client's port of everybody at the far end's cable until told to stop.
fn flood(far: &Helper, stop: std::sync::Arc<std::sync::atomic::AtomicBool>) {
    let namespace = std::fs::File::open(format!("/proc/{}/ns/net", far.0.id())).unwrap();
    std::thread::spawn(move || {
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_broadcast(true).unwrap();
        let mut packet = vec![0_u8; 1200];
        let mut byte = 1_u8;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            // a reply's first bytes and cookie, so that it is looked at to its end
            packet[..4].copy_from_slice(&[2, 1, 6, 0]);
            packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
            for place in &mut packet[240..] {
                byte = byte.wrapping_mul(113).wrapping_add(7);
                *place = byte;
            }
            // until the address is there, the kernel refuses
            let _ = socket.send_to(&packet, "10.0.0.255:68");
        }
    });
}

#[test]
fn a_flood_of_garbage_keeps_no_node_from_its_lease() {
    in_namespace(async || {
        let root = tempfile::tempdir().unwrap();
        let server = dhcp_server("eth0", RANGE);
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        flood(&server, stop.clone());
        let place = place(root.path(), &["eth0"]);
        let mut node = Running::start(dhcp_plan(), place, Patience::default());
        let (outcome, words) = node.end().await;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(outcome, Outcome::Done, "{words}");
        assert!(node.notices.len() < 20, "{:?}", node.notices);
    });
}
