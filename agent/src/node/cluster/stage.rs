//! The course of events: from PID 1's word to the moment at which k3s can be started.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use image_layout::cluster::{Cluster, Role};
use image_layout::image::K3sInfo;
use image_layout::paths::{haul, secrets};
use image_layout::status::{ClusterPhase, ClusterStatus, Stage};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::carried;
use super::files::{self, Facts, LaidDown};
use super::machine::Machine;
use super::screens::{self, Failure};
use super::server::{self, SECRET_BYTES, Server};
use super::standing::Patience;
use crate::node::identity::Identity;
use crate::node::network::Reach;
use crate::node::state::Prepared;
use crate::node::status::Reports;
use crate::node::words::Words;
use crate::node::{Place, read_bounded};
use crate::report::Order;

/// How often what is done.
#[derive(Clone, Copy, Debug)]
pub(in crate::node) struct Pace {
    /// Between two lines of progress.
    pub(super) progress: Duration,
    /// Before what failed is tried again.
    again: Duration,
    /// Between two looks at the Node, at first and at most.
    pub(super) look: (Duration, Duration),
    /// Waiting for the server.
    server: server::Pace,
    pub(super) patience: Patience,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            progress: Duration::from_secs(10),
            again: Duration::from_secs(30),
            look: (Duration::from_secs(1), Duration::from_secs(10)),
            server: server::Pace::default(),
            patience: Patience::default(),
        }
    }
}

impl Pace {
    /// Everything so much faster.
    #[cfg(test)]
    pub(super) fn faster(self, by: u32) -> Pace {
        Pace {
            progress: self.progress / by,
            again: self.again / by,
            look: (self.look.0 / by, self.look.1 / by),
            server: server::Pace {
                retry: self.server.retry / by,
                progress: self.server.progress / by,
                notice: self.server.notice / by,
            },
            patience: Patience {
                not_ready: self.patience.not_ready / by,
                unknown_again: self.patience.unknown_again / by,
                unknown: self.patience.unknown / by,
                silent: self.patience.silent / by,
                traces: self.patience.traces / by,
            },
        }
    }
}

/// The stages *state* and *cluster* of one node.
#[derive(Debug)]
pub(in crate::node) struct Stages {
    /// Where things are.
    pub(in crate::node) place: Place,
    /// Who the machine is.
    pub(in crate::node) identity: Identity,
    /// To PID 1.
    pub(in crate::node) reports: Reports,
    /// From PID 1.
    pub(in crate::node) words: Words,
    /// From the network manager.
    pub(in crate::node) network: watch::Receiver<Reach>,
    /// What is done to the machine.
    pub(in crate::node) machine: Arc<dyn Machine>,
    /// How fast.
    pub(in crate::node) pace: Pace,
}

/// A node that runs k3s.
pub(super) struct Node {
    pub(super) stages: Stages,
    pub(super) name: String,
    pub(super) role: Role,
    cluster: Cluster,
    pub(super) k3s: K3sInfo,
    pub(super) status: ClusterStatus,
}

impl Stages {
    /// Waits for PID 1's word, then does both stages, then watches. Never returns.
    pub(in crate::node) async fn run(mut self) -> Infallible {
        // without PID 1 there is no machine, and no word
        if self.words.go.wait_for(|go| *go).await.is_err() {
            return std::future::pending().await;
        }
        match self.what_to_do() {
            Task::Nothing(why) => {
                for stage in [Stage::State, Stage::Cluster] {
                    self.reports.begin(stage);
                    self.reports.skipped(stage, why.clone());
                }
            }
            Task::Impossible(failure) => {
                self.reports.begin(Stage::State);
                self.reports.skipped(Stage::State, failure.detail.clone());
                self.reports.begin(Stage::Cluster);
                let Failure { detail, problem } = failure;
                self.reports.failed(Stage::Cluster, detail, problem);
            }
            Task::Run { cluster, k3s } => {
                let (role, plan) = (self.identity.role, &self.identity.plan);
                let status = ClusterStatus {
                    k3s: k3s.version.clone().unwrap_or_default(),
                    in_place: k3s.data.is_some(),
                    ..ClusterStatus::default()
                };
                let node = Node {
                    name: node_name(&cluster, &plan.host_name),
                    role,
                    cluster: *cluster,
                    k3s: *k3s,
                    status,
                    stages: self,
                };
                return node.run().await;
            }
        }
        std::future::pending().await
    }

    fn what_to_do(&self) -> Task {
        let Some(cluster) = &self.identity.cluster else {
            return Task::Nothing("it is not known which node this machine is".to_owned());
        };
        if self.identity.role == Role::Registry {
            return Task::Nothing("this machine is a registry".to_owned());
        }
        match carried::k3s(&self.place.image_json) {
            Err(failure) => Task::Impossible(failure),
            Ok(None) => Task::Nothing("the stick carries no k3s".to_owned()),
            Ok(Some(k3s)) => Task::Run {
                cluster: Box::new(cluster.clone()),
                k3s: Box::new(k3s),
            },
        }
    }
}

enum Task {
    Nothing(String),
    Impossible(Failure),
    Run {
        cluster: Box<Cluster>,
        k3s: Box<K3sInfo>,
    },
}

/// The name that k3s registers: `node-name` of the user's goes before the machine's.
fn node_name(cluster: &Cluster, host_name: &str) -> String {
    let own = files::said(cluster).node_name;
    own.unwrap_or_else(|| host_name.to_owned())
}

