//! Finding and keeping `cluster.yaml`.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use image_layout::cluster::{self, Cluster, ClusterError, Place};
use image_layout::limits;
use image_layout::paths::config::CLUSTER_YAML_NAMES;
use image_layout::status::Problem;

/// The file that counts.
#[derive(Debug)]
pub(super) struct Found {
    /// Its contents.
    pub(super) cluster: Cluster,
    /// The name it was found by.
    pub(super) name: String,
    /// Names of others that don't count.
    pub(super) passed_over: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    /// The partition is not there or can't be read.
    #[error("the drive HAULCFG can't be read: {0}")]
    NoDrive(#[source] io::Error),
    /// No file of the name.
    #[error("there is no cluster.yaml on the drive HAULCFG")]
    NoFile {
        /// Names that look like it.
        similar: Vec<String>,
    },
    /// The file can't be read.
    #[error("the configuration {name} on the drive HAULCFG can't be read: {source}")]
    Unreadable {
        /// Its name.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is wrong.
    #[error("the configuration {name} is wrong: {source}")]
    Wrong {
        /// Its name.
        name: String,
        /// Where and why.
        source: ClusterError,
    },
}

impl ConfigError {
    /// A few words for the line of the stage; the screen has the rest.
    pub(super) fn short(&self) -> String {
        match self {
            ConfigError::Wrong { name, source } => match place(source) {
                Some(place) => format!("{name} is wrong ({place})"),
                None => format!("{name} is wrong"),
            },
            ConfigError::Unreadable { name, .. } => format!("{name} can't be read"),
            ConfigError::NoFile { .. } => "no cluster.yaml".to_owned(),
            ConfigError::NoDrive(_) => "no drive HAULCFG".to_owned(),
        }
    }

    /// The screen for the person in front of the machine.
    pub(super) fn problem(&self) -> Problem {
        let mend = match self {
            ConfigError::NoDrive(_) => {
                "Write the stick again, or look at it in another computer: its first partition, \
                 HAULCFG, must hold cluster.yaml."
                    .to_owned()
            }
            ConfigError::NoFile { similar } => {
                let rename = match similar.first() {
                    Some(name) => format!("rename {name} to cluster.yaml"),
                    None => "put a cluster.yaml there; README.txt shows one".to_owned(),
                };
                format!("Put the stick into any computer, open the drive HAULCFG and {rename}.")
            }
            ConfigError::Unreadable { name, .. } => format!(
                "Put the stick into any computer, copy {name} away from the drive HAULCFG, \
                 delete it there and copy it back; or write the stick again."
            ),
            ConfigError::Wrong { name, source } => {
                let place = place(source).map_or(String::new(), |place| format!(", {place}"));
                format!(
                    "Put the stick into any computer, open {name} on the drive HAULCFG{place}, \
                     mend it, save it and boot again."
                )
            }
        };
        Problem {
            what: format!("{}.", upper_first(&self.to_string())),
            mend,
        }
    }
}

fn place(error: &ClusterError) -> Option<Place> {
    match error {
        ClusterError::Syntax { place, .. } | ClusterError::Value { place, .. } => *place,
        _ => None,
    }
}

/// Reads the configuration from `dir`, where HAULCFG is mounted at the first start of this
/// process, and keeps a copy at `copy`; where there is none in `dir`, from the copy, which an
/// earlier run made.
pub(super) fn read(dir: &Path, copy: &Path) -> Result<Found, ConfigError> {
    let found = match find(dir) {
        Ok((path, name, passed_over)) => Some((path, name, passed_over)),
        Err(_) if copy.exists() => None,
        Err(error) => return Err(error),
    };
    let from_drive = found.is_some();
    let (path, name, passed_over) =
        found.unwrap_or_else(|| (copy.to_owned(), "cluster.yaml".to_owned(), Vec::new()));
    let bytes = super::read_bounded(&path, limits::CLUSTER_YAML_BYTES).map_err(|source| {
        ConfigError::Unreadable {
            name: name.clone(),
            source,
        }
    })?;
    if from_drive && let Err(error) = keep(copy, &bytes) {
        // this run has the file; only a restart after the stick was pulled would miss it
        tracing::warn!("keeping {}: {error}", copy.display());
    }
    match cluster::parse(&bytes) {
        Ok(cluster) => Ok(Found {
            cluster,
            name,
            passed_over,
        }),
        Err(source) => Err(ConfigError::Wrong { name, source }),
    }
}

type Candidate = (PathBuf, String, Vec<String>);

/// The file by the first of the names that fits, and the others that fit too. FAT keeps but does
/// not tell upper and lower case. `._cluster.yaml` is what macOS leaves beside a file.
fn find(dir: &Path) -> Result<Candidate, ConfigError> {
    let mut fitting: Vec<(usize, PathBuf, String)> = Vec::new();
    let mut similar = Vec::new();
    for entry in fs::read_dir(dir).map_err(ConfigError::NoDrive)? {
        let entry = entry.map_err(ConfigError::NoDrive)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let lower = name.to_lowercase();
        let rank = CLUSTER_YAML_NAMES.iter().position(|known| *known == lower);
        match rank {
            Some(rank) if entry.path().is_file() => fitting.push((rank, entry.path(), name)),
            _ if lower.starts_with("cluster") => similar.push(name),
            _ => {}
        }
    }
    fitting.sort();
    similar.sort();
    let mut fitting = fitting.into_iter();
    match fitting.next() {
        Some((_, path, name)) => {
            let passed_over = fitting.map(|(_, _, name)| name).collect();
            Ok((path, name, passed_over))
        }
        None => Err(ConfigError::NoFile { similar }),
    }
}

/// Keeps a copy for this boot that only root reads: the file may hold a token.
fn keep(copy: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = copy.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&new)?.write_all(bytes)?;
    fs::rename(&new, copy)
}

fn upper_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\n";

