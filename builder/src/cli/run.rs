//! `builder run`: what it is told.

use std::path::PathBuf;

use clap::Args;
use image_layout::Arch;

/// Boot an image in QEMU on this machine
///
/// The console is on this terminal: Ctrl-A X ends the machine, Ctrl-A H shows more keys. The image
/// is never changed. The machine has a network without a way out, as in the field; its registry
/// answers on a local port.
#[derive(Debug, Args)]
pub struct Run {
    /// Image, or drive that one was written to
    pub image: PathBuf,
    /// Architecture to boot [default: this machine's, if the image boots it]
    #[arg(long)]
    pub arch: Option<Arch>,
    /// Memory of the machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(256..))]
    pub memory: u32,
    /// Processors of the machine
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub cpus: u16,
    /// Local port for the registry; if it is taken, a free one is used
    #[arg(long, default_value_t = 5000)]
    pub port: u16,
}
