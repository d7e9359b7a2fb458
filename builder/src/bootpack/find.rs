//! Finding the boot pack of an architecture.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{env, iter};

use image_layout::Arch;

use super::error::BootPackError;
use super::open::{BootPack, peek};

/// Environment variable with directories to look in, separated as in `PATH`.
pub const PACKS_VARIABLE: &str = "HAULBOOT_BOOT_PACKS";

impl BootPack {
    /// Finds and opens the pack for `arch`:
    ///
    /// - among `explicit`, files of any name, by what they say they are for;
    /// - else the first `ARCH.bootpack` in the directories of [`PACKS_VARIABLE`], beside this
    ///   program, in `boot-packs` beside it or up to three directories above, in
    ///   `target/boot-packs` of the working directory.
    ///
    /// A pack that is in its place and broken is an error, not passed over.
    pub fn find(arch: Arch, explicit: &[PathBuf]) -> Result<BootPack, BootPackError> {
        for path in explicit {
            if peek(path)?.arch == arch {
                return BootPack::open(path);
            }
        }
        let program = env::current_exe().ok();
        let places = places(
            arch,
            env::var_os(PACKS_VARIABLE).as_deref(),
            program.as_deref(),
        );
        let Some(path) = places.iter().find(|path| path.exists()) else {
            let looked = explicit.iter().cloned().chain(places).collect();
            return Err(BootPackError::NotFound { arch, looked });
        };
        let pack = BootPack::open(path)?;
        if pack.arch() != arch {
            return Err(BootPackError::WrongArch {
                path: path.clone(),
                found: pack.arch(),
                wanted: arch,
            });
        }
        Ok(pack)
    }
}

/// Where packs may lie, in order.
fn places(arch: Arch, variable: Option<&OsStr>, program: Option<&Path>) -> Vec<PathBuf> {
    let named = variable.into_iter().flat_map(env::split_paths);
    let directory = program.and_then(Path::parent);
    // `target/release/builder` and a test in `target/debug/deps/` both find `target/boot-packs`.
    let beside = directory.into_iter().flat_map(|directory| {
        let above = directory
            .ancestors()
            .take(4)
            .map(|above| above.join("boot-packs"));
        iter::once(directory.to_owned()).chain(above)
    });
    named
        .chain(beside)
        .chain([PathBuf::from("target/boot-packs")])
        .map(|directory| directory.join(format!("{arch}.bootpack")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_counts_before_what_is_beside_the_program() {
        let places = places(
            Arch::Arm64,
            Some(OsStr::new("/packs:/more")),
            Some(Path::new("/h/target/release/builder")),
        );
        let expected = [
            "/packs/arm64.bootpack",
            "/more/arm64.bootpack",
            "/h/target/release/arm64.bootpack",
            "/h/target/release/boot-packs/arm64.bootpack",
            "/h/target/boot-packs/arm64.bootpack",
            "/h/boot-packs/arm64.bootpack",
            "/boot-packs/arm64.bootpack",
            "target/boot-packs/arm64.bootpack",
        ];
        assert_eq!(places, expected.map(PathBuf::from));
    }
}
