//! The image of the acceptance tests and the haul on it.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::Acceptance;
use crate::cluster_haul::{self, HELLO, PAUSES, StandIn};
use crate::demo_haul;
use crate::haul_writer::HaulWriter;
use crate::launcher;

/// What the Helm example runs in the paper.
pub(super) const NGINX: &str = "docker.io/library/nginx:1.16.0";
const WEB_SERVER: StandIn<'static> = (NGINX, &["/hello", "serve", "0.0.0.0:80"]);
const WEB: StandIn<'static> = (demo_haul::WEB, &["/hello", "serve"]);

impl Acceptance {
    /// Has the builder write the image; its own words are shown.
    pub(super) fn image(&self) -> Result<PathBuf> {
        let haul = self.directory.join("acceptance.tar.zst");
        self.write_haul(&haul)?;
        let config = self.directory.join("cluster.yaml");
        std::fs::write(&config, self.config()).context("writing cluster.yaml")?;
        let k3s = match &self.k3s {
            Some(k3s) => k3s.clone(),
            None => {
                println!("     no K3S was given: the project's own stand-in takes its place");
                launcher::launcher(self.arch)?
            }
        };
        let image = self.directory.join("haulboot.img");
        let mut command = Command::new(&self.builder);
        command.args(["--arch", self.arch.name()]);
        for haul in self.hauls.iter().chain([&haul]) {
            command.arg("--haul").arg(haul);
        }
        command
            .arg("--k3s")
            .arg(k3s)
            .arg("--config")
            .arg(config)
            .arg("-o")
            .arg(&image);
        let status = command
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("starting {}", self.builder.display()))?;
        ensure!(status.success(), "the builder ended with {status}");
        Ok(image)
    }

    /// Images under the names of the paper, and the chart. Of k3s's own images, which a haul that
    /// was given has, none is replaced.
    fn write_haul(&self, path: &PathBuf) -> Result<()> {
        let mut haul = HaulWriter::new();
        let pauses: &[StandIn<'_>] = match self.hauls.is_empty() {
            true => &PAUSES,
            false => &[],
        };
        cluster_haul::add(&mut haul, pauses)?;
        cluster_haul::add(&mut haul, &[HELLO, WEB_SERVER, WEB])?;
        demo_haul::add_chart(&mut haul)?;
        let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
        haul.write(BufWriter::new(file)).context("writing the haul")
    }
}
