//! What crosses programs: the demonstration haul, fixtures, boots in QEMU, registry clients.

pub mod demo_haul;
pub mod haul_writer;
