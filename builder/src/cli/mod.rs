//! cli.

pub mod run;
