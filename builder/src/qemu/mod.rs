//! Booting an image in QEMU on this machine.
//!
//! [`Machine`] is a virtual machine as a value and renders QEMU's command line; `builder run` and
//! the boot tests both start theirs from it. QEMU's options follow its manual, version 7.2 and up.

mod accelerator;
mod arguments;
mod boot_files;
mod disk;
mod error;
mod firmware;
mod machine;
mod network;
mod ports;
mod process;

pub use accelerator::{Accelerator, CHECK_BOUND};
pub use boot_files::{BootFiles, architectures, with_partition};
pub use disk::{Bus, Disk};
pub use error::QemuError;
pub use firmware::Firmware;
pub use machine::{Boot, Identity, Machine, Serial};
pub use network::{Cable, Forward, Network, UserNetwork, datagrams};
pub use ports::free_port;
pub use process::wait_within;
