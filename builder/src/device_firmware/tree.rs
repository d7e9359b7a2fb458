//! Firmware in a directory.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{Firmware, FirmwareError, PLACES};
use crate::bootpack::is_plain_path;

/// How deep directories go at most; linux-firmware's go to 5.
const DEPTH: usize = 16;

/// Takes the firmware of the directory `source`.
pub(super) fn read(source: &Path, firmware: &mut Firmware) -> Result<(), FirmwareError> {
    let mut roots: Vec<PathBuf> = PLACES
        .iter()
        .map(|place| source.join(place))
        .filter(|root| root.is_dir())
        .collect();
    if roots.is_empty() {
        roots.push(source.to_owned());
    }
    for root in roots {
        let root = fs::canonicalize(&root).map_err(|error| failed(&root, error))?;
        Walk {
            source,
            root: &root,
            firmware,
        }
        .directory(&root, "", DEPTH)?;
    }
    Ok(())
}

struct Walk<'a> {
    source: &'a Path,
    /// Canonical; links that lead out of it are left out and counted.
    root: &'a Path,
    firmware: &'a mut Firmware,
}

impl Walk<'_> {
    /// Takes a directory whose name below the firmware directory is `prefix`, ending with a
    /// slash if not empty. Hidden entries (`.git`) are no firmware.
    fn directory(
        &mut self,
        directory: &Path,
        prefix: &str,
        depth: usize,
    ) -> Result<(), FirmwareError> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(FirmwareError::TooDeep {
                path: directory.to_owned(),
            });
        };
        for entry in fs::read_dir(directory).map_err(|error| failed(directory, error))? {
            let entry = entry.map_err(|error| failed(directory, error))?;
            let file_name = entry.file_name().to_string_lossy().into_owned();
            if file_name.starts_with('.') {
                continue;
            }
            let name = format!("{prefix}{file_name}");
            if !is_plain_path(&name) || entry.file_name().to_str().is_none() {
                return Err(FirmwareError::Name {
                    path: self.source.to_owned(),
                    name,
                });
            }
            let path = match fs::canonicalize(entry.path()) {
                Ok(path) if path.starts_with(self.root) => path,
                Ok(_) => {
                    let first = || (entry.path(), 0);
                    self.firmware.outside.get_or_insert_with(first).1 += 1;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(&entry.path(), error)),
            };
            let metadata = fs::metadata(&path).map_err(|error| failed(&path, error))?;
            if metadata.is_dir() {
                // a link to where it lies, or further up: all of that is taken already
                if directory.starts_with(&path) {
                    continue;
                }
                self.directory(&path, &format!("{name}/"), depth)?;
            } else if metadata.is_file() {
                self.firmware.reserve(self.source, &name, metadata.len())?;
                let bytes = fs::read(&path).map_err(|error| failed(&path, error))?;
                self.firmware.files.insert(name, bytes);
            }
        }
        Ok(())
    }
}

fn failed(path: &Path, source: io::Error) -> FirmwareError {
    FirmwareError::Read {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_to_parents_are_passed_over_and_links_that_lead_out_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("firmware");
        fs::create_dir_all(root.join("brcm")).unwrap();
        fs::write(root.join("brcm/a.bin"), "a").unwrap();
        fs::write(directory.path().join("b.bin"), "b").unwrap();
        symlink(".", root.join("loop")).unwrap();
        symlink("..", root.join("brcm/up")).unwrap();
        symlink("../b.bin", root.join("b.bin")).unwrap();
        let collected = super::super::collect(&[root]).unwrap();
        assert_eq!(collected.files.keys().collect::<Vec<_>>(), ["brcm/a.bin"]);
        assert_eq!(collected.warnings.len(), 1, "{:?}", collected.warnings);
        assert!(collected.warnings[0].ends_with("/b.bin"));
    }
}
