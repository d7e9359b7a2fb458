//! Waiting for a process no longer than a bound.

use std::io;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Waits until `child` ends, at most for `bound`; `None` means it still runs.
///
/// # Errors
/// When the kernel has no pidfd (before Linux 5.3) or the process was reaped already.
pub fn wait_within(child: &mut Child, bound: Duration) -> io::Result<Option<ExitStatus>> {
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    let deadline = Instant::now() + bound;
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return child.try_wait(),
            Ok(_) => return child.wait().map(Some),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_that_ends_gives_its_status_and_one_that_runs_on_gives_none() {
        let mut quick = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let status = wait_within(&mut quick, Duration::from_secs(10)).unwrap();
        assert_eq!(status.and_then(|s| s.code()), Some(7));

        let mut long = Command::new("sleep").arg("60").spawn().unwrap();
        let status = wait_within(&mut long, Duration::from_millis(50)).unwrap();
        assert!(status.is_none());
        long.kill().unwrap();
        let status = wait_within(&mut long, Duration::from_secs(10)).unwrap();
        assert!(status.is_some_and(|s| !s.success()));
    }
}
