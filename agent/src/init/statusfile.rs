//! `/run/haulboot/status.json`: the node's state, rewritten whole at every change.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use image_layout::Arch;
use image_layout::limits::STATUS_BYTES;
use image_layout::status::{StageReport, Status};

use super::text::one_line;

/// Notices kept.
const NOTICES: usize = 50;

/// A state before anything happened.
pub(super) fn new_status() -> Status {
    let kernel = rustix::system::uname();
    Status {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        arch: Some(Arch::current()),
        kernel: kernel.release().to_string_lossy().into_owned(),
        ..Status::default()
    }
}

/// Puts a stage's report in its place: stages in the order of the boot, each once.
pub(super) fn record_stage(status: &mut Status, report: StageReport) {
    status.stages.retain(|known| known.stage != report.stage);
    status.stages.push(report);
    status.stages.sort_by_key(|known| known.stage);
}

/// Keeps a notice; the oldest goes.
pub(super) fn record_notice(status: &mut Status, text: &str) {
    if status.notices.len() >= NOTICES {
        status.notices.remove(0);
    }
    status.notices.push(one_line(text, 500));
}

/// Bytes in use on the file system that is `/`.
pub(super) fn root_bytes_used() -> u64 {
    rustix::fs::statvfs("/").map_or(0, |fs| {
        fs.f_blocks
            .saturating_sub(fs.f_bfree)
            .saturating_mul(fs.f_frsize)
    })
}

/// Writes the state to `path`: a reader finds the old file or the new one, never half of one.
pub(super) fn write(path: &Path, status: &Status) -> io::Result<()> {
    let json = serde_json::to_vec(status)?;
    if json.len() as u64 > STATUS_BYTES {
        return Err(io::Error::other("the status has grown beyond its bound"));
    }
    let temporary = path.with_extension("json.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&temporary)?;
    file.write_all(&json)?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use image_layout::status::{Outcome, Stage};

    use super::*;

    fn report(stage: Stage, detail: &str) -> StageReport {
        StageReport {
            stage,
            outcome: Outcome::Done,
            detail: detail.to_owned(),
            at: 1.0,
            took: 0.5,
            problem: None,
        }
    }

    #[test]
    fn a_stage_that_ends_anew_replaces_what_it_said_before() {
        let mut status = Status::default();
        for (stage, detail) in [
            (Stage::Registry, "a"),
            (Stage::Network, "b"),
            (Stage::Network, "c"),
        ] {
            record_stage(&mut status, report(stage, detail));
        }
        let seen: Vec<_> = status
            .stages
            .iter()
            .map(|s| (s.stage, s.detail.as_str()))
            .collect();
        assert_eq!(seen, [(Stage::Network, "c"), (Stage::Registry, "a")]);
    }

    #[test]
    fn notices_are_bounded_and_the_oldest_go() {
        let mut status = Status::default();
        for i in 0..60 {
            record_notice(&mut status, &format!("notice {i}"));
        }
        assert_eq!(status.notices.len(), 50);
        assert_eq!(status.notices.first().unwrap(), "notice 10");
    }

    #[test]
    fn the_file_is_replaced_whole_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("status.json");
        let mut status = new_status();
        write(&path, &status).unwrap();
        record_notice(&mut status, "hello");
        write(&path, &status).unwrap();
        let read: Status = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, status);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
