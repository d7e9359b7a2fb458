//! Control groups: one for each child below `/sys/fs/cgroup/haulboot`. PID 1 stays in the root, as
//! k3s expects of a machine that is no container.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
const OURS: &str = "/sys/fs/cgroup/haulboot";

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

/// Kills every process in a child's group.
pub(super) fn kill(name: &str) -> io::Result<()> {
    fs::write(of(name).join("cgroup.kill"), "1")
}
