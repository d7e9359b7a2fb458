//! One module a command.

pub mod bootpack;
