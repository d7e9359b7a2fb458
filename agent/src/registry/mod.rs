//! The registry: the haul by the OCI Distribution protocol, its files, the node's status.
//!
//! Read-only. At start the haul's catalog becomes an [`index`] in memory; a request's path is
//! parsed once by [`router`] into names and digests, these are looked up in the index, and only
//! digests from the index become file names. So no string of a request ever becomes a path.
//!
//! `agent serve HAUL` ([`serve`]) and the node's registry process ([`node`]) run the same server.

// what is served
mod index;
mod layout;
mod state;
// who is answered
mod access;
// from a request to an answer
mod address;
mod answers;
mod conditional;
mod errors;
mod handler;
mod query;
mod range;
mod router;
// answers, one file an endpoint
mod blobs;
mod files;
mod lists;
mod logs;
mod manifests;
mod mirrors;
mod page;
mod referrers;
mod status;
// bytes
mod buffers;
mod content;
mod integrity;
mod medium;
mod stream;
// connections
mod connections;
#[cfg(test)]
mod connections_tests;
mod limits;
mod listen;
mod machines;
mod patience;
mod refusals;
mod request_log;
mod room;
mod slots;
// tests by random input
#[cfg(any(test, feature = "fuzzing"))]
#[allow(unreachable_pub)] // it is reached with the feature
pub mod fuzzing;
// processes
mod confine;
mod logging;
mod node;
mod sandbox;
mod serve;

pub(crate) use access::{Material, TlsMaterial, UsersMaterial, make_directory};
pub(crate) use index::as_component;
pub(crate) use node::{PORT as NODE_PORT, main as node_main};
pub(crate) use serve::main as serve_main;
