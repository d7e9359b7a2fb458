//! Haulboot's builder: hauls, k3s, `cluster.yaml` and boot packs in, one bootable image out.

pub mod bootpack;
pub mod cli;
pub mod commands;
pub mod credentials;
pub mod device_firmware;
pub mod haul;
pub mod image;
pub mod k3s;
pub mod k3s_images;
pub mod progress;
pub mod qemu;
pub mod size;
mod staging;
