//! cli.

pub mod haul;
