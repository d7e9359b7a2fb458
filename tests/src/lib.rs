//! What crosses programs: virtual machines, real registry clients, fixtures, the demonstration.
//!
//! `docs/testing.md` says how the tests that use it are run and read.

pub mod acceptance;
pub mod bench;
pub mod chromium;
pub mod clients;
pub mod cluster_haul;
pub mod containerd;
pub mod demo;
pub mod demo_haul;
pub mod dockerd;
pub mod enclave;
pub mod fixtures;
pub mod frames;
pub mod haul_writer;
pub mod images;
pub mod launcher;
pub mod podman;
pub mod port;
pub mod probe;
pub mod qemu;
pub mod qemu_process;
pub mod qmp;
pub mod raw;
pub mod results;
pub mod rows;
pub mod serve;
pub mod served;
pub mod status;
pub mod steps;
pub mod switch;
