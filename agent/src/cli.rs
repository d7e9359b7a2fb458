//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Boots a Haulboot node, or serves a haul on any Linux host
#[derive(Debug, Parser)]
#[command(name = "agent", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a haul as a registry
    Serve(Serve),
    /// Print the files that make a runtime use a registry as its mirror
    Mirrors(crate::mirrors::Mirrors),
    /// The node's process for identity and network; started by PID 1
    #[command(hide = true)]
    Node,
    /// The node's registry; started by PID 1
    #[command(hide = true)]
    Registry,
}

/// Serve a haul as a registry, from where it lies
///
/// Prints one line with the address when it listens. SIGTERM and Ctrl-C end it with exit code 0.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Directory with index.json and blobs/, or an uncompressed .tar of one
    pub(crate) haul: PathBuf,
    /// Address to listen on; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// Certificate for HTTPS, or a chain, PEM; other machines are then answered over HTTPS alone
    ///
    /// This machine itself may go on using HTTP. The files of this and the next options are read
    /// again when they change.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Certificate of the authority, PEM, that the page shows to clients
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Who may read: an htpasswd file with bcrypt hashes (htpasswd -nB NAME)
    #[arg(long, value_name = "FILE")]
    pub(crate) users: Option<PathBuf>,
}

/// Runs the command that was asked for. Wrong usage ends with exit code 2 (by clap).
pub(crate) fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(serve) => crate::registry::serve_main(&serve),
        Command::Mirrors(mirrors) => crate::mirrors::command_main(mirrors),
        Command::Node => crate::node::main(),
        Command::Registry => crate::registry::node_main(),
    }
}
