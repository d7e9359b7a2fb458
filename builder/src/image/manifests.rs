//! `manifests:` of `cluster.yaml`: files and directories beside it that k3s applies.
//!
//! They are looked at as k3s will (k3s: pkg/deploy/controller.go), so that what it would refuse on
//! the node is refused here: a file is one of `.yaml`, `.yml` and `.json`, what it holds are
//! objects with `apiVersion` and `kind`, and the part of its name before the first dot is the name
//! of what k3s remembers it by.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize as _;
use serde_yaml::Value;

/// Bytes of one file.
const FILE_BYTES: u64 = 4 << 20;
/// Bytes of all files.
const TOTAL_BYTES: u64 = 64 << 20;
/// How many files there may be.
const FILES: usize = 1000;
/// How deep directories may lie in one another.
const DEPTH: usize = 16;
/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// How the `apiVersion` of Haulboot's own files begins.
const OWN_GROUP: &str = "haulboot.dev/";

/// Why a manifest can't go onto the image.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not there.
    #[error("{} is not there; manifests: of cluster.yaml names {name:?}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// The name in the file.
        name: String,
    },
    /// It can't be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is nothing that k3s would apply.
    #[error("{} is no manifest: {why}", path.display())]
    Refused {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// It does not parse; printed as `FILE:LINE:COLUMN: what`.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// k3s would take two files for one.
    #[error("{} and {} have one name for k3s, {name:?}", first.display(), second.display())]
    SameName {
        /// A file.
        first: PathBuf,
        /// Another.
        second: PathBuf,
        /// The name.
        name: String,
    },
    /// There are too many, or too large ones.
    #[error("the manifests of cluster.yaml are more than {FILES} files or 64 MiB")]
    TooMany,
}

impl ManifestError {
    /// What a person can do about it.
    pub fn help(&self) -> &'static str {
        match self {
            ManifestError::Missing { .. } => {
                "paths under manifests: begin beside the file that --config names"
            }
            ManifestError::Read { .. } => "check that this user may read it",
            ManifestError::Refused { .. } => {
                "name .yaml, .yml and .json files, or directories with such files"
            }
            ManifestError::Broken { .. } => {
                "mend the file; kubectl apply --dry-run=client -f FILE says more"
            }
            ManifestError::SameName { .. } => {
                "rename one: k3s tells manifests apart by their name up to the first dot"
            }
            ManifestError::TooMany => "leave some out, or make a chart of them",
        }
    }
}

/// The manifests of a cluster.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// Contents by the path in `cluster.yaml`.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// What was read, files and directories.
    pub(super) sources: Vec<PathBuf>,
    /// What was passed over, one sentence each.
    pub(super) warnings: Vec<String>,
}

/// Reads the manifests that the file `config` names.
pub(super) fn collect(config: &Path, names: &[String]) -> Result<Manifests, ManifestError> {
    let mut collector = Collector {
        base: PathBuf::new(),
        known: BTreeMap::new(),
        bytes: 0,
        found: Manifests::default(),
    };
    if names.is_empty() {
        return Ok(collector.found);
    }
    let beside = match config.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    collector.base = fs::canonicalize(beside).map_err(read(beside))?;
    for name in names {
        let host = beside.join(name);
        let parts: Vec<_> = Path::new(name)
            .components()
            .filter_map(|part| match part {
                Component::Normal(part) => Some(part.to_string_lossy()),
                _ => None,
            })
            .collect();
        if parts.is_empty() {
            return Err(refused(
                &host,
                "it is the directory of cluster.yaml itself".to_owned(),
            ));
        }
        let path = parts.join("/");
        collector.take(&host, &path, name, 0)?;
        let within = format!("{path}/");
        let files = &collector.found.files;
        if !files
            .keys()
            .any(|file| *file == path || file.starts_with(&within))
        {
            collector
                .found
                .warnings
                .push(format!("{} has no manifest", host.display()));
        }
    }
    Ok(collector.found)
}

struct Collector {
    /// The directory of `cluster.yaml`, without links.
    base: PathBuf,
    /// The names that k3s will use, and whose they are.
    known: BTreeMap<String, PathBuf>,
    bytes: u64,
    found: Manifests,
}

