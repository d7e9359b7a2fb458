//! commands.

pub mod run;
