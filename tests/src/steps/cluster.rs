//! Steps on one machine that k3s is checked by.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use image_layout::status::{ClusterStatus, Status};

use super::Node;
use crate::clients::{get, kubectl, run};
use crate::images::kubeconfig;
use crate::rows::{ClusterIs, Kubectl};

/// `/status` tells nobody of a change, so it is asked again after this time.
const AGAIN: Duration = Duration::from_secs(1);

impl Node<'_> {
    /// Asks `/status` until k3s stands as wanted.
    pub(super) fn cluster(&self, wanted: &ClusterIs) -> Result<()> {
        let registry = self.vm.registry()?;
        let deadline = Instant::now() + self.row.bound();
        loop {
            // A node that boots has no registry yet.
            let found = match get(registry, "/status") {
                Ok(answer) => {
                    serde_json::from_slice::<Status>(&answer.body)
                        .context("reading /status")?
                        .cluster
                }
                Err(_) => None,
            };
            if found.as_ref().is_some_and(|found| wanted.fits(found)) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "k3s stands as {found:?} after {} s",
                self.row.bound().as_secs()
            );
            sleep(AGAIN);
        }
    }

    pub(super) fn kubectl(&self, call: &Kubectl) -> Result<()> {
        let mut command = kubectl(&kubeconfig(self.built), self.vm.api()?);
        let said = run(command.args(&call.arguments), "tests/tools.sh")?;
        ensure!(
            said.contains(&call.contains),
            "kubectl prints {said:?}, without {:?}",
            call.contains
        );
        Ok(())
    }
}

impl ClusterIs {
    fn fits(&self, found: &ClusterStatus) -> bool {
        self.phase.is_none_or(|phase| phase == found.phase)
            && self.in_place.is_none_or(|place| place == found.in_place)
            && self.ends.is_none_or(|ends| found.ends >= ends)
            && self
                .server
                .as_ref()
                .is_none_or(|server| *server == found.server)
    }
}

#[cfg(test)]
mod tests {
    use image_layout::status::ClusterPhase;

    use super::*;

    #[test]
    fn what_is_not_asked_for_may_be_anything() {
        let found = ClusterStatus {
            phase: ClusterPhase::Ready,
            ends: 2,
            ..ClusterStatus::default()
        };
        assert!(ClusterIs::default().fits(&found));
        let ends = |ends| ClusterIs {
            ends: Some(ends),
            ..ClusterIs::default()
        };
        assert!(ends(2).fits(&found));
        assert!(!ends(3).fits(&found));
        let in_place = ClusterIs {
            in_place: Some(true),
            ..ClusterIs::default()
        };
        assert!(!in_place.fits(&found));
    }
}
