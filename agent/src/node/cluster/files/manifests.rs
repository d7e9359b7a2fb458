//! Files in k3s's directory of manifests, which it applies (k3s: pkg/deploy/controller.go).
//!
//! k3s names an Addon after the file, up to its first dot, whatever directory it lies in. So that
//! nobody's `traefik.yaml` is taken for k3s's own, and no two files for one another, files are laid
//! down flat under names of ours. One that did not change keeps its times, and k3s passes over it.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use image_layout::Digest;

use super::FilesError;
use super::write::{directory, failed, put, remove};
use crate::node::read_bounded;

/// Names of the files, and so of k3s's Addons, begin with it.
const PREFIX: &str = "haulboot-manifest-";
/// Bytes of one manifest. etcd and Kubernetes take objects of 1.5 MiB.
const FILE_BYTES: u64 = 16 << 20;
/// Manifests in all, and how deep directories may lie in one another.
const FILES: usize = 4096;
const DEPTH: usize = 16;

/// Lays down `wanted` in `to` and removes the files there that are `ours` and not wanted any more;
/// gives their names.
pub(super) fn settle(
    to: &Path,
    ours: impl Fn(&str) -> bool,
    wanted: &BTreeMap<String, Vec<u8>>,
) -> Result<Vec<String>, FilesError> {
    let mut removed = Vec::new();
    match fs::read_dir(to) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(failed("reading", to))?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if ours(&name) && !wanted.contains_key(&*name) {
                    remove(&entry.path())?;
                    if !name.ends_with(".new") {
                        removed.push(name.into_owned());
                    }
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed("reading", to)(error)),
    }
    if !wanted.is_empty() {
        directory(to, 0o700)?;
    }
    for (name, contents) in wanted {
        put(&to.join(name), contents)?;
    }
    removed.sort();
    Ok(removed)
}

/// What `manifests:` names, from the stick's directory `from`.
pub(super) fn files(from: &Path, manifests: &[String]) -> Result<Found, FilesError> {
    let mut found = Found::default();
    for path in manifests {
        // a path beside cluster.yaml, which was checked when that was read
        let path = path.trim_start_matches("./").trim_end_matches('/');
        found.walk(from, path, DEPTH)?;
    }
    Ok(found)
}

/// Manifests to apply.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Their contents, by file name.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// A line for each thing that is left out.
    pub(super) notices: Vec<String>,
}

impl Found {
    fn walk(&mut self, from: &Path, path: &str, depth: usize) -> Result<(), FilesError> {
        let at = from.join(path);
        let metadata = match fs::symlink_metadata(&at) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.notices.push(format!(
                    "{path} under `manifests:` is not on this stick; write the stick again to \
                     have it there"
                ));
                return Ok(());
            }
            Err(error) => return Err(failed("reading", &at)(error)),
        };
        if metadata.is_dir() {
            if depth == 0 {
                self.notices
                    .push(format!("{path} under `manifests:` lies too deep"));
                return Ok(());
            }
            let mut names = Vec::new();
            for entry in fs::read_dir(&at).map_err(failed("reading", &at))? {
                let entry = entry.map_err(failed("reading", &at))?;
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            for name in names {
                self.walk(from, &format!("{path}/{name}"), depth - 1)?;
            }
            return Ok(());
        }
        if !metadata.is_file() || !is_manifest(path) || skipped(&at) {
            return Ok(());
        }
        if self.files.len() >= FILES {
            self.notices.push(format!(
                "{path} under `manifests:` is one too many; {FILES} are taken"
            ));
            return Ok(());
        }
        if metadata.len() > FILE_BYTES {
            self.notices.push(format!(
                "{path} under `manifests:` has more than {} MiB and is left out",
                FILE_BYTES >> 20
            ));
            return Ok(());
        }
        let contents = read_bounded(&at, FILE_BYTES).map_err(failed("reading", &at))?;
        self.files.insert(name(path), contents);
        Ok(())
    }
}

/// What k3s takes: no dot files, and these endings.
fn is_manifest(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    !name.starts_with('.')
        && [".yaml", ".yml", ".json"]
            .iter()
            .any(|end| name.ends_with(end))
}

