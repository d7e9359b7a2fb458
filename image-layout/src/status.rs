//! What a node reports: stages, the status file, the lines of the status port.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Arch, Digest};

/// The stages of a boot, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Mounts, log, uevents, drivers for the media.
    Early,
    /// Finding the stick.
    Media,
    /// tmpfs root, HAUL mounted.
    Root,
    /// `cluster.yaml`, who this machine is, the clock.
    Identity,
    /// Links, addresses, routes, DNS, host name.
    Network,
    /// The registry listens.
    Registry,
    /// Where k3s keeps its data.
    State,
    /// k3s.
    Cluster,
    /// Everything is up; supervise.
    Run,
}

impl Stage {
    /// The name in lower case, as on console and status port.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Early => "early",
            Stage::Media => "media",
            Stage::Root => "root",
            Stage::Identity => "identity",
            Stage::Network => "network",
            Stage::Registry => "registry",
            Stage::State => "state",
            Stage::Cluster => "cluster",
            Stage::Run => "run",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How a stage ended, or stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Did what it is for.
    Done,
    /// Could not; see [`Problem`]. Later stages that can do without it go on.
    Failed,
    /// Had nothing to do.
    Skipped,
}

/// What went wrong, in words for the person in front of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What went wrong: one or more sentences.
    pub what: String,
    /// How to mend it: one or more sentences.
    pub mend: String,
}

/// The end of one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// Which.
    pub stage: Stage,
    /// How it ended.
    pub outcome: Outcome,
    /// What it did, one line without line breaks.
    pub detail: String,
    /// When it ended, in seconds since the kernel started.
    pub at: f64,
    /// How long it took, in seconds.
    pub took: f64,
    /// Set when the outcome is [`Outcome::Failed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// One line on the virtio-serial port [`crate::paths::node::STATUS_PORT`], as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum StatusLine {
    /// A stage ended (or ended anew, after a retry).
    Stage(StageReport),
    /// Something a person should know that ends no stage: a warning, a child restarted.
    Notice {
        /// One line.
        text: String,
        /// Seconds since the kernel started.
        at: f64,
    },
    /// The machine goes down; the last line.
    Down {
        /// `poweroff` or `reboot`.
        action: String,
        /// Seconds since the kernel started.
        at: f64,
    },
}

/// The node's state: `/run/haulboot/status.json`, served at `/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Version of the agent.
    pub agent: String,
    /// Architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<Arch>,
    /// `uname -r`.
    pub kernel: String,
    /// Who this machine is, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeStatus>,
    /// Stages that ended, in the order of the boot.
    pub stages: Vec<StageReport>,
    /// Where k3s keeps its data, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<StateStatus>,
    /// k3s on this machine, once it is known that it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterStatus>,
    /// The registry, as it knows itself; absent where it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryStatus>,
    /// What the image carries; absent where the registry serves a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<crate::image::ImageInfo>,
    /// Device firmware that drivers asked for and did not get.
    pub missing_firmware: Vec<MissingFirmware>,
    /// Bytes in use on the tmpfs that is `/`.
    pub root_bytes_used: u64,
    /// The last notices, oldest first.
    pub notices: Vec<String>,
}

/// The registry's reading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistryStatus {
    /// How often reading the medium failed.
    pub medium_errors: u64,
    /// Bytes that clients wanted and memory did not have.
    pub bytes_read: u64,
    /// Whether blobs have the digests that they are named by.
    pub integrity: IntegrityStatus,
}

/// What comparing blobs with their digests has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IntegrityStatus {
    /// How far it is.
    pub state: IntegrityState,
    /// Blobs there are, manifests among them.
    pub blobs: u64,
    /// Blobs that were compared, whole or damaged.
    pub blobs_checked: u64,
    /// Blobs that could not be read to the end.
    pub blobs_unreadable: u64,
    /// Blobs that have another digest and are not served.
    pub blobs_bad: u64,
    /// The digests of these, the first hundred.
    pub bad: Vec<Digest>,
}

/// How far comparing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IntegrityState {
    /// It begins when no client has read for a while.
    #[default]
    Waiting,
    /// Under way, or interrupted by clients.
    Scanning,
    /// All blobs that can be read were compared.
    Done,
    /// Given up: blob after blob can't be read.
    Failed,
}

/// Where k3s keeps its data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateStatus {
    /// `memory`, `disk` or `stick`.
    pub kind: String,
    /// The device, `sda1`; empty for memory.
    pub device: String,
    /// Its bound in bytes.
    pub bytes: u64,
    /// Bound in bytes of the image store, where that is a mount of its own; else 0.
    pub image_store_bytes: u64,
}

/// k3s as this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterStatus {
    /// Version of k3s, if the builder could read it.
    pub k3s: String,
    /// Whether the launcher found its data unpacked on the stick.
    pub in_place: bool,
    /// What it is doing.
    pub phase: ClusterPhase,
    /// For agents: the server they join, `https://192.168.0.2:6443`.
    pub server: String,
    /// How often k3s ended in this boot, for whatever reason.
    pub ends: u32,
}

/// What k3s is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterPhase {
    /// Files are being laid down.
    #[default]
    Preparing,
    /// An agent waits for its server to answer.
    WaitingForServer,
    /// k3s runs and has not said that it is ready.
    Starting,
    /// k3s said that it is ready; the node's own Ready is awaited.
    WaitingForNode,
    /// The node is Ready.
    Ready,
    /// The node was Ready and is not now.
    NotReady,
    /// k3s ended and is started again after a pause, or can't be started at all.
    Failed,
}

/// Who a machine is and how it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node; also its host name.
    pub name: String,
    /// `server`, `agent` or `registry`.
    pub role: String,
    /// By what the machine was recognised.
    pub matched_by: String,
    /// Addresses with prefix length, `192.168.0.2/24`.
    pub addresses: Vec<String>,
    /// Network interfaces.
    pub interfaces: Vec<Interface>,
    /// Whether other machines may read the logs, `registry: {logs: true}`.
    pub logs: bool,
    /// How other machines reach the registry, `registry: {address: HOST:PORT}`; empty: by this
    /// node's own addresses.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registry_address: String,
    /// Whether other machines reach the registry over HTTPS alone, `registry: {tls: true}`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub https: bool,
}

/// A network interface as a person needs to see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Interface {
    /// `eth0`.
    pub name: String,
    /// `52:54:00:12:34:56`.
    pub mac: String,
    /// Driver, `virtio_net`.
    pub driver: String,
    /// Whether a cable is in.
    pub carrier: bool,
}

/// A firmware file that was asked for and not found.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MissingFirmware {
    /// The driver that asked, if the kernel said.
    pub driver: String,
    /// The device that needs it, or its network interface.
    pub device: String,
    /// File name below the firmware directory.
    pub file: String,
}
