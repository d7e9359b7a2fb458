//! Runs the benchmark and prints its figures.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, ValueEnum as _};
use tests::bench::{self, Part, Report, Settings};

/// Measures the registry beside docker-registry and nginx.
///
/// Exit code 0: every target met. 1: one missed, or something went wrong.
#[derive(Parser)]
#[command(name = "bench", max_term_width = 80)]
struct Arguments {
    /// Only this part; repeat for more
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// How often each figure is taken
    #[arg(long, default_value_t = 3, value_name = "NUMBER")]
    rounds: usize,
    /// Small contents and short runs, to see that it works; figures say nothing
    #[arg(long)]
    smoke: bool,
    /// Where the figures go as JSON
    #[arg(long, default_value = "target/bench.json", value_name = "FILE")]
    json: PathBuf,
    /// Where contents are made; a disk with 4 GiB to spare
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let settings = Settings {
        rounds: arguments.rounds.max(1),
        smoke: arguments.smoke,
        scratch: arguments.scratch.clone().unwrap_or_else(std::env::temp_dir),
    };
    let mut report = Report {
        smoke: arguments.smoke,
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        figures: Vec::new(),
    };
    let mut all = true;
    for part in Part::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(part) {
            // what the others measured in minutes is not lost by it
            match bench::run(*part, &settings) {
                Ok(figures) => report.figures.extend(figures),
                Err(error) => {
                    eprintln!("error: measuring {part:?}: {error:#}");
                    all = false;
                }
            }
        }
    }
    print!("{}", report.tables());
    let json = &arguments.json;
    fs::write(json, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("writing {}", json.display()))?;
    // a smoke run's figures say nothing
    Ok(all && (report.met() || report.smoke))
}
