//! From an error to advice and an exit code.

use crate::image::{ImageError, InspectError};
use crate::qemu::QemuError;

/// What a person can do about an error, if whoever noticed it knows.
pub fn help(error: &anyhow::Error) -> Option<String> {
    None.or_else(|| error.downcast_ref::<ImageError>()?.help())
        .or_else(|| error.downcast_ref::<InspectError>()?.help())
        .or_else(|| error.downcast_ref::<QemuError>()?.help())
}

/// 2 for a command line that can't be meant, 1 for everything else.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<ImageError>() {
        Some(ImageError::Terminal | ImageError::Argument(_) | ImageError::NoArch) => 2,
        _ => 1,
    }
}
