//! Steps on one machine that boot, network and registry are checked by.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use image_layout::status::{Status, StatusLine};
use serde_json::json;

use super::Node;
use crate::clients::{fetch, get, helm, run, skopeo};
use crate::images::registry_ca;
use crate::qemu::EXIT_BOUND;
use crate::rows::{Answers, Asked, Expected};

impl Node<'_> {
    pub(super) fn stage(&self, expected: &Expected) -> Result<()> {
        let status = self.vm.status();
        let report = status.wait_stage(expected.name, expected.outcome, self.row.bound())?;
        let problem = report.problem.as_ref();
        for (what, wanted, said) in [
            ("detail", &expected.detail, Some(&report.detail)),
            (
                "problem",
                &expected.problem,
                problem.map(|problem| &problem.what),
            ),
            ("mend", &expected.mend, problem.map(|problem| &problem.mend)),
        ] {
            let said = said.map_or("", String::as_str);
            ensure!(
                said.contains(wanted),
                "{what} is {said:?}, without {wanted:?}"
            );
        }
        Ok(())
    }

    pub(super) fn notice(&self, wanted: &str) -> Result<()> {
        let what = format!("a notice with {wanted:?}");
        Ok(self.vm.status().wait(&what, self.row.bound(), |lines| {
            lines.iter().find_map(|line| match line {
                StatusLine::Notice { text, .. } if text.contains(wanted) => Some(()),
                _ => None,
            })
        })?)
    }

    pub(super) fn power_button(&mut self) -> Result<()> {
        self.vm.qmp().execute("system_powerdown", json!({}))?;
        self.down("poweroff", "guest-shutdown")
    }

    pub(super) fn ctrl_alt_del(&mut self) -> Result<()> {
        let key = |name: &str| json!({"type": "qcode", "data": name});
        let keys = [key("ctrl"), key("alt"), key("delete")];
        self.vm.qmp().execute("send-key", json!({"keys": keys}))?;
        self.down("reboot", "guest-reset")
    }

    fn down(&mut self, action: &str, reason: &str) -> Result<()> {
        let what = format!("the last line with {action}");
        let said = self
            .vm
            .status()
            .wait(&what, EXIT_BOUND, |lines| match lines.last() {
                Some(StatusLine::Down { action, .. }) => Some(action.clone()),
                _ => None,
            })?;
        ensure!(
            said == action,
            "the node says {said:?} instead of {action:?}"
        );
        self.vm.wait_down(reason)
    }

    pub(super) fn pull(&self, name: &str) -> Result<()> {
        let wanted = self
            .served
            .tags
            .iter()
            .find(|(repository, tag, _)| format!("{repository}:{tag}") == name);
        let (repository, _, digest) = wanted.ok_or_else(|| anyhow!("the hauls have no {name}"))?;
        let registry = self.vm.registry()?;
        for name in [name.to_owned(), format!("{repository}@{digest}")] {
            let arrived = skopeo(registry, &name)?;
            ensure!(arrived == *digest, "{name} arrived as {arrived}");
        }
        Ok(())
    }

    pub(super) fn pull_all(&self) -> Result<()> {
        ensure!(!self.served.tags.is_empty(), "the hauls have no tags");
        self.served
            .tags
            .iter()
            .try_for_each(|(repository, tag, _)| self.pull(&format!("{repository}:{tag}")))
    }

    pub(super) fn fetch_all(&self) -> Result<()> {
        ensure!(!self.served.files.is_empty(), "the hauls have no files");
        let registry = self.vm.registry()?;
        for (name, digest) in &self.served.files {
            // In a path `+` stands for itself.
            fetch(registry, &format!("/files/{name}"), digest)?;
        }
        Ok(())
    }

    pub(super) fn helm_pull_all(&self) -> Result<()> {
        ensure!(!self.served.charts.is_empty(), "the hauls have no charts");
        let registry = self.vm.registry()?;
        for chart in &self.served.charts {
            let arrived = helm(registry, &chart.repository, &chart.tag)?;
            ensure!(
                arrived == chart.digest,
                "{} arrived as {arrived}",
                chart.repository
            );
        }
        Ok(())
    }

    pub(super) fn status(&self, values: &BTreeMap<String, serde_json::Value>) -> Result<()> {
        let answer = get(self.vm.registry()?, "/status")?;
        ensure!(answer.status == 200, "/status answers {}", answer.status);
        // The shape, then the values.
        serde_json::from_slice::<Status>(&answer.body).context("reading /status")?;
        let status: serde_json::Value = serde_json::from_slice(&answer.body)?;
        for (pointer, wanted) in values {
            let found = status.pointer(pointer);
            ensure!(
                found == Some(wanted),
                "{pointer} is {found:?} instead of {wanted}"
            );
        }
        Ok(())
    }

    pub(super) fn answers(&self, wanted: &Answers) -> Result<()> {
        let path = &wanted.path;
        let answer = get(self.vm.registry()?, path)?;
        ensure!(
            answer.status == wanted.status,
            "{path} answers {}",
            answer.status
        );
        let body = String::from_utf8_lossy(&answer.body);
        ensure!(body.contains(&wanted.contains), "{path} answers {body:?}");
        Ok(())
    }

    pub(super) fn asked(&self, wanted: &Asked) -> Result<()> {
        let registry = self.vm.registry()?;
        let scheme = if wanted.https { "https" } else { "http" };
        let url = format!("{scheme}://{registry}{}", wanted.path);
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "60"]);
        // the code on a line of its own behind the body
        command.args(["--write-out", "\n%{http_code}"]);
        if wanted.https {
            let authority = registry_ca(self.built, self.row.k3s);
            command.arg("--cacert").arg(authority);
        }
        if let Some(user) = &wanted.user {
            command.args(["--user", user]);
        }
        let said = run(command.arg(&url), "the package curl")?;
        let (body, code) = said.rsplit_once('\n').context("curl says no code")?;
        ensure!(
            code == wanted.status.to_string() && body.contains(&wanted.contains),
            "{url} answers {code} {body:?}"
        );
        Ok(())
    }

    pub(super) fn untouched(&mut self, root_bytes: u64) -> Result<()> {
        let stats = self.vm.block_stats("stick")?;
        ensure!(
            stats.writes == 0 && stats.written_bytes == 0,
            "the stick was written to: {stats:?}"
        );
        ensure!(
            stats.read_bytes > 0,
            "QEMU's counters stand still: {stats:?}"
        );
        let answer = get(self.vm.registry()?, "/status")?;
        let status: Status = serde_json::from_slice(&answer.body).context("reading /status")?;
        let used = status.root_bytes_used;
        ensure!(
            (1..=root_bytes).contains(&used),
            "the tmpfs that is / holds {used} bytes; the bound is {root_bytes}"
        );
        Ok(())
    }

    pub(super) fn blobs_fail(&self) -> Result<()> {
        let registry = self.vm.registry()?;
        for (name, _) in &self.served.files {
            // The page cache may still have some; one that it hasn't is enough.
            match get(registry, &format!("/files/{name}")) {
                Ok(answer) if answer.status == 200 => {}
                Ok(answer) if answer.status >= 500 => return Ok(()),
                Ok(answer) => bail!("/files/{name} answers {}", answer.status),
                Err(_) => return Ok(()),
            }
        }
        bail!("every file still came back")
    }
}
