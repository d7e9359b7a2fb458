//! Control groups: one for each child below `/sys/fs/cgroup/haulboot`, one for k3s beside it. PID 1
//! stays in the root, as k3s expects of a machine that is no container; kubelet keeps pods in
//! `/sys/fs/cgroup/kubepods`.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::text::read_bounded;

const ROOT: &str = "/sys/fs/cgroup";
const OURS: &str = "/sys/fs/cgroup/haulboot";

/// Bounds of the walk over a tree of groups: levels, groups in all, bytes of one list of processes.
const LEVELS: usize = 16;
const GROUPS: usize = 20_000;
const PROCS_BYTES: u64 = 1 << 20;

/// Hands every controller of the kernel down to the children of the root group.
pub(super) fn prepare() -> io::Result<()> {
    fs::create_dir_all(OURS)?;
    hand_down(Path::new(ROOT))?;
    hand_down(Path::new(OURS))
}

fn hand_down(group: &Path) -> io::Result<()> {
    let controllers = fs::read_to_string(group.join("cgroup.controllers"))?;
    let control = group.join("cgroup.subtree_control");
    for controller in controllers.split_ascii_whitespace() {
        // one at a time: a controller that is refused must not keep the others out
        let _ = fs::write(&control, format!("+{controller}"));
    }
    Ok(())
}

/// The group of a child.
pub(super) fn of(name: &str) -> PathBuf {
    Path::new(OURS).join(name)
}

/// The group of k3s, containerd and the shims: a leaf of its own directly below the root.
pub(super) fn k3s() -> PathBuf {
    Path::new(ROOT).join("k3s")
}

/// The group that kubelet keeps pods in.
pub(super) fn pods() -> PathBuf {
    Path::new(ROOT).join("kubepods")
}

/// Kills every process in a child's group.
pub(super) fn kill(name: &str) -> io::Result<()> {
    kill_all(&of(name))
}

/// Kills every process in a group and below it.
pub(super) fn kill_all(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.kill"), "1")
}

/// The processes in a group and below it, except those of other process namespaces. Bounded, so
/// that it may name not all of very many.
pub(super) fn processes(group: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    let mut groups = VecDeque::from([(group.to_owned(), 0)]);
    for _ in 0..GROUPS {
        let Some((group, level)) = groups.pop_front() else {
            break;
        };
        let procs = read_bounded(group.join("cgroup.procs"), PROCS_BYTES).unwrap_or_default();
        // a list cut off at its bound ends within a number
        let whole = procs.rfind('\n').and_then(|end| procs.get(..end));
        let pids = whole
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.trim().parse().ok());
        // never PID 1, and 0 is one that has no number here
        found.extend(pids.filter(|&pid: &i32| pid > 1));
        if level >= LEVELS {
            continue;
        }
        let room = GROUPS.saturating_sub(groups.len());
        let entries = fs::read_dir(&group).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        groups.extend(below.take(room).map(|entry| (entry.path(), level + 1)));
    }
    found
}

/// Tells when the last process of a group and of those below it is gone.
#[derive(Debug)]
pub(super) struct Watch {
    events: File,
}

impl Watch {
    /// `None` if there is no such group, or nothing in it.
    pub(super) fn open(group: &Path) -> Option<Watch> {
        let events = File::open(group.join("cgroup.events")).ok()?;
        let watch = Watch { events };
        watch.is_populated().then_some(watch)
    }

    /// What to poll, for `PRI`, after [`Self::is_populated`] said that there is something to wait
    /// for.
    pub(super) fn file(&self) -> &File {
        &self.events
    }

    /// Whether processes are left. A group that was removed has none.
    pub(super) fn is_populated(&self) -> bool {
        let mut buffer = [0; 256];
        let length = self.events.read_at(&mut buffer, 0).unwrap_or(0);
        let text = buffer.get(..length).unwrap_or_default();
        text.split(|&byte| byte == b'\n')
            .any(|line| line == b"populated 1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(path: PathBuf, procs: &str) {
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("cgroup.procs"), procs).unwrap();
    }

    #[test]
    fn processes_of_all_groups_below_are_found_and_pid_1_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let pods = directory.path().join("kubepods");
        group(pods.clone(), "");
        group(pods.join("besteffort"), "1\n0\n");
        group(pods.join("besteffort/pod1/a"), "100\n101\n");
        group(pods.join("pod2/b"), "200\nnonsense\n");
        let mut found = processes(&pods);
        found.sort_unstable();
        assert_eq!(found, [100, 101, 200]);
        assert!(processes(&directory.path().join("nothing")).is_empty());
    }

    #[test]
    fn the_walk_does_not_follow_a_tree_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut path = directory.path().to_owned();
        for pid in 100..150 {
            group(path.clone(), &format!("{pid}\n"));
            path.push("below");
        }
        assert_eq!(processes(directory.path()).len(), LEVELS + 1);
    }

    #[test]
    fn only_a_group_with_processes_is_watched_until_it_has_none() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Watch::open(directory.path()).is_none());
        let events = directory.path().join("cgroup.events");
        fs::write(&events, "populated 0\nfrozen 0\n").unwrap();
        assert!(Watch::open(directory.path()).is_none());
        fs::write(&events, "populated 1\nfrozen 0\n").unwrap();
        let watch = Watch::open(directory.path()).unwrap();
        assert!(watch.is_populated());
        fs::write(&events, "populated 0\nfrozen 0\n").unwrap();
        assert!(!watch.is_populated());
    }
}
