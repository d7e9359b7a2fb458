//! What this process tells PID 1.

use image_layout::status::{NodeStatus, Outcome, Problem, Stage};

use crate::report::{Report, Sender};

/// The channel to PID 1, and what was said last, so that nothing is said twice.
#[derive(Debug)]
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
