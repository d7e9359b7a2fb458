use std::path::Path;
use std::sync::{Arc, Mutex};

use image_layout::cluster::{Cluster, Role};
use image_layout::status::{ClusterPhase, Outcome, Stage};
use image_layout::{Arch, paths};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::api::{Api, Authority};
use super::pid1::{FakeMachine, Noted, Pid1};
use crate::node::Place;
use crate::node::cluster::{Pace, Stages};
use crate::node::identity::Identity;
use crate::node::network::{Plan, Reach};
use crate::report::{Order, Report, Word};

/// Minutes become a second or so.
const FASTER: u32 = 50;

/// A node's process in a directory of its own, its PID 1 and its API server.
struct Rig {
    dir: TempDir,
    pid1: Pid1,
    api: Api,
    noted: Arc<Mutex<Noted>>,
    network: watch::Sender<Reach>,
    task: JoinHandle<()>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the image carries.
enum Image {
    Nothing,
    ForOthers,
    K3s,
}

fn image_json(image: &Image) -> String {
    let other = match Arch::current() {
        Arch::X86_64 => Arch::Arm64,
        Arch::Arm64 => Arch::X86_64,
    };
    let digest = image_layout::Digest::sha256_of(b"k3s");
    let k3s =
        format!(r#","k3s":{{"version":"v1.36.3+k3s1","size":1,"digest":"{digest}","data":"abc"}}"#);
    let arch = |arch: Arch, k3s: &str| {
        format!(
            r#""{arch}":{{"kernel":"6.12","kernelPackage":"","bootLoaderPackage":"","agent":"1"
            {k3s}}}"#
        )
    };
    let arches = match image {
        Image::Nothing => arch(Arch::current(), ""),
        Image::ForOthers => format!("{},{}", arch(Arch::current(), ""), arch(other, &k3s)),
        Image::K3s => arch(Arch::current(), &k3s),
    };
    format!(
        r#"{{"format":1,"builder":"1","built":1,"cluster":"edge","arches":{{{arches}}},"hauls":[],
        "blobs":{{"count":0,"bytes":0}}}}"#
    )
}

fn cluster() -> Cluster {
    let text = "apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\n";
    image_layout::cluster::parse(text.as_bytes()).unwrap()
}

impl Rig {
    async fn start(role: Role, cluster: Option<Cluster>, image: Image) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::below(dir.path());
        write(&place.image_json, &image_json(&image));
        write(&place.proc.join("sys/kernel/random/boot_id"), "this-boot\n");
        let (servers, clients) = (Authority::new(), Authority::new());
        let api = Api::start(&servers.server(), Some(&clients.pem), 0).await;
        let secrets = place.haul.join(paths::haul::SECRETS);
        write(&secrets.join("tls/server-ca.crt"), &servers.pem);
        write(&secrets.join("agent-token"), "K10abc::node:secret\n");
        // as k3s writes it
        let data = dir.path().join("data");
        let kubelet = clients.sign("kubelet", (2020, 4000));
        write(&data.join("agent/server-ca.crt"), &servers.pem);
        write(&data.join("agent/client-kubelet.crt"), &kubelet.certificate);
        write(&data.join("agent/client-kubelet.key"), &kubelet.key);
        let agent = data.join("agent");
        let kubeconfig = format!(
            "clusters:\n- cluster:\n    server: {}\n    certificate-authority: \
             {}/server-ca.crt\n  name: local\nusers:\n- name: user\n  user:\n    \
             client-certificate: {}/client-kubelet.crt\n    client-key: \
             {}/client-kubelet.key\n",
            api.url(),
            agent.display(),
            agent.display(),
            agent.display(),
        );
        write(&data.join("agent/kubelet.kubeconfig"), &kubeconfig);
        let machine = FakeMachine::new(Some(api.url()), &data);
        let noted = machine.noted.clone();
        let (pid1, reports, words) = Pid1::new();
        let (network, reach) = watch::channel(Reach::default());
        let mut cluster = cluster;
        if let Some(cluster) = &mut cluster {
            let data = data.to_str().unwrap().to_owned();
            cluster.k3s.insert("data-dir".to_owned(), data.into());
        }
        let stages = Stages {
            place,
            identity: Identity {
                plan: Plan {
                    host_name: "cp-1".to_owned(),
                    ..Plan::default()
                },
                role,
                cluster,
            },
            reports,
            words,
            network: reach,
            machine: Arc::new(machine),
            pace: Pace::default().faster(FASTER),
        };
        let task = tokio::task::spawn_local(async move {
            stages.run().await;
        });
        Rig {
            dir,
            pid1,
            api,
            noted,
            network,
            task,
        }
    }

    fn address(&self, last: u8) {
        self.network.send_replace(Reach {
            own: Some(([10, 0, 0, last].into(), "eth0".to_owned())),
            up: true,
        });
    }

    fn node(&self, ready: bool, boot: &str) {
        let status = if ready { "True" } else { "False" };
        self.api.says(
            "/api/v1/nodes/cp-1",
            200,
            format!(
                r#"{{"status":{{"conditions":[{{"type":"Ready","status":"{status}"}}],
                "nodeInfo":{{"bootID":"{boot}"}}}}}}"#
            ),
        );
    }
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// The process has one thread, and so have these tests.
fn local(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test());
}

