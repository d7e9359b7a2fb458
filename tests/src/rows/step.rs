//! The steps of a row.

use std::collections::BTreeMap;

use image_layout::status::{ClusterPhase, Outcome, Stage};
use serde::Deserialize;

use crate::probe::ProbeLine;
use crate::qemu::Cable;

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
    Status(BTreeMap<String, serde_json::Value>),
    /// A path answers like this.
    Answers(Answers),
    /// curl, on another machine than the node, gets this answer.
    Asked(Asked),
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
    /// Switches a machine of a row with several on, for the first time or again.
    Start(String),
    /// Takes the power away.
    Cut,
    /// Nothing was written to the further drive with this serial number. For a machine that is
    /// off.
    DiskUnchanged(String),
    /// Steps on a machine of a row with several, by its name.
    On(BTreeMap<String, Vec<Step>>),
    /// The stand-in for k3s reports a line with these keys and values.
    Probe(ProbeLine),
    /// The stand-in for k3s has reported no line with these keys and values.
    NoProbe(ProbeLine),
    /// The stand-in for k3s is up and found every condition met, at least so many.
    NoConditionFails {
        /// How many it must have checked.
        at_least: usize,
    },
    /// k3s stands like this on the node, or comes to it.
    Cluster(ClusterIs),
    /// kubectl with the image's kubeconfig, through the forwarded port of this node.
    Kubectl(Kubectl),
    /// The stand-in for k3s kills the registry during a download, which is then completed by a
    /// range; the end is said on the status port, and k3s doesn't end.
    RegistryKilled(KilledWhile),
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

/// A question by curl.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Asked {
    /// Whether by HTTPS, with the authority of the image's credentials and no other.
    #[serde(default)]
    pub https: bool,
    /// `NAME:PASSWORD`.
    #[serde(default)]
    pub user: Option<String>,
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

/// How k3s must stand, as `/status` says; what isn't given may be anything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ClusterIs {
    /// What it is doing.
    pub phase: Option<ClusterPhase>,
    /// Whether the launcher found its data unpacked on the stick.
    pub in_place: Option<bool>,
    /// How often it ended in this boot, at least.
    pub ends: Option<u32>,
    /// The server that an agent joins.
    pub server: Option<String>,
}

/// A call of kubectl.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kubectl {
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Text in what it prints.
    #[serde(default)]
    pub contains: String,
}

/// A registry that is killed.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KilledWhile {
    /// The file that is downloaded.
    pub downloading: String,
    /// Seconds by the node's clock within which it must serve again.
    pub back_within: f64,
}

fn ok() -> u16 {
    200
}

fn done() -> Outcome {
    Outcome::Done
}
