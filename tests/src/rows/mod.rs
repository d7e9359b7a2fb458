//! The rows of `rows/*.yaml`: boot tests as data.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use builder::qemu::Bus;

use image_layout::Arch;
use image_layout::cluster::Mac;
use image_layout::status::{Outcome, Stage};
use serde::Deserialize;

use crate::images::{Config, Edits, Recipe};
use crate::qemu::Cable;

/// One boot test.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Row {
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
    /// File name of that text on the stick.
    #[serde(default = "cluster_yaml")]
    pub config_name: String,
    /// The machine.
    #[serde(default)]
    pub machine: Hardware,
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

/// What differs from an ordinary machine.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Hardware {
    /// Memory in MiB; default 1024.
    pub memory: Option<u32>,
    /// Processors; default 1.
    pub cpus: Option<u16>,
    /// Network card: in, out (cable pulled) or none.
    pub network: Card,
    /// Address of the node, where DHCP doesn't give it.
    pub address: Option<std::net::Ipv4Addr>,
    /// MAC address of the card.
    pub mac: Option<Mac>,
    /// Serial number of the system.
    pub serial: Option<String>,
    /// UUID of the system.
    pub uuid: Option<uuid::Uuid>,
    /// Clock at power-on, `1970-01-01T00:00:00`.
    pub clock: Option<String>,
    /// Whether the stick is in at power-on.
    pub stick: Stick,
    /// Bytes by which the drive is larger than the image.
    pub grow: u64,
    /// Bytes a second that the drive gives.
    pub read_bytes_per_second: Option<u64>,
    /// Bytes of the drive's sectors; default 512.
    pub sector: Option<u32>,
    /// A second drive with the same contents, on USB.
    pub second_stick: bool,
    /// Added to the kernel's command line; for direct starts.
    pub kernel_arguments: String,
}

/// The network card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Card {
    /// With a cable.
    #[default]
    In,
    /// Without a cable.
    Out,
    /// No card at all.
    None,
}

/// The stick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stick {
    /// In from power-on.
    #[default]
    In,
    /// Comes by a step `plug`.
    Later,
}

/// One thing that is done or must hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
pub enum Step {
    /// A stage ends, or has ended, like this.
    Stage(Expected),
    /// A notice with this text comes.
    Notice(String),
    /// skopeo copies every tag of the hauls, by tag and by digest, with the right digests.
    PullAll,
    /// skopeo copies one image, by tag and by digest: `library/hello:1`.
    Pull(String),
    /// Every file and chart of the hauls comes back under `/files/` with its digest.
    FetchAll,
    /// `helm pull` gets every chart of the hauls.
    HelmPullAll,
    /// `/status` has these values at these JSON pointers.
    Status(std::collections::BTreeMap<String, serde_json::Value>),
    /// A path answers like this.
    Answers(Answers),
    /// Nothing was written to the stick, and the tmpfs that is `/` holds at most so many bytes.
    Untouched {
        /// The bound.
        root_bytes: u64,
    },
    /// A request for a blob that wasn't read yet fails, without the registry ending.
    BlobsFail,
    /// Puts the cable in or pulls it.
    Cable(Cable),
    /// Plugs the stick in.
    Plug,
    /// Pulls the stick.
    Unplug,
    /// Presses the power button; the machine says so and powers itself off.
    PowerButton,
    /// Presses Ctrl-Alt-Del; the machine says so and reboots.
    CtrlAltDel,
}

/// An answer of the node's HTTP server.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Answers {
    /// The path asked for.
    pub path: String,
    /// The status code.
    #[serde(default = "ok")]
    pub status: u16,
    /// Text in the body.
    #[serde(default)]
    pub contains: String,
}

/// How a stage must end.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Expected {
    /// The stage.
    pub name: Stage,
    /// Its outcome.
    #[serde(default = "done")]
    pub outcome: Outcome,
    /// Text in what it did.
    #[serde(default)]
    pub detail: String,
    /// Text in what went wrong.
    #[serde(default)]
    pub problem: String,
    /// Text in how to mend it.
    #[serde(default)]
    pub mend: String,
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

fn ok() -> u16 {
    200
}

fn done() -> Outcome {
    Outcome::Done
}

impl Row {
    /// What is on its image.
    pub fn recipe(&self) -> Recipe {
        Recipe {
            arches: match self.image_arches.as_slice() {
                [] => vec![self.arch],
                some => some.to_vec(),
            },
            hauls: self.hauls.clone(),
        }
    }

    /// What is changed on its stick.
    pub fn edits(&self) -> Edits {
        Edits {
            config: match self.config.as_str() {
                "as-built" => Config::AsBuilt,
                "absent" => Config::Absent,
                text => Config::Text {
                    name: self.config_name.clone(),
                    text: text.to_owned(),
                },
            },
            grow: self.machine.grow,
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
        rows.extend(read);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

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
                if haul != crate::served::FILLER {
                    crate::fixtures::load(haul).unwrap();
                }
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
        assert_eq!(row.edits(), Edits::default());
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
