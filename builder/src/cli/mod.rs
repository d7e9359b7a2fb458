//! The command line.

pub mod bootpack;
