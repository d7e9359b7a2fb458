//! The stages that the children end, and what starts after them.

use image_layout::status::{Outcome as StageOutcome, Stage};

use super::{Boot, Phase, SERVING};
use crate::init::children::{Event, NODE, REGISTRY};
use crate::init::clock::Uptime;
use crate::init::helper::Task;
use crate::init::machine::Machine;
use crate::init::summary;
use crate::report::{Report, Word};

/// After so many deaths a child's stages count as failed. It is started again all the same.
const DEATHS: u32 = 3;

/// What the end of a stage leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Registry,
    Cluster,
    Run,
    /// Run is reached already, and may have to say something else now.
    RunAnew,
}

/// What the end of a stage leads to, well or not, where the boot stands there.
fn after(stage: Stage, phase: &Phase) -> Option<Next> {
    match (stage, phase) {
        (Stage::Network, Phase::Node { .. }) => Some(Next::Registry),
        (Stage::Registry, Phase::Registry { .. }) => Some(Next::Cluster),
        (Stage::Cluster, Phase::Cluster) => Some(Next::Run),
        (Stage::Registry | Stage::State | Stage::Cluster, Phase::Run) => Some(Next::RunAnew),
        _ => None,
    }
}

impl Boot {
    /// A child did something.
    pub(in crate::init) fn child(&mut self, machine: &mut Machine, event: Event) {
        match event {
            Event::Report(report) => self.report(machine, report),
            Event::Died {
                name,
                how,
                deaths,
                wait,
            } => {
                let Some(wait) = wait else {
                    return;
                };
                let when = match wait.as_secs() {
                    0 => "at once".to_owned(),
                    seconds => format!("in {seconds} s"),
                };
                machine.reporter.notice(&format!(
                    "the process {name} ended ({how}); it is started again {when}"
                ));
                if deaths >= DEATHS {
                    self.keeps_dying(machine, name, &how);
                }
            }
        }
    }

    fn report(&mut self, machine: &mut Machine, report: Report) {
        match report {
            Report::Begin(stage) => machine.reporter.begin(stage, Uptime::now()),
            Report::End {
                stage,
                outcome,
                detail,
                problem,
            } => {
                machine.reporter.end(stage, outcome, &detail, problem);
                self.stage_ended(machine, stage);
            }
            Report::Notice(text) => machine.reporter.notice(&text),
            Report::Node(node) => {
                machine.reporter.set_node(node);
                self.renew_run(machine);
            }
            Report::MissingFirmware(missing) => machine.reporter.firmware_of_node(missing),
            Report::Progress(text) => machine.reporter.say(&text),
            Report::State(state) => machine.reporter.set_state(state),
            Report::Cluster(mut cluster) => {
                cluster.ends = machine.k3s.ends();
                machine.reporter.set_cluster(cluster);
                self.renew_run(machine);
            }
            Report::K3s(order) => machine.k3s.order(order, Uptime::now()),
        }
    }

    fn stage_ended(&mut self, machine: &mut Machine, stage: Stage) {
        if stage == Stage::Identity && self.config_is_mounted {
            self.config_is_mounted = false;
            machine.helpers.start(Task::UnmountConfig);
        }
        match after(stage, &self.phase) {
            Some(Next::Registry) => self.enter_registry(machine),
            Some(Next::Cluster) => self.enter_cluster(machine),
            Some(Next::Run) => self.enter_run(machine),
            Some(Next::RunAnew) => self.renew_run(machine),
            None => {}
        }
    }

    /// A child died so often that its stage won't end by itself.
    fn keeps_dying(&mut self, machine: &mut Machine, name: &'static str, how: &str) {
        let stages = if name == NODE.name {
            NODE.stages
        } else {
            REGISTRY.stages
        };
        let mut last = machine.children.tail(name);
        if !last.is_empty() {
            last.insert_str(0, " It last said:\n");
        }
        for &stage in stages {
            if machine.reporter.outcome(stage) == Some(StageOutcome::Failed) {
                continue;
            }
            machine.reporter.failed(
                stage,
                &format!("the process {name} keeps ending ({how})"),
                &format!("The process {name} ended {DEATHS} times ({how}).{last}"),
                &format!(
                    "It is started again and again. If that does not help, its log \
                     /run/haulboot/logs/{name}.log says more; report it."
                ),
            );
            self.stage_ended(machine, stage);
        }
    }

    pub(super) fn enter_registry(&mut self, machine: &mut Machine) {
        self.phase = Phase::Registry {
            until: Uptime::now().after(SERVING),
        };
        if !machine.children.has(&REGISTRY) {
            let events = machine.children.start(&REGISTRY);
            for event in events {
                self.child(machine, event);
            }
        }
    }

    /// Whatever became of the registry, the node process goes on with its last two stages.
    pub(super) fn enter_cluster(&mut self, machine: &mut Machine) {
        self.phase = Phase::Cluster;
        machine.children.tell(&NODE, &Word::Go);
        // it may have ended, or be known not to
        if machine.reporter.outcome(Stage::Cluster).is_some() {
            self.enter_run(machine);
        }
    }

    fn enter_run(&mut self, machine: &mut Machine) {
        self.phase = Phase::Run;
        self.renew_run(machine);
    }

    /// Says what this machine is and serves; anew whenever that changes.
    fn renew_run(&mut self, machine: &mut Machine) {
        if !matches!(self.phase, Phase::Run) {
            return;
        }
        let serves = machine.reporter.outcome(Stage::Registry) == Some(StageOutcome::Done);
        let failed = |stage: &Stage| machine.reporter.outcome(*stage) == Some(StageOutcome::Failed);
        let detail = summary::line(machine.reporter.status(), serves);
        if !serves {
            machine.reporter.failed(
                Stage::Run,
                &detail,
                "The machine is up, but does not serve the haul: see stage registry.",
                "Mend what stage registry says.",
            );
        } else if let Some(stage) = [Stage::State, Stage::Cluster].iter().find(|s| failed(s)) {
            machine.reporter.failed(
                Stage::Run,
                &detail,
                &format!(
                    "The machine is up and serves the haul, but k3s is not: see stage {stage}."
                ),
                &format!("Mend what stage {stage} says."),
            );
        } else {
            machine.reporter.done(Stage::Run, &detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_cluster_and_run_follow_each_other() {
        let until = Uptime::default();
        let (node, registry) = (Phase::Node { until }, Phase::Registry { until });
        assert_eq!(after(Stage::Identity, &node), None);
        assert_eq!(after(Stage::Network, &node), Some(Next::Registry));
        assert_eq!(after(Stage::Registry, &registry), Some(Next::Cluster));
        assert_eq!(after(Stage::State, &Phase::Cluster), None);
        assert_eq!(after(Stage::Cluster, &Phase::Cluster), Some(Next::Run));
    }

    #[test]
    fn what_ends_anew_or_late_does_not_turn_the_boot_back() {
        let until = Uptime::default();
        assert_eq!(after(Stage::Network, &Phase::Cluster), None);
        assert_eq!(after(Stage::Registry, &Phase::Cluster), None);
        assert_eq!(after(Stage::Cluster, &Phase::Registry { until }), None);
        assert_eq!(after(Stage::Network, &Phase::Run), None);
        for stage in [Stage::Registry, Stage::State, Stage::Cluster] {
            assert_eq!(after(stage, &Phase::Run), Some(Next::RunAnew));
        }
    }
}
