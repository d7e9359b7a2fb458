//! Bounds on what is read into memory, shared so that the builder refuses what a node would.

/// Bytes of an OCI layout's `index.json`. 64 MiB hold some 150,000 artifacts.
pub const INDEX_JSON_BYTES: u64 = 64 << 20;
/// Bytes of one manifest or index. containerd reads at most 4 * 1048 * 1048.
pub const MANIFEST_BYTES: u64 = 4 << 20;
/// Artifacts in one haul.
pub const ARTIFACTS: usize = 200_000;
/// Blobs in one haul.
pub const BLOBS: usize = 2_000_000;
/// Platforms that the catalog names for one image.
pub const PLATFORMS: usize = 32;
/// Warnings about one haul that are kept word for word.
pub const WARNINGS: usize = 1_000;
/// Bytes of a file's own name.
pub const TITLE_BYTES: usize = 255;
/// How deep indexes may nest in one another.
pub const INDEX_DEPTH: usize = 4;
/// Bytes of `cluster.yaml`.
pub const CLUSTER_YAML_BYTES: u64 = 1 << 20;
/// Bytes of the node's `status.json`.
pub const STATUS_BYTES: u64 = 1 << 20;
/// Bytes of `haulboot.json`.
pub const IMAGE_JSON_BYTES: u64 = 1 << 20;
/// Bytes of one log kept in [`crate::paths::node::LOGS`]; a second file of this size may lie beside it.
pub const LOG_BYTES: u64 = 1 << 20;
