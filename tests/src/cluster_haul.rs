//! The haul of a cluster's tests: what k3s and its stand-in pull, as programs of the project's own
//! under the real names.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use image_layout::{Arch, Reference};

use crate::haul_writer::{HaulWriter, PlatformImage};
use crate::images::hello_program;
use crate::results;

/// Its name in rows.
pub const NAME: &str = "cluster";

/// An image of the program `hello`: its name and what it runs.
pub type StandIn<'a> = (&'a str, &'a [&'a str]);

/// What every pod has: of k3s up to v1.36.2, and of later ones (k3s: pkg/cli/cmds/agent.go).
pub const PAUSES: [StandIn<'static>; 2] = [
    ("docker.io/rancher/mirrored-pause:3.6", &["/hello", "pause"]),
    (
        "docker.io/rancher/mirrored-pause:3.10.2",
        &["/hello", "pause"],
    ),
];
/// An image that a workload has.
pub const HELLO: StandIn<'static> = ("docker.io/library/hello-world:latest", &["/hello"]);

/// The archive, made once a test run.
///
/// # Errors
/// When the program isn't built or the archive can't be written.
pub fn archives() -> Result<Vec<PathBuf>> {
    static MADE: Mutex<bool> = Mutex::new(false);
    let path = results::target().join("test-images/cluster.tar.zst");
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if !*made {
        fs::create_dir_all(path.with_file_name(""))?;
        let mut haul = HaulWriter::new();
        add(&mut haul, &PAUSES)?;
        add(&mut haul, &[HELLO])?;
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        haul.write(BufWriter::new(file))?;
        *made = true;
    }
    Ok(vec![path])
}

/// Adds images of the program `hello` for both architectures.
///
/// # Errors
/// When the program isn't built.
pub fn add(haul: &mut HaulWriter, images: &[StandIn<'_>]) -> Result<()> {
    let programs = Arch::ALL
        .into_iter()
        .map(|arch| {
            let path = hello_program(arch)?;
            let program = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            Ok((arch, program))
        })
        .collect::<Result<Vec<_>>>()?;
    for (name, command) in images {
        let name: Reference = name.parse().with_context(|| format!("the name {name}"))?;
        let platforms: Vec<PlatformImage<'_>> = programs
            .iter()
            .map(|(arch, program)| PlatformImage {
                arch: *arch,
                files: vec![("hello", 0o755, program.as_slice())],
                command: command.to_vec(),
            })
            .collect();
        haul.image(&name, &platforms)?;
    }
    Ok(())
}
