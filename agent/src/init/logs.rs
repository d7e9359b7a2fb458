//! Bounded logs in memory: `NAME.log`, and `NAME.log.1` once the first is full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use image_layout::limits::LOG_BYTES;
use image_layout::paths::node::LOGS;

/// One log, at most twice [`LOG_BYTES`] on the tmpfs.
#[derive(Debug)]
pub(super) struct BoundedLog {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl BoundedLog {
    /// Begins the log of `name` in [`LOGS`]; an older one of this name is emptied.
    pub(super) fn create(name: &str) -> io::Result<BoundedLog> {
        fs::create_dir_all(LOGS)?;
        BoundedLog::create_at(Path::new(LOGS).join(format!("{name}.log")), LOG_BYTES)
    }

    /// Begins the log in this file, which takes at most `limit` bytes, and its older half as many.
    pub(super) fn create_at(path: PathBuf, limit: u64) -> io::Result<BoundedLog> {
        let file = open(&path)?;
        Ok(BoundedLog {
            path,
            file,
            size: 0,
            limit,
        })
    }

    /// Appends; what can't be written is lost, as there is nobody to tell.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let length = bytes.len() as u64;
        if self.size > 0 && self.size.saturating_add(length) > self.limit {
            let mut full = self.path.clone().into_os_string();
            full.push(".1");
            let turned = fs::rename(&self.path, full).and_then(|()| open(&self.path));
            match turned {
                Ok(file) => {
                    self.file = file;
                    self.size = 0;
                }
                Err(_) => return,
            }
        }
        if self.file.write_all(bytes).is_ok() {
            self.size = self.size.saturating_add(length);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_never_takes_more_than_twice_its_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.log");
        let mut log = BoundedLog::create_at(path.clone(), 100).unwrap();
        for i in 0..100 {
            log.append(format!("line number {i:4}\n").as_bytes());
        }
        let now = fs::read_to_string(&path).unwrap();
        let before = fs::read_to_string(directory.path().join("node.log.1")).unwrap();
        assert!(now.len() <= 100 && before.len() <= 100);
        assert!(now.ends_with("line number   99\n"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
