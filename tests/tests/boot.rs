//! Boots the rows of `tests/rows/`, each a test of its own name.
//!
//! Rows with `ci: true` always run, the others with `HAULBOOT_ROWS=all` or `--include-ignored`.
//! `HAULBOOT_ROWS=cluster` takes the rows of one file only, and all of them.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One machine a core keeps the bounds of every row honest.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(cores.min(2));
    let wanted = std::env::var("HAULBOOT_ROWS").unwrap_or_default();
    let files = !matches!(wanted.as_str(), "" | "ci" | "all");
    let all = wanted == "all" || files;
    let rows = match tests::rows::load(&tests::results::repository().join("tests/rows")) {
        Ok(rows) => rows,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let trials = rows
        .into_iter()
        .filter(|row| !files || row.file == wanted)
        .map(|row| {
            let ignored = !all && !row.ci;
            Trial::test(row.name.clone(), move || {
                tests::steps::run(&row).map_err(|error| Failed::from(format!("{error:#}")))
            })
            .with_ignored_flag(ignored)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
