//! commands.

pub mod haul;