/// `NAME.skip` beside a file keeps k3s from applying it.
fn skipped(at: &Path) -> bool {
    let mut skip = at.as_os_str().to_owned();
    skip.push(".skip");
    Path::new(&skip).exists()
}

/// The name of the file for k3s: `web.yaml` stays readable, and whatever does not come through
/// unchanged has a part of its path's hash with it.
fn name(path: &str) -> String {
    const LONGEST: usize = 100;
    let (stem, end) = path.rsplit_once('.').unwrap_or((path, "yaml"));
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let mut safe: String = stem
        .to_ascii_lowercase()
        .chars()
        .map(|c| if plain(c) { c } else { '-' })
        .take(LONGEST)
        .collect();
    if safe != stem || end != "yaml" || safe.ends_with('-') {
        let digest = Digest::sha256_of(path.as_bytes());
        safe.push('-');
        safe.extend(digest.hex().chars().take(8));
    }
    format!("{PREFIX}{safe}.{}", end.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_no_addon_of_k3s_and_never_the_same_twice() {
        assert_eq!(name("traefik.yaml"), "haulboot-manifest-traefik.yaml");
        let names = [
            "web.yaml",
            "web.yml",
            "Web.yaml",
            "apps/web.yaml",
            "apps-web.yaml",
            "web.v2.yaml",
            "web.v3.yaml",
            "apps_web.yaml",
            "web.json",
        ]
        .map(name);
        let addons: std::collections::BTreeSet<_> = names
            .iter()
            .map(|name| name.split('.').next().unwrap())
            .collect();
        assert_eq!(addons.len(), names.len(), "{names:?}");
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(
            addons.iter().all(|addon| addon.chars().all(good)),
            "{addons:?}"
        );
        assert!(name(&"é".repeat(300)).len() < 255);
    }

    #[test]
    fn files_and_directories_are_found_and_what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("apps/deep")).unwrap();
        for (path, text) in [
            ("one.yaml", "1"),
            ("apps/deep/two.yml", "2"),
            ("apps/README.md", "no"),
            ("apps/.hidden.yaml", "no"),
            ("apps/not.yaml", "no"),
            ("apps/not.yaml.skip", ""),
        ] {
            fs::write(dir.path().join(path), text).unwrap();
        }
        let wanted = ["one.yaml", "./apps/", "gone"].map(str::to_owned);
        let Found { files, notices } = files(dir.path(), &wanted).unwrap();
        let contents: Vec<&[u8]> = files.values().map(Vec::as_slice).collect();
        assert_eq!(contents, [&b"2"[..], b"1"], "{files:?}");
        assert_eq!(notices.len(), 1);
        assert!(
            notices[0].starts_with("gone under `manifests:`"),
            "{notices:?}"
        );
    }

    #[test]
    fn what_is_not_wanted_any_more_is_removed_and_others_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("manifests");
        let ours = |name: &str| name.starts_with("our-");
        let wanted = |names: &[&str]| {
            let files = names.iter().map(|name| (name.to_string(), b"x".to_vec()));
            files.collect::<BTreeMap<_, _>>()
        };
        assert!(settle(&to, ours, &wanted(&[])).unwrap().is_empty());
        assert!(!to.exists());
        settle(&to, ours, &wanted(&["our-a.yaml", "our-b.yaml"])).unwrap();
        fs::write(to.join("coredns.yaml"), "k3s's").unwrap();
        let before = fs::metadata(to.join("our-b.yaml"))
            .unwrap()
            .modified()
            .unwrap();
        let removed = settle(&to, ours, &wanted(&["our-b.yaml"])).unwrap();
        assert_eq!(removed, ["our-a.yaml"]);
        let after = fs::metadata(to.join("our-b.yaml"))
            .unwrap()
            .modified()
            .unwrap();
        assert_eq!(before, after, "k3s applies anew what has another time");
        assert!(to.join("coredns.yaml").exists() && !to.join("our-a.yaml").exists());
    }
}
