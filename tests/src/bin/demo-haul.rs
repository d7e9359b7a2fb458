//! Writes the demonstration haul.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use image_layout::Arch;
use tests::demo_haul::{self, Program, program_argument};

/// Writes the haul of `make demo`: two images, a chart and a file.
#[derive(Parser)]
#[command(name = "demo-haul", max_term_width = 80)]
struct Arguments {
    /// The program `hello` for one architecture; repeat for more
    #[arg(long = "program", value_name = "ARCH=FILE", required = true, value_parser = program_argument)]
    programs: Vec<(Arch, PathBuf)>,
    /// Where to write the haul
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let programs = arguments
        .programs
        .iter()
        .map(|(arch, file)| {
            let executable =
                fs::read(file).with_context(|| format!("reading {}", file.display()))?;
            Ok(Program {
                arch: *arch,
                executable,
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let output = &arguments.output;
    let file = File::create(output).with_context(|| format!("creating {}", output.display()))?;
    let digests = demo_haul::write(&programs, BufWriter::new(file))?;
    println!("{}", output.display());
    for (name, digest) in [
        (demo_haul::HELLO, digests.hello),
        (demo_haul::WEB, digests.web),
        ("hauler/hello-world:0.1.0 (chart)", digests.chart),
        ("Welcome.txt (file)", digests.file),
    ] {
        println!("  {name:38} {digest}");
    }
    Ok(())
}
