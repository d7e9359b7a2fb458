//! Which children there are, and what each of them is believed about.

use std::time::Duration;

use image_layout::status::Stage;

use crate::report::Report;

/// A child, as a line of a table.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::init) struct Spec {
    /// Name: of the agent's sub-command, the log, the control group.
    pub(in crate::init) name: &'static str,
    /// `oom_score_adj`: the lower, the later the kernel kills it when memory is short.
    pub(super) oom: i32,
    /// How long to wait before it is started again for the first time; later waits are longer.
    pub(super) first_wait: Duration,
    /// The stages it may end. The registry talks to networks: what it says is not believed
    /// beyond its own stage.
    pub(in crate::init) stages: &'static [Stage],
}

/// Identity, network, state, cluster.
pub(in crate::init) const NODE: Spec = Spec {
    name: "node",
    oom: -900,
    first_wait: Duration::from_secs(1),
    stages: &[
        Stage::Identity,
        Stage::Network,
        Stage::State,
        Stage::Cluster,
    ],
};

/// The registry.
pub(in crate::init) const REGISTRY: Spec = Spec {
    name: "registry",
    oom: -500,
    // clients wait for it, and a try costs next to nothing
    first_wait: Duration::from_millis(100),
    stages: &[Stage::Registry],
};

impl Spec {
    /// Whether this child may say that.
    pub(super) fn may_say(&self, report: &Report) -> bool {
        match report {
            Report::Begin(stage) | Report::End { stage, .. } => self.stages.contains(stage),
            Report::Notice(_) => true,
            Report::Node(_)
            | Report::MissingFirmware(_)
            | Report::Progress(_)
            | Report::State(_)
            | Report::Cluster(_)
            | Report::K3s(_) => self.name == NODE.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use image_layout::status::{NodeStatus, Outcome};

    use super::*;

    #[test]
    fn a_child_is_believed_about_its_own_stages_only() {
        let end = |stage| Report::End {
            stage,
            outcome: Outcome::Done,
            detail: String::new(),
            problem: None,
        };
        assert!(REGISTRY.may_say(&end(Stage::Registry)));
        assert!(!REGISTRY.may_say(&end(Stage::Network)));
        assert!(!REGISTRY.may_say(&Report::Node(NodeStatus::default())));
        assert!(NODE.may_say(&end(Stage::Network)));
        assert!(!NODE.may_say(&end(Stage::Root)));
    }
}