impl Node {
    async fn run(mut self) -> Infallible {
        self.state().await;
        self.stages.reports.begin(Stage::Cluster);
        self.phase(ClusterPhase::Preparing);
        let k3s = self.stages.words.k3s.borrow().clone();
        // an earlier run of this process started it, with everything it needs
        let data_dir = match k3s.running {
            true => {
                self.server_url();
                files::said(&self.cluster).data_dir
            }
            false => self.lay_down().await,
        };
        self.stages.reports.order(Order::Run(self.role));
        self.watch(&data_dir).await
    }

    /// Tells PID 1 what k3s is doing.
    pub(super) fn phase(&mut self, phase: ClusterPhase) {
        self.status.phase = phase;
        self.stages.reports.cluster(self.status.clone());
    }

    /// The stage *state*. Without a place for k3s's data there is no k3s; it is tried on.
    async fn state(&mut self) {
        let reports = self.stages.reports.clone();
        reports.begin(Stage::State);
        loop {
            let (machine, place) = (self.stages.machine.clone(), self.stages.place.clone());
            let (state, sender) = (self.cluster.state.clone(), reports.clone());
            let prepared = blocking(move || machine.prepare(&place, &state, &sender)).await;
            match prepared {
                Ok(Prepared {
                    status,
                    detail,
                    notices,
                }) => {
                    for notice in notices {
                        reports.notice(notice);
                    }
                    reports.state(status);
                    reports.done(Stage::State, detail);
                    return;
                }
                Err(Failure { detail, problem }) => {
                    reports.failed(Stage::State, detail, problem.clone());
                    let detail = "there is no place for k3s's data".to_owned();
                    reports.failed(Stage::Cluster, detail, problem);
                }
            }
            sleep(self.stages.pace.again).await;
        }
    }

    /// For agents, the URL of their server.
    fn server_url(&mut self) -> Option<Result<String, Failure>> {
        if self.role != Role::Agent {
            return None;
        }
        let url = self.stages.machine.server(&self.cluster);
        if let Ok(url) = &url {
            self.status.server.clone_from(url);
        }
        Some(url)
    }

    /// Everything up to the moment at which k3s can be started. Gives its data directory.
    async fn lay_down(&mut self) -> PathBuf {
        self.own_address().await;
        loop {
            let failure = match self.attempt().await {
                Ok(laid_down) => {
                    for notice in laid_down.notices {
                        self.stages.reports.notice(notice);
                    }
                    self.status.in_place = laid_down.in_place;
                    return laid_down.data_dir;
                }
                Err(failure) => failure,
            };
            let Failure { detail, problem } = failure;
            self.stages.reports.failed(Stage::Cluster, detail, problem);
            sleep(self.stages.pace.again).await;
        }
    }

    async fn attempt(&mut self) -> Result<LaidDown, Failure> {
        let server = self.server_url().transpose()?;
        if let Some(url) = &server {
            let read = |name: &str| {
                let path = self.stages.place.haul.join(haul::SECRETS).join(name);
                read_bounded(&path, SECRET_BYTES)
                    .map_err(|error| screens::no_secret(name, &error.to_string()))
            };
            let authority = read(&format!("{}/{}", secrets::TLS, secrets::SERVER_CA))?;
            let token = match files::said(&self.cluster).own_token {
                true => None,
                false => Some(read(secrets::AGENT_TOKEN)?),
            };
            let server = Server::new(url, &authority, token.as_deref())?;
            self.phase(ClusterPhase::WaitingForServer);
            let stages = &self.stages;
            let (reports, machine) = (&stages.reports, stages.machine.as_ref());
            server.wait(reports, machine, stages.pace.server).await;
            self.phase(ClusterPhase::Preparing);
        }
        // it may have changed meanwhile
        let (address, interface) = self.own_address().await;
        let mut facts = Facts {
            name: self.name.clone(),
            role: self.role,
            cluster: self.cluster.clone(),
            address,
            interface,
            server,
            k3s: self.k3s.clone(),
            hosts: Vec::new(),
        };
        let (machine, place) = (self.stages.machine.clone(), self.stages.place.clone());
        let laid_down = blocking(move || {
            let mut notices = Vec::new();
            match carried::hosts(&place.haul) {
                Ok(hosts) => facts.hosts = hosts,
                // the mirror for every host serves the rest
                Err(why) => notices.push(format!("hosts of the haul's images: {why}")),
            }
            let mut laid_down = machine.lay_down(&place, &facts)?;
            laid_down.notices.extend(notices);
            Ok(laid_down)
        });
        laid_down.await
    }

    /// The node's address and interface, once it has one. The stage *network* has its own screen;
    /// here the wait is only shown.
    async fn own_address(&mut self) -> (Ipv4Addr, String) {
        let began = Instant::now();
        loop {
            let own = self.stages.network.borrow_and_update().own.clone();
            if let Some(own) = own {
                return own;
            }
            tokio::select! {
                changed = self.stages.network.changed() => {
                    if changed.is_err() {
                        // the network manager ends with the process
                        return std::future::pending().await;
                    }
                }
                () = sleep(self.stages.pace.server.progress) => {
                    let waited = began.elapsed().as_secs();
                    let text = format!("waiting for an address of this machine, {waited} s");
                    self.stages.reports.progress(Stage::Cluster, &text);
                }
            }
        }
    }
}

/// Does what may wait for a disk on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(Failure::new(
                "a fault of the agent",
                format!("A part of the agent ended unexpectedly: {error}."),
                "Restart the machine. The log node.log says more; please report it.",
            ))
        })
}
