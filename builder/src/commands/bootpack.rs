//! `builder bootpack`: makes the boot pack of one architecture.

use std::io::{self, Write as _};
use std::path::Path;

use crate::bootpack::{self, Built, Manifest, Request};
use crate::cli::bootpack::BootPackArgs;

/// Makes the pack and says what is in it. What a list asks for in vain goes to standard error.
pub fn run(args: &BootPackArgs) -> anyhow::Result<()> {
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| Path::new("target/boot-packs").join(format!("{}.bootpack", args.arch)));
    let built = bootpack::build(&Request {
        arch: args.arch,
        packages: &args.packages,
        agent: &args.agent,
        lists: &args.lists,
        output: &output,
    })?;
    for warning in &built.warnings {
        // nobody can be told that standard error is closed
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    println!("{}", summary(&output, &built));
    Ok(())
}

fn summary(output: &Path, built: &Built) -> String {
    let Manifest {
        kernel_release,
        initramfs_modules,
        files,
        ..
    } = &built.manifest;
    let modules = files.iter().filter(|file| file.path.contains(".ko"));
    format!(
        "{}: Linux {kernel_release}, {} modules, {} of them in the initramfs, {:.1} MiB",
        output.display(),
        modules.count(),
        initramfs_modules.len(),
        built.size as f64 / f64::from(1 << 20),
    )
}