#[test]
fn a_machine_without_k3s_skips_both_stages() {
    for (role, configured, image, why) in [
        (
            Role::Registry,
            true,
            Image::K3s,
            "this machine is a registry",
        ),
        (
            Role::Registry,
            false,
            Image::K3s,
            "it is not known which node this machine is",
        ),
        (
            Role::Server,
            true,
            Image::Nothing,
            "the stick carries no k3s",
        ),
    ] {
        local(async || {
            let mut rig = Rig::start(role, configured.then(cluster), image).await;
            rig.pid1.say(&Word::Go);
            for stage in [Stage::State, Stage::Cluster] {
                let end = rig.pid1.end(stage).await;
                assert_eq!(end, (Outcome::Skipped, why.to_owned(), None));
            }
        });
    }
}

#[test]
fn k3s_for_another_architecture_is_a_screen() {
    local(async || {
        let mut rig = Rig::start(Role::Server, Some(cluster()), Image::ForOthers).await;
        rig.pid1.say(&Word::Go);
        assert_eq!(rig.pid1.end(Stage::State).await.0, Outcome::Skipped);
        let (outcome, _, problem) = rig.pid1.end(Stage::Cluster).await;
        assert_eq!(outcome, Outcome::Failed);
        assert!(problem.unwrap().mend.contains("--k3s"));
    });
}

#[test]
fn a_server_waits_for_its_address_and_is_done_when_the_node_is_ready() {
    local(async || {
        let mut rig = Rig::start(Role::Server, Some(cluster()), Image::K3s).await;
        rig.pid1.say(&Word::Go);
        let end = rig.pid1.end(Stage::State).await;
        assert_eq!((end.0, end.1.as_str()), (Outcome::Done, "disk None"));
        rig.pid1
            .progress("waiting for an address of this machine, ")
            .await;
        rig.address(2);
        rig.pid1.notice("laid down").await;
        assert_eq!(rig.pid1.order().await, Order::Run(Role::Server));
        let laid_down = ("cp-1".to_owned(), "eth0 10.0.0.2".to_owned(), None);
        assert_eq!(rig.noted.lock().unwrap().laid_down, [laid_down]);
        rig.pid1.k3s(true, false, 0);
        rig.pid1.progress("k3s starts, ").await;
        rig.pid1.k3s(true, true, 0);
        rig.pid1.phase(ClusterPhase::WaitingForNode).await;
        rig.node(true, "the boot before");
        rig.pid1
            .progress("waiting for node cp-1 to become Ready, ")
            .await;
        rig.node(true, "this-boot");
        let end = rig.pid1.end(Stage::Cluster).await;
        let detail = "k3s v1.36.3+k3s1 server, node cp-1 Ready".to_owned();
        assert_eq!(end, (Outcome::Done, detail, None));
        rig.address(3);
        rig.pid1.notice("this machine's address was 10.0.0.2").await;
        let cluster = rig.pid1.said.iter().rev().find_map(|report| match report {
            Report::Cluster(cluster) => Some(cluster.clone()),
            _ => None,
        });
        let cluster = cluster.unwrap();
        assert_eq!(cluster.phase, ClusterPhase::Ready);
        assert_eq!(cluster.k3s, "v1.36.3+k3s1");
        assert!(cluster.in_place && cluster.server.is_empty());
    });
}

