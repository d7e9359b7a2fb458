//! `builder bootpack`: makes the boot pack of one architecture.

use std::path::PathBuf;

use clap::Args;
use image_layout::Arch;

/// Makes a boot pack: kernel, boot loader, modules and agent of one architecture
#[derive(Args, Clone, Debug)]
pub struct BootPackArgs {
    /// Architecture it boots: x86_64 or arm64
    #[arg(long)]
    pub arch: Arch,
    /// Packages that firmware/fetch.sh fetched
    #[arg(long, value_name = "DIR")]
    pub packages: PathBuf,
    /// Agent, a static binary
    #[arg(long, value_name = "FILE")]
    pub agent: PathBuf,
    /// Lists of the modules that go along
    #[arg(long, value_name = "DIR", default_value = "firmware/modules")]
    pub lists: PathBuf,
    /// Pack to write [default: target/boot-packs/ARCH.bootpack]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
