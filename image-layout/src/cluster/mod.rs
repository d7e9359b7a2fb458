//! `cluster.yaml`: one file for the whole fleet, the same on every stick.
//!
//! [`parse`] takes the bytes of the file and gives a [`Cluster`] in which nothing is left to
//! check, or the first error with its place in the file.

mod choose;
mod disk_size;
mod error;
mod network;
mod node;
mod read;
mod schema;
mod state;
mod template;
mod validate;

pub use choose::{Assignment, Matched, TwoNodes};
pub use disk_size::DiskSize;
pub use error::{ClusterError, Place};
pub use network::{Cidr, Network};
pub use node::{Mac, Machine, Match, MatchProperties, MatchedBy, Node, Role, Unmatched};
pub use read::parse;
pub use schema::{Chart, Cluster, Registry};
pub use state::{DevicePath, Disk, DiskMatch, State, Words};
pub use template::template;

/// The value of `apiVersion` this crate understands.
pub const API_VERSION: &str = "haulboot.dev/v1";
/// The value of `kind`.
pub const KIND: &str = "Cluster";
