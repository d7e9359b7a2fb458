//! Which container images k3s itself needs, and whether the hauls have them.
//!
//! A release of k3s lists them in `k3s-images.txt`, one a line, the same for every architecture.

mod list;
mod missing;
mod needs;

pub use list::{FILE, ListError, parse, read};
pub use missing::{Lacks, MissingImages, missing};
pub use needs::Needs;
