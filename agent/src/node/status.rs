//! What this process tells PID 1.

use image_layout::status::{ClusterStatus, NodeStatus, Outcome, Problem, Stage, StateStatus};

use crate::report::{Order, Report, Sender};

/// The channel to PID 1, and what was said last, so that nothing is said twice. Its clones share
/// the channel; one of them alone tells about the node.
#[derive(Clone, Debug)]
pub(super) struct Reports {
    sender: Sender,
    node: NodeStatus,
}

impl Reports {
    /// Reports through `sender`.
    pub(super) fn new(sender: Sender) -> Reports {
        Reports {
            sender,
            node: NodeStatus::default(),
        }
    }

    /// A stage began.
    pub(super) fn begin(&self, stage: Stage) {
        self.sender.send(&Report::Begin(stage));
    }

    /// A stage did what it is for; one line about it.
    pub(super) fn done(&self, stage: Stage, detail: String) {
        tracing::info!("{stage}: {detail}");
        self.sender.send(&Report::End {
            stage,
            outcome: Outcome::Done,
            detail,
            problem: None,
        });
    }

    /// A stage could not do it; one line, and the screen.
    pub(super) fn failed(&self, stage: Stage, detail: String, problem: Problem) {
        tracing::error!("{stage}: {detail}: {}", problem.what);
        self.sender.send(&Report::End {
            stage,
            outcome: Outcome::Failed,
            detail,
            problem: Some(problem),
        });
    }

    /// A stage had nothing to do; one line why.
    pub(super) fn skipped(&self, stage: Stage, detail: String) {
        tracing::info!("{stage}: skipped: {detail}");
        self.sender.send(&Report::End {
            stage,
            outcome: Outcome::Skipped,
            detail,
            problem: None,
        });
    }

    /// How a stage's wait is going, for the console alone.
    pub(super) fn progress(&self, stage: Stage, text: &str) {
        self.sender
            .send(&Report::Progress(format!("{stage:<8} {text}")));
    }

    /// Where k3s keeps its data.
    pub(super) fn state(&self, state: StateStatus) {
        self.sender.send(&Report::State(state));
    }

    /// How k3s stands.
    pub(super) fn cluster(&self, cluster: ClusterStatus) {
        self.sender.send(&Report::Cluster(cluster));
    }

    /// What PID 1 is to do with k3s.
    pub(super) fn order(&self, order: Order) {
        tracing::info!("k3s: {order:?}");
        self.sender.send(&Report::K3s(order));
    }

    /// Something a person should know; one line.
    pub(super) fn notice(&self, text: String) {
        tracing::info!("{text}");
        self.sender.send(&Report::Notice(text));
    }

    /// Changes what is said about the node, and says it if it is new.
    pub(super) fn node(&mut self, change: impl FnOnce(&mut NodeStatus)) {
        let mut node = self.node.clone();
        change(&mut node);
        if node != self.node {
            self.sender.send(&Report::Node(node.clone()));
            self.node = node;
        }
    }
}
