//! The contract between Haulboot's two programs.
//!
//! `builder` writes images, `agent` boots from them. Whatever both must agree on is in this crate
//! and nowhere else: where partitions lie and how they are named, which file is where, what
//! `cluster.yaml` may say, how a haul's contents are catalogued, what the kernel command line
//! carries, and what a node reports. The crate decides nothing about I/O: it parses and renders
//! bytes that its callers read and write.

pub mod arch;
pub mod archive;
pub mod bootargs;
pub mod catalog;
pub mod cluster;
pub mod digest;
pub mod hauler;
pub mod htpasswd;
pub mod image;
pub mod limits;
pub mod oci;
pub mod partitions;
pub mod paths;
pub mod reference;
pub mod secrets;
pub mod status;
pub mod text;
pub mod yaml;

pub use arch::Arch;
pub use digest::Digest;
pub use reference::{Host, Reference, Repository, Tag};
