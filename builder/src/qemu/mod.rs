//! qemu.
