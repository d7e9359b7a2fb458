//! The time that was seen last, kept on STATE: a machine without a clock that keeps running goes
//! on from there instead of from the day its image was built.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Name of the file on STATE: seconds since 1970 and a line break.
const FILE: &str = "last-seen";
/// How often it is written. Certificates are dated back by more than this.
const EVERY: Duration = Duration::from_secs(300);
/// 2100: a later time is a damaged file.
const LATEST: u64 = 4_102_444_800;

/// Sets the clock if it is behind, writes the file, and goes on writing it for as long as this
/// process runs. Gives a line if the clock was set, or if something failed.
pub(super) fn begin(state: &Path) -> Option<String> {
    static KEEPER: Once = Once::new();
    let path = state.join(FILE);
    let set = read(&path).and_then(crate::node::clock::not_before);
    let saved = save(&path).err();
    KEEPER.call_once(|| {
        let path = path.clone();
        std::thread::spawn(move || keep(&path));
    });
    set.or_else(|| saved.map(|error| format!("writing {}: {error}", path.display())))
}

/// Writes the file every few minutes. Nothing happens at these times but that they pass.
fn keep(path: &Path) {
    loop {
        std::thread::sleep(EVERY);
        // the directory of the file goes when STATE is unmounted, at the end of all
        if let Err(error) = save(path) {
            tracing::warn!("writing {}: {error}", path.display());
        }
    }
}

fn read(path: &Path) -> Option<u64> {
    let text = crate::node::read_bounded(path, 64).ok()?;
    let seconds: u64 = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
    (seconds < LATEST).then_some(seconds)
}

/// Written beside its place and moved there, so that a power cut leaves the old or the new one.
fn save(path: &Path) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or(Duration::ZERO).as_secs();
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    writeln!(file, "{now}")?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_kept_and_nonsense_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(read(&path), None);
        save(&path).unwrap();
        assert!(read(&path).unwrap() > 1_700_000_000);
        for nonsense in ["", "x", "-5", "99999999999999"] {
            fs::write(&path, nonsense).unwrap();
            assert_eq!(read(&path), None, "{nonsense}");
        }
    }
}
