//! Writing images and reading them back.
//!
//! [`write()`] plans first and writes then: everything that can be wrong with the inputs is found
//! before the first byte of the image. [`inspect`] reads an image or a stick.

mod boot_files;
mod boot_menu;
mod contents;
mod error;
mod ext4;
mod fat;
mod fat_dots;
mod fleet;
mod gpt;
mod haul_tree;
mod identity;
mod inputs;
mod inspect;
mod k3s_data;
mod manifests;
mod missing_images;
mod mounts;
mod output;
mod place;
mod plan;
mod readme;
mod request;
mod space;
mod staging;
#[cfg(test)]
mod testing;
mod window;
mod write;

pub use contents::{
    ArtifactContents, ClusterContents, Contents, CredentialsContents, InspectError, NodeContents,
    PartitionContents,
};
pub use error::ImageError;
pub use fleet::FleetError;
pub use inspect::inspect;
pub use manifests::ManifestError;
pub use output::Output;
pub use plan::{Extent, Plan};
pub use request::{Request, Written};
pub use window::Window;
pub use write::write;
