//! One module a command; each prints what it found and leaves errors to `main`.

pub mod bootpack;
pub mod build;
mod failure;
pub mod haul;
pub mod inspect;
pub mod kubeconfig;
pub mod run;

pub use failure::{exit_code, help};

use crate::cli::{Cli, Command};

/// Does what the command line says.
///
/// # Errors
/// What went wrong, to be printed once.
pub fn run(cli: &Cli) -> anyhow::Result<()> {
    match &cli.command {
        None => build::run(&cli.build)?,
        Some(Command::Inspect(args)) => inspect::run(args)?,
        Some(Command::Haul(command)) => haul::run(command)?,
        Some(Command::Kubeconfig(args)) => kubeconfig::run(args)?,
        Some(Command::Run(args)) => run::run(args)?,
        Some(Command::Bootpack(args)) => bootpack::run(args)?,
    }
    Ok(())
}
