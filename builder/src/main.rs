//! Maps the command line to the library and errors to exit codes.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use builder::cli::Cli;
use builder::commands;
use clap::Parser as _;
use image_layout::text::is_harmless;

/// 0 done, 1 failed, 2 wrong usage (clap exits with it by itself).
fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("error: {}", harmless(&chain(&error))));
            if let Some(help) = commands::help(&error) {
                // lines to copy stand by themselves
                let lines: Vec<String> = help.lines().map(harmless).collect();
                say(format_args!("  help: {}", lines.join("\n        ")));
            }
            ExitCode::from(commands::exit_code(&error))
        }
    }
}

/// Writes a line to standard error; nobody can be told that it is closed.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Names of files and what archives say go to a terminal here: nothing that it would act upon.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmless(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
    }
    shown
}

/// What failed and why, in one line; a cause that its effect repeats is left out.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
