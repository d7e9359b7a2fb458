//! k3s as the builder sees it: a file to carry.

mod binary;

pub use binary::{K3sBinary, K3sError};