impl Collector {
    /// Takes a file or directory; `named` is how `cluster.yaml` calls it, or the directory it is in.
    fn take(
        &mut self,
        host: &Path,
        path: &str,
        named: &str,
        depth: usize,
    ) -> Result<(), ManifestError> {
        let real = fs::canonicalize(host).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ManifestError::Missing {
                path: host.to_owned(),
                name: named.to_owned(),
            },
            _ => read(host)(source),
        })?;
        if !real.starts_with(&self.base) {
            let why = "a link leads out of the directory of cluster.yaml";
            return Err(refused(host, why.to_owned()));
        }
        // before it is opened: opening a FIFO waits for somebody who writes into it
        let metadata = fs::metadata(&real).map_err(read(host))?;
        if metadata.is_dir() {
            self.found.sources.push(real);
            return self.directory(host, path, named, depth);
        }
        if !metadata.is_file() {
            let why = "it is neither a file nor a directory";
            return Err(refused(host, why.to_owned()));
        }
        match self.name(host, path) {
            Ok(name) => self.file(host, path, name)?,
            // a README among the manifests of a directory is nobody's mistake
            Err(why) if depth > 0 && why.is_other_kind => {
                self.found
                    .warnings
                    .push(format!("{} is left out: {}", host.display(), why.text));
            }
            Err(why) => return Err(refused(host, why.text)),
        }
        self.found.sources.push(real);
        Ok(())
    }

    fn directory(
        &mut self,
        host: &Path,
        path: &str,
        named: &str,
        depth: usize,
    ) -> Result<(), ManifestError> {
        if depth == DEPTH {
            return Err(refused(host, "it lies too deep".to_owned()));
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(host).map_err(read(host))? {
            let name = entry.map_err(read(host))?.file_name();
            let Some(name) = name.to_str().map(str::to_owned) else {
                return Err(refused(&host.join(name), "its name is no UTF-8".to_owned()));
            };
            names.push(name);
            if names.len() > 10 * FILES {
                return Err(ManifestError::TooMany);
            }
        }
        names.sort();
        // k3s passes over hidden files, and editors leave such
        for name in names.iter().filter(|name| !name.starts_with('.')) {
            self.take(
                &host.join(name),
                &format!("{path}/{name}"),
                named,
                depth + 1,
            )?;
        }
        Ok(())
    }

    /// The name that k3s gives to a file.
    fn name(&self, host: &Path, path: &str) -> Result<String, Why> {
        let file = path.rsplit('/').next().unwrap_or(path);
        let (name, _) = file.split_once('.').unwrap_or((file, ""));
        let ending = host.extension().and_then(|ending| ending.to_str());
        if !matches!(ending, Some("yaml" | "yml" | "json")) {
            return Err(Why {
                text: "k3s applies .yaml, .yml and .json files".to_owned(),
                is_other_kind: true,
            });
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let good = (1..=63).contains(&name.len())
            && name.bytes().all(plain)
            && !name.starts_with('-')
            && !name.ends_with('-');
        match good {
            true => Ok(name.to_owned()),
            false => Err(Why {
                text:
                    "k3s names it by its file name up to the first dot, which must be lower-case \
                       letters, digits and dashes"
                        .to_owned(),
                is_other_kind: false,
            }),
        }
    }

    fn file(&mut self, host: &Path, path: &str, name: String) -> Result<(), ManifestError> {
        let mut contents = Vec::new();
        File::open(host)
            .and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut contents))
            .map_err(read(host))?;
        if contents.len() as u64 > FILE_BYTES {
            return Err(refused(host, "it is larger than 4 MiB".to_owned()));
        }
        // some editors begin a file with it; JSON has no such thing
        if contents.starts_with(BYTE_ORDER_MARK) {
            contents.drain(..BYTE_ORDER_MARK.len());
        }
        check(host, &contents)?;
        self.bytes += contents.len() as u64;
        let is_new = self.found.files.insert(path.to_owned(), contents).is_none();
        if self.bytes > TOTAL_BYTES || self.found.files.len() > FILES {
            return Err(ManifestError::TooMany);
        }
        match self.known.insert(name.clone(), host.to_owned()) {
            // named twice, by itself and with its directory
            Some(first) if is_new => Err(ManifestError::SameName {
                first,
                second: host.to_owned(),
                name,
            }),
            _ => Ok(()),
        }
    }
}

struct Why {
    text: String,
    /// Whether it is a file of another kind altogether.
    is_other_kind: bool,
}

fn read(path: &Path) -> impl FnOnce(io::Error) -> ManifestError {
    let path = path.to_owned();
    move |source| ManifestError::Read { path, source }
}

fn refused(path: &Path, why: String) -> ManifestError {
    ManifestError::Refused {
        path: path.to_owned(),
        why,
    }
}

/// Whether the contents are objects of Kubernetes.
fn check(path: &Path, contents: &[u8]) -> Result<(), ManifestError> {
    let text = std::str::from_utf8(contents)
        .map_err(|_| refused(path, "it is no UTF-8 text".to_owned()))?;
    let broken = |line, column, message: String| ManifestError::Broken {
        path: path.to_owned(),
        line,
        column,
        message,
    };
    let mut documents = Vec::new();
    if path.extension().is_some_and(|ending| ending == "json") {
        let document = serde_json::from_str::<Value>(text).map_err(|error| {
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            broken(error.line(), error.column(), message.to_owned())
        })?;
        documents.push(document);
    } else {
        for document in serde_yaml::Deserializer::from_str(text) {
            let document = Value::deserialize(document).map_err(|error| {
                let (line, column) = error
                    .location()
                    .map_or((1, 1), |place| (place.line(), place.column()));
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or_default();
                broken(line, column, message.to_owned())
            })?;
            documents.push(document);
        }
    }
    documents.retain(|document| *document != Value::Null);
    if documents.is_empty() {
        return Err(refused(path, "it has no content".to_owned()));
    }
    for (place, document) in documents.iter().enumerate() {
        let has = |key: &str| document.get(key).is_some_and(Value::is_string);
        if !has("apiVersion") || !has("kind") {
            let why = format!("its document {} has no apiVersion and kind", place + 1);
            return Err(refused(path, why));
        }
        let version = document.get("apiVersion").and_then(Value::as_str);
        if version.is_some_and(|version| version.starts_with(OWN_GROUP)) {
            let why = "it is Haulboot's own configuration";
            return Err(refused(path, why.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
