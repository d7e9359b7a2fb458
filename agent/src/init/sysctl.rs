//! Kernel settings, as a table.

use std::fs;

/// Path below `/proc/sys`, value. k3s and kubelet set more by themselves; these are what they
/// expect to find, what many processes on one machine need, and what keeps a crashed machine from
/// standing still.
const SETTINGS: &[(&str, &str)] = &[
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/kptr_restrict", "1"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/pid_max", "4194304"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("vm/max_map_count", "262144"),
    ("fs/inotify/max_user_instances", "8192"),
    ("fs/inotify/max_user_watches", "524288"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_fifos", "1"),
    ("fs/protected_regular", "2"),
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/rp_filter", "2"),
    ("net/ipv4/conf/default/rp_filter", "2"),
    ("net/ipv4/neigh/default/gc_thresh1", "1024"),
    ("net/ipv4/neigh/default/gc_thresh2", "4096"),
    ("net/ipv4/neigh/default/gc_thresh3", "8192"),
    // the kernel asks us for modules
    ("kernel/modprobe", "/sbin/modprobe"),
];

/// Applies the table; returns a sentence for each line the kernel refused.
pub(super) fn apply() -> Vec<String> {
    let mut problems = Vec::new();
    for (name, value) in SETTINGS {
        if let Err(error) = fs::write(format!("/proc/sys/{name}"), value) {
            problems.push(format!(
                "setting {} to {value}: {error}",
                name.replace('/', ".")
            ));
        }
    }
    problems
}
