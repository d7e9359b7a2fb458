//! Links by which k3s and its tools are found.

use std::path::{Path, PathBuf};

use image_layout::Arch;
use image_layout::image::{ImageInfo, K3sInfo};
use image_layout::paths::{haul, node};

use super::FilesError;
use super::write::{below, directory, link};

/// What k3s answers as when it is called by these names (k3s: cmd/k3s/main.go, runCLIs).
const TOOLS: [&str; 3] = ["kubectl", "crictl", "ctr"];

/// k3s's facts for this machine, or why it has none. `image` is what the stick says it carries.
pub(in crate::node) fn carried_k3s(image: Option<&ImageInfo>) -> Result<K3sInfo, FilesError> {
    let arches = image.map(|image| &image.arches);
    let here = Arch::current();
    let own = arches.and_then(|arches| arches.get(&here)?.k3s.clone());
    own.ok_or_else(|| FilesError::NoK3s {
        arch: here,
        others: arches
            .into_iter()
            .flatten()
            .filter(|(_, info)| info.k3s.is_some())
            .map(|(arch, _)| *arch)
            .collect(),
    })
}

/// Every link, where and to what. All paths are the node's.
fn plan(data_dir: &Path) -> Vec<(PathBuf, PathBuf)> {
    let k3s = Path::new(node::K3S);
    let file = Path::new(node::HAUL).join(haul::k3s(Arch::current()));
    let mut links = vec![(k3s.to_owned(), file)];
    for tool in TOOLS {
        links.push((k3s.with_file_name(tool), PathBuf::from("k3s")));
    }
    // k3s's iptables is a script. The link leads nowhere until k3s has unpacked itself, which it
    // does before it needs it
    let shell = data_dir.join("data/current/bin/sh");
    links.push((PathBuf::from("/bin/sh"), shell));
    links
}

/// Makes the links. `on_haul` is where HAUL is for this process.
pub(super) fn make(root: &Path, on_haul: &Path, data_dir: &Path) -> Result<(), FilesError> {
    let here = Arch::current();
    if !on_haul.join(haul::k3s(here)).is_file() {
        return Err(FilesError::NoK3s {
            arch: here,
            others: [Arch::X86_64, Arch::Arm64]
                .into_iter()
                .filter(|arch| on_haul.join(haul::k3s(*arch)).is_file())
                .collect(),
        });
    }
    for (path, target) in plan(data_dir) {
        let path = below(root, &path);
        if let Some(parent) = path.parent() {
            directory(parent, 0o755)?;
        }
        link(&target, &path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn k3s_its_tools_and_the_shell_are_where_they_are_looked_for() {
        let root = tempfile::tempdir().unwrap();
        let on_haul = root.path().join("run/haulboot/haul");
        let k3s = on_haul.join(haul::k3s(Arch::current()));
        let error = make(root.path(), &on_haul, Path::new("/data")).unwrap_err();
        assert!(matches!(error, FilesError::NoK3s { ref others, .. } if others.is_empty()));
        fs::create_dir_all(k3s.parent().unwrap()).unwrap();
        fs::write(&k3s, "").unwrap();
        for _ in 0..2 {
            make(root.path(), &on_haul, Path::new("/data")).unwrap();
        }
        let read = |path: &str| fs::read_link(root.path().join(path)).unwrap();
        let expected = format!("/run/haulboot/haul/arch/{}/k3s", Arch::current());
        assert_eq!(read("usr/local/bin/k3s"), Path::new(&expected));
        for tool in TOOLS {
            assert_eq!(read(&format!("usr/local/bin/{tool}")), Path::new("k3s"));
        }
        assert_eq!(read("bin/sh"), Path::new("/data/data/current/bin/sh"));
    }

    #[test]
    fn a_stick_that_says_nothing_of_itself_has_no_k3s() {
        let error = carried_k3s(None).unwrap_err();
        assert!(matches!(error, FilesError::NoK3s { .. }));
    }
}
