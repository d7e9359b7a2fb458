//! The registry as a program, `agent serve`, over a layout that has what real hauls rarely have
//! together; asked over plain sockets, so that every byte of request and answer is seen.
//!
//! `docs/registry.md` says for each rule of the protocol which test is about it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

mod client;
mod layout;
mod server;

mod access;
mod archive;
mod contents;
mod defects;
mod errors;
mod files;
mod hostile;
mod hostile_hauls;
mod integrity;
mod lists;
mod mirrors;
mod names;
mod pages;
mod process;
mod referrers;
mod rules;
mod rules_quirks;
mod smuggling;
