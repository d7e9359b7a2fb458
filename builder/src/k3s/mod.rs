//! k3s as the builder sees it: a file to carry, and the archive in it that its launcher unpacks.

mod archive;
mod binary;
mod frame;
mod in_place;
mod pause;
mod unpack;
mod verify;

pub use binary::{K3sBinary, K3sError};
pub use in_place::{Data, InPlace, Why, WriteError};