#[test]
fn k3s_that_ends_three_times_is_a_screen_until_the_node_is_ready() {
    local(async || {
        let mut rig = Rig::start(Role::Server, Some(cluster()), Image::K3s).await;
        rig.address(2);
        rig.pid1.say(&Word::Go);
        rig.pid1.order().await;
        rig.pid1.k3s(true, false, 0);
        for ends in 1..=3 {
            rig.pid1.k3s(false, false, ends);
        }
        let (outcome, detail, problem) = rig.pid1.end(Stage::Cluster).await;
        assert_eq!(outcome, Outcome::Failed);
        assert_eq!(detail, "k3s ended 3 times (exit code 1)");
        let problem = problem.unwrap();
        assert!(
            problem
                .what
                .contains("It misses something.\nIts last lines:\nlevel=fatal")
        );
        assert!(problem.mend.starts_with("Give it something. "));
        rig.node(true, "this-boot");
        rig.pid1.k3s(true, true, 3);
        assert_eq!(rig.pid1.end(Stage::Cluster).await.0, Outcome::Done);
    });
}

#[test]
fn an_agent_joins_its_server_and_is_started_anew_when_it_was_forgotten() {
    local(async || {
        let mut rig = Rig::start(Role::Agent, Some(cluster()), Image::K3s).await;
        // the supervisor asks for no certificate, the API server does; here both are one
        let servers = Authority::new();
        let port = rig.api.stop().await;
        rig.api = Api::start(&servers.server(), None, port).await;
        let secrets = Place::below(rig.dir.path()).haul.join("secrets");
        write(&secrets.join("tls/server-ca.crt"), &servers.pem);
        write(
            &rig.dir.path().join("data/agent/server-ca.crt"),
            &servers.pem,
        );
        rig.address(2);
        rig.pid1.say(&Word::Go);
        rig.pid1.phase(ClusterPhase::WaitingForServer).await;
        rig.api.says("/ping", 200, "pong");
        rig.api.says("/v1-k3s/readyz", 200, "ok");
        assert_eq!(rig.pid1.order().await, Order::Run(Role::Agent));
        let server = rig.noted.lock().unwrap().laid_down[0].2.clone();
        assert_eq!(server, Some(rig.api.url()));
        rig.node(true, "this-boot");
        rig.pid1.k3s(true, true, 0);
        assert_eq!(rig.pid1.end(Stage::Cluster).await.0, Outcome::Done);
        rig.api.says("/api/v1/nodes/cp-1", 404, "{}");
        rig.pid1
            .notice("the server does not know this node any more")
            .await;
        assert_eq!(rig.pid1.order().await, Order::Restart);
        rig.pid1.k3s(false, false, 0);
        rig.pid1.k3s(true, true, 0);
        rig.node(true, "this-boot");
        rig.pid1.notice("node cp-1 is Ready again").await;
    });
}

#[test]
fn a_new_process_takes_up_a_k3s_that_runs() {
    local(async || {
        let mut rig = Rig::start(Role::Server, Some(cluster()), Image::K3s).await;
        rig.node(true, "this-boot");
        rig.pid1.k3s(true, true, 2);
        rig.pid1.say(&Word::Go);
        let end = rig.pid1.end(Stage::Cluster).await;
        assert_eq!(end.0, Outcome::Done);
        assert_eq!(rig.noted.lock().unwrap().laid_down.len(), 0);
        let notices = rig.pid1.said.iter();
        assert_eq!(
            notices
                .filter(|said| matches!(said, Report::Notice(_)))
                .count(),
            0
        );
    });
}

#[test]
fn without_a_place_for_its_data_k3s_is_not_started_until_there_is_one() {
    local(async || {
        let mut rig = Rig::start(Role::Server, Some(cluster()), Image::K3s).await;
        rig.noted.lock().unwrap().refusals = 2;
        rig.address(2);
        rig.pid1.say(&Word::Go);
        let (outcome, detail, problem) = rig.pid1.end(Stage::State).await;
        assert_eq!((outcome, detail.as_str()), (Outcome::Failed, "no disk"));
        let (outcome, _, same) = rig.pid1.end(Stage::Cluster).await;
        assert_eq!((outcome, same), (Outcome::Failed, problem));
        rig.pid1.end(Stage::State).await;
        assert_eq!(rig.pid1.end(Stage::State).await.0, Outcome::Done);
        assert_eq!(rig.pid1.order().await, Order::Run(Role::Server));
    });
}
