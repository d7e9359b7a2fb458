//! Reading hauls: bytes in, verified blobs and names out.
//!
//! A haul is read once, front to back, whatever it is packed in. Every blob is hashed while it is
//! written; what the haul means is decided at the end, since `index.json` may come last.
//!
//! Source of the format: Hauler (`pkg/content/oci.go`, `cmd/hauler/cli/store/save.go`) and hauls
//! made by its versions 1.1 to 2.1.

mod archive;
mod chunks;
mod compression;
mod directory;
mod docker;
mod era;
mod error;
mod extract;
mod input;
mod load;
mod members;
mod merge;
mod read_ahead;
mod store;

pub use era::Era;
pub use error::HaulError;
pub use extract::extract;
pub(crate) use image_layout::archive::{EntryKind, TarEntry, TarError, TarReader};
pub use input::files;
pub use load::{Loaded, inspect, load};
