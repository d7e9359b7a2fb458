//! Runs the acceptance tests and gives one verdict each.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use image_layout::Arch;
use tests::acceptance::{Acceptance, TESTS, Verdict};

/// Boots a server and an agent in QEMU and runs the acceptance tests.
#[derive(Parser)]
#[command(name = "acceptance", max_term_width = 80)]
struct Arguments {
    /// Architecture of the machines
    #[arg(long, default_value_t = Arch::current())]
    arch: Arch,
    /// k3s file; without one the project's stand-in
    #[arg(long, value_name = "FILE")]
    k3s: Option<PathBuf>,
    /// Haul with k3s's own images; repeat for more
    #[arg(long = "haul", value_name = "FILE")]
    hauls: Vec<PathBuf>,
    /// The builder
    #[arg(long, default_value = "target/release/builder", value_name = "FILE")]
    builder: PathBuf,
    /// Where image and logs are left; default: target/acceptance/ARCH
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let directory = arguments
        .directory
        .unwrap_or_else(|| PathBuf::from("target/acceptance").join(arguments.arch.name()));
    let acceptance = Acceptance {
        arch: arguments.arch,
        k3s: arguments.k3s,
        hauls: arguments.hauls,
        builder: arguments.builder,
        directory,
    };
    let verdicts = match acceptance.run() {
        Ok(verdicts) => verdicts,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    println!("\n==== Verdicts, on {}", acceptance.arch);
    for (name, verdict) in TESTS.iter().zip(&verdicts) {
        println!("     {name}\n         {verdict}");
    }
    println!("     logs are in {}", acceptance.directory.display());
    match verdicts.iter().any(|v| matches!(v, Verdict::Failed(_))) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}
