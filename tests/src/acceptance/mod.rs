//! What `make acceptance` does: a server and an agent boot on a network without a way out, and the
//! three tests of "Kubernetes in the Air Gap" run against them.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use image_layout::Arch;

mod haul;
mod machines;
mod paper;

use machines::Machines;

/// What is to be accepted.
#[derive(Debug)]
pub struct Acceptance {
    /// The machines.
    pub arch: Arch,
    /// The k3s file; none for the stand-in.
    pub k3s: Option<PathBuf>,
    /// Hauls beside the acceptance tests' own; k3s's images are among them, or nowhere.
    pub hauls: Vec<PathBuf>,
    /// The builder.
    pub builder: PathBuf,
    /// Where images, logs and what was found are left.
    pub directory: PathBuf,
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds; what was seen.
    Passed(String),
    /// It doesn't; why.
    Failed(String),
    /// It could not be tried; why.
    NotRun(String),
}

impl Verdict {
    fn of(outcome: Result<String>) -> Verdict {
        match outcome {
            Ok(seen) => Verdict::Passed(seen),
            Err(error) => Verdict::Failed(format!("{error:#}")),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Passed(seen) => write!(f, "PASSED   {seen}"),
            Verdict::Failed(why) => write!(f, "FAILED   {why}"),
            Verdict::NotRun(why) => write!(f, "not run  {why}"),
        }
    }
}

/// Names of the tests, in their order.
pub const TESTS: [&str; 5] = [
    "a server and an agent boot and are Ready",
    "(1) mirror: kubectl run hello-world",
    "(2) Helm: a chart out of the node's registry",
    "(3) multi-pod: a front finds its database by name",
    "the power button stops pods and machines",
];

/// From power-on to a Ready node. An emulated machine with a real k3s took 80 s with two
/// processors of its own; on a busy host it is many times that.
const READY_BOUND: Duration = Duration::from_secs(1200);

impl Acceptance {
    /// Runs it all, saying what it does. One verdict for each of [`TESTS`].
    ///
    /// # Errors
    /// When there is nothing to give verdicts on: no image, or no machine that starts.
    pub fn run(&self) -> Result<[Verdict; 5]> {
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("making {}", self.directory.display()))?;
        println!("\n==== An image");
        let image = self.image()?;
        println!("\n==== A server and an agent on a network without a way out");
        let mut machines = Machines::start(self, &image)?;
        let up = Verdict::of(machines.up(READY_BOUND));
        println!("     {up}");
        let is_up = matches!(up, Verdict::Passed(_));
        let mut of_the_paper = [1, 2, 3].map(|number| self.cannot_run(number, is_up));
        for (number, verdict) in of_the_paper.iter_mut().enumerate() {
            if verdict.is_none() {
                let name = TESTS.get(number + 1).unwrap_or(&"");
                println!("\n==== {name}");
                let outcome = paper::test(number + 1, &machines, &self.directory);
                let found = Verdict::of(outcome);
                if let Verdict::Failed(_) = found {
                    machines.leave_traces(number + 1);
                }
                println!("     {found}");
                *verdict = Some(found);
            }
        }
        println!("\n==== The power button");
        let down = match is_up {
            true => Verdict::of(machines.down()),
            false => Verdict::NotRun("the machines did not come up".to_owned()),
        };
        println!("     {down}");
        let [mirror, helm, pods] = of_the_paper.map(|verdict| {
            verdict.unwrap_or_else(|| Verdict::Failed("it was not tried".to_owned()))
        });
        Ok([up, mirror, helm, pods, down])
    }

    /// Why one of the paper's tests can't be tried; `None` where it can.
    fn cannot_run(&self, number: usize, is_up: bool) -> Option<Verdict> {
        let why = if self.k3s.is_none() {
            "the stand-in for k3s runs no pods: make acceptance K3S=/path/to/k3s"
        } else if number == 3 && self.hauls.is_empty() {
            "cluster DNS needs k3s's own images: HAUL=k3s-airgap-images-ARCH.tar.zst, of the \
             release of the k3s file"
        } else if !is_up {
            "the machines did not come up"
        } else {
            return None;
        };
        Some(Verdict::NotRun(why.to_owned()))
    }

    /// `cluster.yaml`: everything optional is off that no test needs.
    fn config(&self) -> String {
        let off = match self.hauls.is_empty() {
            true => "traefik, servicelb, metrics-server, local-storage, coredns",
            false => "traefik, servicelb, metrics-server, local-storage",
        };
        format!(
            "apiVersion: haulboot.dev/v1\n\
             kind: Cluster\n\
             name: acceptance\n\
             k3s:\n  \
               disable: [{off}]\n  \
               disable-helm-controller: true\n\
             nodes:\n  \
               - {{name: server, match: {{serial: {}}}, role: server, address: {}/24}}\n  \
               - {{name: agent, match: {{serial: {}}}, role: agent, address: {}/24}}\n",
            machines::SERVER.serial,
            machines::SERVER.address,
            machines::AGENT.serial,
            machines::AGENT.address,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acceptance(k3s: bool, haul: bool) -> Acceptance {
        Acceptance {
            arch: Arch::X86_64,
            k3s: k3s.then(|| "k3s".into()),
            hauls: haul.then(|| "images.tar.zst".into()).into_iter().collect(),
            builder: "builder".into(),
            directory: "nowhere".into(),
        }
    }

    fn runs(acceptance: &Acceptance) -> [bool; 3] {
        [1, 2, 3].map(|number| acceptance.cannot_run(number, true).is_none())
    }

    #[test]
    fn what_can_be_tried_follows_from_what_was_given() {
        assert_eq!(runs(&acceptance(false, true)), [false; 3]);
        assert_eq!(runs(&acceptance(true, false)), [true, true, false]);
        assert_eq!(runs(&acceptance(true, true)), [true; 3]);
        assert!(acceptance(true, true).cannot_run(1, false).is_some());
    }

    #[test]
    fn the_configuration_is_one_that_the_node_understands() {
        for haul in [false, true] {
            let text = acceptance(true, haul).config();
            let cluster = image_layout::cluster::parse(text.as_bytes()).unwrap();
            assert_eq!(cluster.nodes.len(), 2);
            assert_eq!(text.contains("coredns"), !haul);
        }
    }
}
