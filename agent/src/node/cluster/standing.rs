//! How k3s on this machine stands: what follows from what PID 1 says of it and from what the API
//! server says of the Node.
//!
//! No input or output here: times come in, [`Act`]s come out.

use std::collections::VecDeque;
use std::time::Duration;

use image_layout::cluster::Role;
use image_layout::status::ClusterPhase;
use tokio::time::Instant;

use super::ready::{Look, NodeObject};
use crate::report::K3sState;

/// After so many ends in a row the stage counts as failed. k3s is started again all the same.
const ENDS: u32 = 3;
/// How often another machine's traces must be seen.
const TRACES: usize = 2;

/// How long what may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// A Node that is not Ready, or an API server that does not answer, before it is said.
    pub(super) not_ready: Duration,
    /// Between two answers that the Node is not known.
    pub(super) unknown_again: Duration,
    /// For the Node to appear, once k3s said that it is ready.
    pub(super) unknown: Duration,
    /// For k3s to say that it is ready, before a note about it.
    pub(super) silent: Duration,
    /// How long another machine's traces count.
    pub(super) traces: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            not_ready: Duration::from_secs(60),
            unknown_again: Duration::from_secs(5),
            unknown: Duration::from_secs(180),
            silent: Duration::from_secs(15 * 60),
            traces: Duration::from_secs(300),
        }
    }
}

/// By what this machine's kubelet is told from another one's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// `/proc/sys/kernel/random/boot_id`; empty where it could not be read.
    pub(super) boot_id: String,
    /// `/etc/machine-id`; empty where it could not be read.
    pub(super) machine_id: String,
}