    struct Drive {
        dir: tempfile::TempDir,
    }

    impl Drive {
        fn with(files: &[(&str, &str)]) -> Drive {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("drive")).unwrap();
            for (name, contents) in files {
                fs::write(dir.path().join("drive").join(name), contents).unwrap();
            }
            Drive { dir }
        }

        fn read(&self) -> Result<Found, ConfigError> {
            read(
                &self.dir.path().join("drive"),
                &self.dir.path().join("copy.yaml"),
            )
        }
    }

    #[test]
    fn the_file_is_found_under_the_names_that_editors_give_it() {
        for name in [
            "cluster.yaml",
            "CLUSTER.YAML",
            "Cluster.yaml.txt",
            "cluster.yml",
        ] {
            let drive = Drive::with(&[(name, GOOD), ("._cluster.yaml", "\0\0")]);
            let found = drive.read().unwrap();
            assert_eq!((found.name.as_str(), found.passed_over.len()), (name, 0));
        }
    }

    #[test]
    fn of_two_files_the_proper_name_counts_and_the_other_is_named() {
        let other = GOOD.replace("edge", "other");
        let drive = Drive::with(&[("cluster.yaml.txt", &other), ("cluster.yaml", GOOD)]);
        let found = drive.read().unwrap();
        assert_eq!(found.cluster.name, "edge");
        assert_eq!(found.passed_over, ["cluster.yaml.txt"]);
    }

    #[test]
    fn after_a_restart_the_copy_serves() {
        let drive = Drive::with(&[("cluster.yaml", GOOD)]);
        drive.read().unwrap();
        fs::remove_dir_all(drive.dir.path().join("drive")).unwrap();
        assert_eq!(drive.read().unwrap().cluster.name, "edge");
    }

    #[test]
    fn a_broken_file_is_told_with_line_and_column() {
        let drive = Drive::with(&[("cluster.yaml", &GOOD.replace("kind", "knid"))]);
        let problem = drive.read().unwrap_err().problem();
        assert!(
            problem
                .what
                .starts_with("The configuration cluster.yaml is wrong: line 2, column 1: "),
            "{}",
            problem.what
        );
        assert!(
            problem
                .mend
                .contains("drive HAULCFG, line 2, column 1, mend it"),
            "{}",
            problem.mend
        );
    }

    #[test]
    fn a_missing_file_is_told_with_what_looks_like_it() {
        let drive = Drive::with(&[("README.txt", ""), ("cluster.yaml.docx", "")]);
        let problem = drive.read().unwrap_err().problem();
        assert!(
            problem
                .mend
                .contains("rename cluster.yaml.docx to cluster.yaml"),
            "{}",
            problem.mend
        );
        let problem = Drive::with(&[]).read().unwrap_err().problem();
        assert!(
            problem.what.starts_with("There is no cluster.yaml"),
            "{}",
            problem.what
        );
        let nowhere = read(Path::new("/nonexistent"), Path::new("/nonexistent/copy"));
        assert!(matches!(nowhere, Err(ConfigError::NoDrive(_))));
    }
}
