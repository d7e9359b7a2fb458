//! The directory in which an image is put together.
//!
//! It lies on the disk of the image, so that a rename puts the finished image in place, and is
//! removed whether that succeeds, fails or is interrupted.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

use super::error::ImageError;

/// What is to be removed when the program is interrupted.
static STAGED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// The thread that does so, started with the first directory; false if it could not be.
static WATCHING: LazyLock<bool> = LazyLock::new(watch);
/// The rest of the program may still be writing into a directory while it is removed.
const ATTEMPTS: u32 = 100;

/// A directory of our own, gone when this is dropped or the program is interrupted.
#[derive(Debug)]
pub(super) struct Staging(TempDir);

impl Staging {
    /// Makes `NAME.partial-XXXXXX` in `parent`.
    pub(super) fn new(parent: &Path, name: &str) -> Result<Staging, ImageError> {
        let _ = *WATCHING;
        let mut staged = STAGED.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::Builder::new()
            .prefix(&format!("{name}.partial-"))
            .tempdir_in(parent)
            .map_err(ImageError::io("making a directory in", parent))?;
        staged.push(directory.path().to_owned());
        Ok(Staging(directory))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A directory within, made.
    pub(super) fn directory(&self, name: &str) -> Result<PathBuf, ImageError> {
        let path = self.path().join(name);
        fs::create_dir_all(&path).map_err(ImageError::io("making", &path))?;
        Ok(path)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // the directory itself goes with the TempDir, right after this
        let mut staged = STAGED.lock().unwrap_or_else(PoisonError::into_inner);
        staged.retain(|path| path != self.0.path());
    }
}

fn watch() -> bool {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
        return false;
    };
    let thread = std::thread::Builder::new().name("interrupt".to_owned());
    let watcher = move || {
        if let Some(signal) = signals.forever().next() {
            // held until the end, so that nothing new is made
            let staged = STAGED.lock().unwrap_or_else(PoisonError::into_inner);
            for path in staged.iter() {
                for _ in 0..ATTEMPTS {
                    if fs::remove_dir_all(path).is_ok() || !path.exists() {
                        break;
                    }
                }
            }
            // as a shell says it of a program that a signal ended
            std::process::exit(128 + signal);
        }
    };
    thread.spawn(watcher).is_ok()
}
