//! From an error to advice and an exit code.

use crate::bootpack::{BootPackError, BuildError};
use crate::credentials::CredentialsError;
use crate::device_firmware::FirmwareError;
use crate::haul::HaulError;
use crate::image::{FleetError, ImageError, InspectError};
use crate::qemu::QemuError;

/// What a person can do about an error, if whoever noticed it knows.
pub fn help(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        None.or_else(|| cause.downcast_ref::<ImageError>()?.help())
            .or_else(|| cause.downcast_ref::<InspectError>()?.help())
            .or_else(|| cause.downcast_ref::<QemuError>()?.help())
            .or_else(|| Some(cause.downcast_ref::<HaulError>()?.help()))
            .or_else(|| Some(cause.downcast_ref::<CredentialsError>()?.help()))
            .or_else(|| Some(cause.downcast_ref::<BootPackError>()?.help()))
            .or_else(|| Some(cause.downcast_ref::<BuildError>()?.help().to_owned()))
            .or_else(|| Some(cause.downcast_ref::<FirmwareError>()?.help().to_owned()))
    })
}

/// 2 for a command line that can't be meant, 1 for everything else.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    match error.chain().any(is_usage) {
        true => 2,
        false => 1,
    }
}

fn is_usage(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(
        cause.downcast_ref(),
        Some(
            ImageError::Terminal
                | ImageError::Argument(_)
                | ImageError::NoArch
                | ImageError::Credentials(CredentialsError::NoPlace(_))
                | ImageError::Fleet(FleetError::NoK3s | FleetError::NoConfig)
        )
    ) || matches!(cause.downcast_ref(), Some(CredentialsError::Address { .. }))
}
