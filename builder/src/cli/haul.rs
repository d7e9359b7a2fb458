//! `builder haul`.

use std::path::PathBuf;

use clap::Subcommand;

/// What to do with hauls.
#[derive(Debug, Subcommand)]
pub enum HaulCommand {
    /// Show what is in a haul and check every digest
    ///
    /// Reads the whole haul. Exit code 0 means that everything it names is there and undamaged.
    Info(Info),
    /// Unpack a haul into an OCI layout
    ///
    /// The directory can be served by `agent serve`, copied from by skopeo (`oci:DIR:NAME`), and
    /// given to the builder or to Hauler in place of the haul.
    Extract(Extract),
}

/// Arguments of `builder haul info`.
#[derive(Debug, clap::Args)]
pub struct Info {
    /// Haul: a file, one of its chunks, or a directory with an OCI layout
    #[arg(required = true, value_name = "HAUL")]
    pub hauls: Vec<PathBuf>,
    /// Print the catalog as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `builder haul extract`.
#[derive(Debug, clap::Args)]
pub struct Extract {
    /// Haul: a file, one of its chunks, or a directory with an OCI layout
    #[arg(required = true, value_name = "HAUL")]
    pub hauls: Vec<PathBuf>,
    /// Directory to make; several hauls become one
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}
