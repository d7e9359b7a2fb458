//! What a process costs, as the kernel counts it (proc(5)).

use std::fs;

use anyhow::{Context, Result, anyhow};

/// Times of `/proc/PID/stat` are in hundredths of a second on every architecture (proc(5),
/// `sysconf(_SC_CLK_TCK)`).
const TICKS: f64 = 100.0;

/// The process and, of a server that forks, its children.
fn family(process: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{process}/task/{process}/children");
    let children = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let children = children.split_whitespace().filter_map(|id| id.parse().ok());
    Ok(std::iter::once(process).chain(children).collect())
}

/// Seconds of CPU that a server and its children took since they began.
///
/// # Errors
/// When it is gone.
pub(super) fn cpu_seconds(process: u32) -> Result<f64> {
    let mut ticks = 0;
    for process in family(process)? {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        ticks += cpu_ticks(&stat).with_context(|| format!("reading times of {process}"))?;
    }
    Ok(ticks as f64 / TICKS)
}

/// User and system time of a line of `/proc/PID/stat`.
fn cpu_ticks(stat: &str) -> Result<u64> {
    // the program's name stands in parentheses and may contain anything
    let (_, after) = stat
        .rsplit_once(')')
        .ok_or_else(|| anyhow!("no name in {stat:?}"))?;
    let mut times = after.split_whitespace().skip(11);
    let mut next = || -> Result<u64> {
        let time = times.next().ok_or_else(|| anyhow!("no time in {stat:?}"))?;
        Ok(time.parse()?)
    };
    Ok(next()? + next()?)
}

/// MiB of memory that a process holds now.
///
/// # Errors
/// When it is gone.
pub(super) fn resident(process: u32) -> Result<f64> {
    memory(process, "VmRSS:")
}

/// The most MiB of memory that a process held at any time.
///
/// # Errors
/// When it is gone.
pub(super) fn peak_resident(process: u32) -> Result<f64> {
    memory(process, "VmHWM:")
}

fn memory(process: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let kib = value(&status, name)?;
    Ok(kib as f64 / 1024.0)
}

/// Bytes that a server and its children caused to be written to disks.
///
/// # Errors
/// When it is gone, or the user may not see it.
pub(super) fn written_bytes(process: u32) -> Result<u64> {
    let mut written = 0;
    for process in family(process)? {
        let io = fs::read_to_string(format!("/proc/{process}/io"))?;
        written += value(&io, "write_bytes:")?;
    }
    Ok(written)
}

fn value(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_whitespace().next());
    let value = value.ok_or_else(|| anyhow!("no {name}"))?;
    Ok(value.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "12 (a b) c) S 1 1 1 0 -1 4194560 1 2 3 4 150 25 7 8 20 0 3 0 99";
        assert_eq!(cpu_ticks(stat).unwrap(), 175);
        assert!(cpu_ticks("12 a S").is_err());
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let me = std::process::id();
        assert!(resident(me).unwrap() > 0.1);
        assert!(peak_resident(me).unwrap() >= resident(me).unwrap() / 2.0);
        assert!(cpu_seconds(me).unwrap() >= 0.0);
        written_bytes(me).unwrap();
    }
}
