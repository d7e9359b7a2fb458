//! What the process that talks to clients gives up before the first of them comes.
//!
//! Two walls behind every other one, for a fault that nobody knows of yet. Both need no rights, so
//! `agent serve` has them on any host as the registry of a node does:
//!
//! - [`paths`], Landlock: nothing can be opened but what is served, and that for reading; TCP is
//!   listened to on one port and never connected; no signal leaves the process.
//! - [`calls`], seccomp: of the kernel's some 350 system calls those that a server of files needs.
//!
//! An older kernel has one or none; then a sentence says so, and the registry serves as well.

mod calls;
mod paths;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

/// What the process may still reach.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach {
    /// Files, and directories with everything below, that it may open for reading from now on.
    /// What is open already stays open.
    pub(super) read: Vec<PathBuf>,
    /// The TCP port it may listen on; 0 is any port that the kernel picks.
    pub(super) port: u16,
}

/// What became of it.
#[derive(Clone, Debug)]
pub(super) struct Confined {
    landlock: &'static str,
    seccomp: &'static str,
    /// What this kernel could not do, a sentence each.
    pub(super) notices: Vec<String>,
}

impl Confined {
    /// Writes it to the log, once.
    pub(super) fn log(&self) {
        let (landlock, seccomp) = (self.landlock, self.seccomp);
        tracing::info!(landlock, seccomp, "confined");
        for notice in &self.notices {
            tracing::warn!("{notice}");
        }
    }
}

/// Confines the calling thread and every thread it starts, for good. To be called by a process
/// that has one thread.
pub(super) fn enter(reach: &Reach) -> Confined {
    let mut confined = Confined {
        landlock: "off",
        seccomp: "off",
        notices: Vec::new(),
    };
    match paths::restrict(reach) {
        Ok(how) => confined.landlock = how,
        Err(why) => confined.notices.push(format!(
            "this kernel does not confine the registry's access to files and network: {why}"
        )),
    }
    match calls::restrict() {
        Ok(()) => confined.seccomp = "on",
        Err(why) => confined.notices.push(format!(
            "this kernel does not confine the registry's system calls: {why}"
        )),
    }
    confined
}