impl Own {
    /// Whether this machine's kubelet, in this boot, wrote that Node. The boot decides; the machine
    /// only where a boot is not said.
    fn wrote(&self, node: &NodeObject) -> bool {
        let known = |own: &str, theirs: &str| !own.is_empty() && !theirs.is_empty();
        if known(&self.boot_id, &node.boot_id) {
            return self.boot_id == node.boot_id;
        }
        !known(&self.machine_id, &node.machine_id) || self.machine_id == node.machine_id
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// A person should know.
    Notice(String),
    /// The stage ends well: the Node is Ready.
    Done,
    /// The stage ends badly: k3s ends again and again.
    Ends,
    /// The stage ends badly: another machine runs under the same name.
    Another,
    /// k3s has not said for long that it is ready; a note with its last lines.
    Silent,
    /// `k3s agent` is to be started anew, so that it registers.
    Restart,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Standing {
    node: String,
    role: Role,
    own: Own,
    patience: Patience,
    phase: ClusterPhase,
    k3s: K3sState,
    /// When k3s was started, and when it said READY=1.
    started: Instant,
    ready_since: Instant,
    /// Ends since the Node was Ready last.
    ends_in_a_row: u32,
    /// How the stage ended last; none: not yet.
    ended_well: Option<bool>,
    /// Whether the Node was Ready once in this boot.
    was_ready: bool,
    /// Whether the Node was seen as this machine's kubelet wrote it.
    registered: bool,
    unknown_since: Option<Instant>,
    /// Since when the Node was not seen Ready, and why.
    trouble_since: Option<Instant>,
    why: String,
    traces: VecDeque<Instant>,
    another: bool,
    silence_was_said: bool,
    restarting: bool,
}

impl Standing {
    /// k3s as it stands now; that it ended before is no news.
    pub(super) fn new(
        node: String,
        role: Role,
        own: Own,
        patience: Patience,
        k3s: K3sState,
        now: Instant,
    ) -> Standing {
        let mut standing = Standing {
            node,
            role,
            own,
            patience,
            phase: ClusterPhase::Starting,
            k3s: K3sState {
                ends: k3s.ends,
                ..K3sState::default()
            },
            started: now,
            ready_since: now,
            ends_in_a_row: 0,
            ended_well: None,
            was_ready: false,
            registered: false,
            unknown_since: None,
            trouble_since: None,
            why: String::new(),
            traces: VecDeque::new(),
            another: false,
            silence_was_said: false,
            restarting: false,
        };
        standing.k3s_says(k3s, now);
        standing
    }

    /// What k3s is doing.
    pub(super) fn phase(&self) -> ClusterPhase {
        self.phase
    }

    /// How PID 1 said last that k3s stands.
    pub(super) fn k3s(&self) -> &K3sState {
        &self.k3s
    }

    /// Whether the API server is worth asking.
    pub(super) fn looks(&self) -> bool {
        self.k3s.running && self.k3s.ready
    }

    /// Whether the stage waits for something that takes its time.
    pub(super) fn progress(&self, now: Instant) -> Option<String> {
        let seconds = |since: Instant| now.saturating_duration_since(since).as_secs();
        match self.phase {
            ClusterPhase::Starting if self.k3s.running => {
                Some(format!("k3s starts, {} s", seconds(self.started)))
            }
            ClusterPhase::WaitingForNode => {
                let why = match self.why.is_empty() {
                    true => String::new(),
                    false => format!(" ({})", self.why),
                };
                Some(format!(
                    "k3s is up; waiting for node {} to become Ready, {} s{why}",
                    self.node,
                    seconds(self.ready_since)
                ))
            }
            _ => None,
        }
    }

    /// PID 1 says how k3s stands. Of every end it has told the person already.
    pub(super) fn k3s_says(&mut self, k3s: K3sState, now: Instant) -> Vec<Act> {
        let mut acts = Vec::new();
        let ends = k3s.ends.saturating_sub(self.k3s.ends);
        if ends > 0 {
            self.ends_in_a_row = self.ends_in_a_row.saturating_add(ends);
            if self.ends_in_a_row >= ENDS && self.ended_well != Some(false) {
                self.ended_well = Some(false);
                acts.push(Act::Ends);
            }
        }
        if k3s.running && (ends > 0 || !self.k3s.running) {
            self.started = now;
            self.silence_was_said = false;
            self.restarting = false;
        }
        if k3s.ready && (ends > 0 || !self.k3s.ready) {
            self.ready_since = now;
            self.unknown_since = None;
            self.trouble_since = None;
            self.why.clear();
        }
        let interrupted = ends > 0 || !k3s.ready;
        self.phase = match self.phase {
            _ if !k3s.running && k3s.ends > 0 && !self.restarting => ClusterPhase::Failed,
            _ if !k3s.running || !k3s.ready => ClusterPhase::Starting,
            phase @ (ClusterPhase::Ready | ClusterPhase::NotReady) if !interrupted => phase,
            _ => ClusterPhase::WaitingForNode,
        };
        self.k3s = k3s;
        acts
    }

    /// The API server was asked about the Node.
    pub(super) fn saw(&mut self, look: Look, now: Instant) -> Vec<Act> {
        if !self.looks() {
            return Vec::new();
        }
        let mut acts = Vec::new();
        match look {
            Look::Node(node) => {
                self.unknown_since = None;
                let ours = self.own.wrote(&node);
                self.trace(ours, now, &mut acts);
                if ours && node.ready {
                    self.is_ready(&mut acts);
                } else if ours {
                    self.is_not_ready(node.why, now, &mut acts);
                } else if !self.registered {
                    // as a boot before this one left it, or the machine whose name this one took
                    let why = "the Node is still another boot's".to_owned();
                    self.is_not_ready(why, now, &mut acts);
                }
            }
            Look::Unknown => {
                let since = *self.unknown_since.get_or_insert(now);
                let patience = match self.registered {
                    true => self.patience.unknown_again,
                    false => self.patience.unknown,
                };
                let gone = now.saturating_duration_since(since);
                if self.role == Role::Agent && !gone.is_zero() && gone >= patience {
                    acts.push(Act::Notice(
                        "the server does not know this node any more; k3s agent is started anew"
                            .to_owned(),
                    ));
                    acts.push(Act::Restart);
                    self.registered = false;
                    self.restarting = true;
                    self.unknown_since = None;
                    self.phase = ClusterPhase::Starting;
                } else {
                    let why = "the API server does not know it".to_owned();
                    self.is_not_ready(why, now, &mut acts);
                }
            }
            Look::Silent(why) => {
                // a server that is away is no server that forgot
                self.unknown_since = None;
                self.is_not_ready(why, now, &mut acts);
            }
        }
        acts
    }

    /// Time passed.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Act> {
        let waits = self.k3s.running && !self.k3s.ready && !self.silence_was_said;
        if waits && now.saturating_duration_since(self.started) >= self.patience.silent {
            self.silence_was_said = true;
            return vec![Act::Silent];
        }
        Vec::new()
    }

    /// Notes whose kubelet wrote the Node.
    ///
    /// While this machine's runs and has written it, nobody else does: except on another machine
    /// that runs under the same name. Then each overwrites what the other wrote. A machine that
    /// takes a name over sees the other's words too, but before its own.
    fn trace(&mut self, ours: bool, now: Instant, acts: &mut Vec<Act>) {
        if ours {
            self.registered = true;
        } else if self.registered {
            self.traces.push_back(now);
        }
        let counts = |seen: &Instant| now.saturating_duration_since(*seen) < self.patience.traces;
        self.traces.retain(counts);
        while self.traces.len() > TRACES {
            self.traces.pop_front();
        }
        if self.traces.len() >= TRACES && !self.another {
            self.another = true;
            self.ended_well = Some(false);
            acts.push(Act::Notice(format!(
                "another machine runs as node {} too; switch one of them off",
                self.node
            )));
            acts.push(Act::Another);
        } else if self.traces.is_empty() && self.another {
            self.another = false;
            let alone = format!("no other machine runs as node {} any more", self.node);
            acts.push(Act::Notice(alone));
        }
    }

    fn is_ready(&mut self, acts: &mut Vec<Act>) {
        self.trouble_since = None;
        self.why.clear();
        self.ends_in_a_row = 0;
        if self.phase != ClusterPhase::Ready && self.was_ready {
            acts.push(Act::Notice(format!("node {} is Ready again", self.node)));
        }
        self.was_ready = true;
        self.phase = ClusterPhase::Ready;
        if self.ended_well != Some(true) && !self.another {
            self.ended_well = Some(true);
            acts.push(Act::Done);
        }
    }

    fn is_not_ready(&mut self, why: String, now: Instant, acts: &mut Vec<Act>) {
        self.why = why;
        let since = *self.trouble_since.get_or_insert(now);
        let long = now.saturating_duration_since(since) >= self.patience.not_ready;
        if self.phase == ClusterPhase::Ready && long {
            self.phase = ClusterPhase::NotReady;
            acts.push(Act::Notice(format!(
                "node {} is not Ready any more: {}",
                self.node, self.why
            )));
        }
    }
}
