//! `sh` of the launcher-shaped archive: as much shell as the probe's own scripts need.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// Runs a script: comments, and `echo WORDS`.
pub fn run(script: &Path) -> Result<()> {
    let text =
        std::fs::read_to_string(script).with_context(|| format!("reading {}", script.display()))?;
    for line in text.lines().map(str::trim) {
        match line.split_once(' ') {
            Some(("echo", words)) => println!("{words}"),
            _ if line.is_empty() || line.starts_with('#') => {}
            _ => bail!("{line:?} is more than this shell knows"),
        }
    }
    Ok(())
}
