//! The rows of `rows/*.yaml`: boot tests as data.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use builder::qemu::Bus;
use image_layout::Arch;
use serde::Deserialize;

use crate::images::{Config, Edits, K3s, Recipe};

mod hardware;
mod step;

pub use hardware::{Card, Hardware, StateDisk, Stick};
pub use step::{Answers, Asked, ClusterIs, Expected, KilledWhile, Kubectl, Step};

/// One boot test.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Row {
    /// The file that it is in, without `.yaml`.
    #[serde(skip)]
    pub file: String,
    /// A sentence about what must hold; also the test's name.
    pub name: String,
    /// Whether `make test` runs it; `make test-all` runs every row.
    #[serde(default)]
    pub ci: bool,
    /// The machine's processor.
    pub arch: Arch,
    /// What starts the kernel.
    #[serde(default)]
    pub start: Start,
    /// How the stick is attached.
    #[serde(default = "usb_storage")]
    pub bus: Bus,
    /// Architectures the image boots; default: this one.
    #[serde(default)]
    pub image_arches: Vec<Arch>,
    /// Hauls of the fixtures on the image.
    #[serde(default = "small_haul")]
    pub hauls: Vec<String>,
    /// `as-built`, `absent`, or the text of `cluster.yaml`.
    #[serde(default = "as_built")]
    pub config: String,
    /// The text of `cluster.yaml` that the image is built with, where it must know it: the builder
    /// makes what it asks for.
    #[serde(default)]
    pub built_with: Option<String>,
    /// File name of that text on the stick.
    #[serde(default = "cluster_yaml")]
    pub config_name: String,
    /// The k3s file on the image.
    #[serde(default)]
    pub k3s: K3s,
    /// The machine, which is switched on before the first step.
    #[serde(default)]
    pub machine: Hardware,
    /// Several machines instead, by name, on one private network. A step `start` switches each on.
    #[serde(default)]
    pub machines: BTreeMap<String, Hardware>,
    /// What is done and must hold, one after the other.
    #[serde(with = "serde_yaml::with::singleton_map_recursive")]
    pub steps: Vec<Step>,
    /// Seconds that each wait for the node may take.
    #[serde(default = "default_bound")]
    pub bound: u64,
}

/// What starts the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// UEFI firmware, from the stick.
    #[default]
    Uefi,
    /// QEMU, with kernel and initramfs of the same image. Saves the firmware's time.
    Direct,
    /// QEMU, with kernel and initramfs of an image for the machine's architecture, and the GUIDs
    /// of this one, which is for another.
    DirectForeign,
}

fn usb_storage() -> Bus {
    Bus::UsbStorage
}

fn small_haul() -> Vec<String> {
    vec!["hauler-2.0.3-small".to_owned()]
}

fn as_built() -> String {
    "as-built".to_owned()
}

fn cluster_yaml() -> String {
    image_layout::paths::config::CLUSTER_YAML.to_owned()
}

/// A boot takes 20 s on a machine of its own; on two cores shared with ten compilers 200 s were
/// measured. A bound that is too long costs time only when something hangs.
fn default_bound() -> u64 {
    300
}

impl Row {
    /// What is on the image that a machine boots.
    pub fn recipe(&self, machine: &Hardware) -> Recipe {
        Recipe {
            arches: match self.image_arches.as_slice() {
                [] => vec![self.arch],
                some => some.to_vec(),
            },
            hauls: self.hauls.clone(),
            k3s: machine.k3s.unwrap_or(self.k3s),
            credentials: machine.credentials,
            config: self.built_with.clone(),
        }
    }

    /// What is changed on a machine's stick.
    pub fn edits(&self, machine: &Hardware) -> Edits {
        Edits {
            config: match self.config.as_str() {
                "as-built" => Config::AsBuilt,
                "absent" => Config::Absent,
                text => Config::Text {
                    name: self.config_name.clone(),
                    text: text.to_owned(),
                },
            },
            grow: machine.grow,
            power_of_two: self.bus == Bus::Sd,
        }
    }

    /// How long each wait for the node may take.
    pub fn bound(&self) -> Duration {
        Duration::from_secs(self.bound)
    }
}

/// Reads every file of a directory, in the order of their names.
///
/// # Errors
/// When one can't be read; the message has file, line and column.
pub fn load(directory: &Path) -> Result<Vec<Row>> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .with_context(|| format!("reading {}", directory.display()))?
        .collect::<std::io::Result<Vec<_>>>()?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    let mut rows = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let read: Vec<Row> =
            serde_yaml::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        rows.extend(read.into_iter().map(|row| Row {
            file: stem.clone().into_owned(),
            ..row
        }));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use image_layout::status::Outcome;

    use super::*;
    use crate::qemu::Cable;

    fn rows() -> Vec<Row> {
        load(&crate::results::repository().join("tests/rows")).unwrap()
    }

    #[test]
    fn every_row_is_understood_and_has_a_name_of_its_own() {
        let rows = rows();
        let names: BTreeSet<_> = rows
            .iter()
            .map(|row| crate::results::slug(&row.name))
            .collect();
        assert!(!rows.is_empty());
        assert_eq!(names.len(), rows.len());
        for row in &rows {
            assert!(!row.steps.is_empty(), "{} checks nothing", row.name);
            for haul in &row.hauls {
                if haul != crate::served::FILLER && haul != crate::cluster_haul::NAME {
                    crate::fixtures::load(haul).unwrap();
                }
            }
            names_only_its_machines(row, &row.steps);
        }
    }

    fn names_only_its_machines(row: &Row, steps: &[Step]) {
        let known = |name: &String| {
            assert!(row.machines.contains_key(name), "{}: {name}", row.name);
        };
        for step in steps {
            match step {
                Step::Start(name) => known(name),
                Step::On(by_name) => by_name.iter().for_each(|(name, steps)| {
                    known(name);
                    names_only_its_machines(row, steps);
                }),
                _ => {}
            }
        }
    }

    #[test]
    fn both_architectures_boot_by_uefi_in_every_run() {
        for arch in Arch::ALL {
            assert!(
                rows()
                    .iter()
                    .any(|row| row.ci && row.arch == arch && row.start == Start::Uefi),
                "{arch}"
            );
        }
    }

    #[test]
    fn a_row_without_more_is_a_stick_in_an_ordinary_machine() {
        let rows: Vec<Row> = serde_yaml::from_str(
            "[{name: n, arch: x86_64, steps: [pull-all, stage: {name: run}, cable: out]}]",
        )
        .unwrap();
        let row = rows.first().unwrap();
        assert_eq!(row.bus, Bus::UsbStorage);
        assert_eq!(row.edits(&row.machine), Edits::default());
        assert!(matches!(row.steps[0], Step::PullAll));
        assert!(matches!(&row.steps[1], Step::Stage(e) if e.outcome == Outcome::Done));
        assert!(matches!(row.steps[2], Step::Cable(Cable::Out)));
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        let misspelt = serde_yaml::from_str::<Vec<Row>>("[{name: n, arch: x86_64, step: []}]");
        assert!(misspelt.is_err());
    }
}
