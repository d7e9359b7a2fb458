//! `builder haul`: what can be done with hauls alone.

mod extract;
mod info;
mod table;

use crate::cli::haul::HaulCommand;

/// Runs one of the commands. Errors that hauls cause are [`crate::haul::HaulError`], with a remedy
/// in its `help`.
pub fn run(command: &HaulCommand) -> anyhow::Result<()> {
    match command {
        HaulCommand::Info(arguments) => info::run(arguments),
        HaulCommand::Extract(arguments) => extract::run(arguments),
    }
}
