//! What the tests that cross programs share: virtual machines, real registry clients, fixtures.
//!
//! `docs/testing.md` says how the tests that use it are run and read.

pub mod clients;
pub mod images;
pub mod qemu;
pub mod qmp;
pub mod results;
pub mod rows;
pub mod served;
pub mod status;
pub mod steps;
