//! What k3s costs in memory where its data lie on the stick.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What a node may hold of k3s in memory when its data are in place.
const MOST_BYTES: u64 = 1 << 20;
/// Deeper than any directory of k3s's data.
const DEPTH: usize = 16;

/// Whether k3s's data at `place` are laid over the stick with little of them in memory: bytes of
/// the layer that takes changes, and of everything beside it in `data`. `None` where k3s unpacked
/// itself.
pub fn memory(place: &Path) -> Option<Result<String, String>> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let upper = upper(&mountinfo, &place.to_string_lossy())?;
    let beside = place.parent().unwrap_or(place);
    let bytes = bytes(&upper, DEPTH).saturating_add(bytes(beside, DEPTH));
    let found = format!("{bytes} bytes");
    Some(match bytes < MOST_BYTES {
        true => Ok(found),
        false => Err(found),
    })
}

/// The upper directory of the overlay that is mounted at `target` (Linux: proc(5), overlayfs.rst).
fn upper(mountinfo: &str, target: &str) -> Option<PathBuf> {
    let options = mountinfo.lines().rev().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = file_system.split(' ');
        let is_it = mount.split(' ').nth(4) == Some(target) && fields.next() == Some("overlay");
        is_it.then(|| fields.nth(1)).flatten()
    })?;
    let upper = options
        .split(',')
        .find_map(|option| option.strip_prefix("upperdir="))?;
    Some(PathBuf::from(upper))
}

/// Bytes that the files below a directory take, as far as they lie on its own file system.
fn bytes(directory: &Path, depth: usize) -> u64 {
    let Ok(device) = fs::metadata(directory).map(|metadata| metadata.dev()) else {
        return 0;
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .filter(|(_, metadata)| metadata.dev() == device)
        .map(|(path, metadata)| match metadata.is_dir() {
            true if depth > 0 => bytes(&path, depth - 1),
            true => 0,
            false => metadata.blocks().saturating_mul(512),
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_that_takes_changes_is_found_by_where_it_is_mounted() {
        let info = "1 2 0:3 / / rw - tmpfs tmpfs rw\n\
            4 1 0:5 / /d/data/h rw,nosuid - overlay overlay rw,lowerdir=/l,upperdir=/u/up,workdir=/w\n";
        assert_eq!(upper(info, "/d/data/h"), Some(PathBuf::from("/u/up")));
        assert_eq!(upper(info, "/d/data"), None);
        assert_eq!(upper(info, "/"), None);
    }

    #[test]
    fn files_are_counted_by_what_they_take() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("bin")).unwrap();
        fs::write(directory.path().join("bin/k3s"), vec![1; 100_000]).unwrap();
        let counted = bytes(directory.path(), DEPTH);
        assert!((100_000..200_000).contains(&counted), "{counted}");
        assert_eq!(bytes(Path::new("/nonexistent"), DEPTH), 0);
        assert!(memory(directory.path()).is_none());
    }
}
