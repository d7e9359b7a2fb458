//! The registry as a program, `agent serve`, over a layout that has what real hauls rarely have
//! together; asked over plain sockets, so that every byte of request and answer is seen.
//!
//! Names of tests that begin with a rule of the protocol say where it is from in their comments.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

mod client;
mod layout;
mod server;

mod contents;
mod errors;
mod files;
mod hostile;
mod integrity;
mod lists;
mod names;
mod process;
mod referrers;
