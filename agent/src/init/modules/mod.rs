//! Kernel modules: which one a device wants, what that one needs, and loading them.

mod files;
mod glob;
mod index;
mod load;

pub(super) use files::ModuleFiles;
pub(super) use load::{Arguments, Failure, Loading};
