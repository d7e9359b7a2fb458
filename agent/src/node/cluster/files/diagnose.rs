//! What k3s's last lines usually mean.

/// A meaning, in words for the person in front of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node) struct Meaning {
    /// What is wrong: one sentence.
    pub(in crate::node) what: &'static str,
    /// How to mend it: one or more sentences.
    pub(in crate::node) mend: &'static str,
}

/// One line of the table.
struct Pattern {
    /// Parts of a line of the log, in lower case; all of them must be in it.
    parts: &'static [&'static str],
    meaning: Meaning,
}

const fn pattern(
    parts: &'static [&'static str],
    what: &'static str,
    mend: &'static str,
) -> Pattern {
    Pattern {
        parts,
        meaning: Meaning { what, mend },
    }
}

const EDIT_K3S: &str = "Put the stick into any computer, open cluster.yaml on the drive HAULCFG \
                        and correct what stands under `k3s:`.";
const SAME_CREDENTIALS: &str = "Write the sticks of one cluster from one directory of \
                                credentials: `builder --credentials DIR`. A disk that kept the \
                                data of another cluster is started over by `wipe: true` under \
                                `state:`.";
const CLOCK: &str = "Set this machine's clock in its firmware, or replace the battery of its \
                     mainboard. Agents take the time of their server.";
const KERNEL: &str = "The kernel lacks a module; the notices say which. Write the stick again \
                      with another boot pack.";
const ROOM: &str = "Give the machine more memory, or a disk under `state:` in cluster.yaml on the \
                    drive HAULCFG.";
const DATABASE: &str = "If it happens again the database is damaged, for instance by a loss of \
                        power: restore a snapshot, or start over with `wipe: true` under `state:` \
                        for one boot, which loses everything in the cluster.";
const WAIT: &str = "k3s is started again by itself.";

/// From what is certain to what only often means something: the first that is found holds.
const PATTERNS: &[Pattern] = &[
    pattern(
        &["flag provided but not defined"],
        "k3s does not know one of the keys under `k3s:` in cluster.yaml.",
        EDIT_K3S,
    ),
    pattern(
        &["invalid value", "for flag"],
        "One of the keys under `k3s:` in cluster.yaml has a value that k3s does not take.",
        EDIT_K3S,
    ),
    pattern(
        &["exec format error"],
        "The k3s on this stick is for another architecture, or its file is damaged.",
        "Write the stick again with `builder --k3s FILE`, the file for this machine.",
    ),
    pattern(
        &["no default routes found"],
        "k3s found no default route and was not told which address to use.",
        "Give the node a `gateway:` under `network:` in cluster.yaml, or remove `node-ip` and \
         `flannel-iface` under `k3s:`; Haulboot sets them.",
    ),
    pattern(
        &["node password rejected"],
        "The cluster knows another machine by this node's name.",
        "Give the node another `name:` in cluster.yaml, or, if the other machine is gone, delete \
         it: `kubectl delete node NAME`. A stick made with other credentials has other passwords \
         too.",
    ),
    pattern(
        &["token ca hash does not match"],
        "The server has other certificates than this stick: it belongs to another cluster.",
        SAME_CREDENTIALS,
    ),
    pattern(
        &["bootstrap data already found and encrypted with different token"],
        "The data on the disk were made with another token.",
        SAME_CREDENTIALS,
    ),
    pattern(
        &["failed to validate token"],
        "The server refuses this stick's token.",
        SAME_CREDENTIALS,
    ),
    pattern(
        &["invalid token"],
        "The token under `k3s:` in cluster.yaml is not in a form that k3s takes.",
        EDIT_K3S,
    ),
    pattern(
        &["401 unauthorized"],
        "The server refuses this stick's token.",
        SAME_CREDENTIALS,
    ),
    pattern(
        &["certificate has expired or is not yet valid"],
        "A clock is wrong: a certificate is not valid at the time that this machine has.",
        CLOCK,
    ),
    pattern(
        &["server time isn't set properly"],
        "This machine's clock stands before 1980.",
        CLOCK,
    ),
    pattern(
        &["certificate signed by unknown authority"],
        "A certificate is not of this cluster: the server, or the data on the disk, belong to \
         another one.",
        SAME_CREDENTIALS,
    ),
    pattern(
        &["certificate is valid for", "not"],
        "The server's certificate is not for the address that it is called by.",
        "List that address under `tls-san:` in `k3s:` of cluster.yaml and restart the server.",
    ),
    pattern(
        &["snapshotter cannot be enabled"],
        "The file system of k3s's data can't carry an overlay.",
        "Remove `data-dir:` under `k3s:` in cluster.yaml, or use a disk that Haulboot formatted \
         itself (`wipe: true` under `state:`).",
    ),
    pattern(
        &["iptables is not available"],
        "k3s can't run its iptables.",
        KERNEL,
    ),
    pattern(
        &["revision 0 not supported"],
        "The kernel has no legacy iptables, and k3s ends without it.",
        KERNEL,
    ),
    pattern(
        &["iptables", "failed"],
        "The kernel refuses a rule that k3s needs for Services.",
        KERNEL,
    ),
    pattern(
        &["cgroup", "controller not found"],
        "The kernel lacks a cgroup controller that k3s needs.",
        "Remove `cgroup_disable=` from the kernel's command line, or write the stick again with \
         another boot pack.",
    ),
    pattern(
        &["failed to find", "cgroup (v2)"],
        "The kernel lacks a cgroup controller that k3s needs.",
        "Remove `cgroup_disable=` from the kernel's command line, or write the stick again with \
         another boot pack.",
    ),
    pattern(
        &["bind: address already in use"],
        "Another process has a port that k3s needs.",
        "If a key under `k3s:` in cluster.yaml sets a port, choose another; 5000 is the \
         registry's. Else restart the machine.",
    ),
    pattern(
        &["cannot assign requested address"],
        "An address under `k3s:` in cluster.yaml is none of this machine's.",
        EDIT_K3S,
    ),
    pattern(
        &["no space left on device"],
        "Where k3s keeps its data there is no room left.",
        ROOM,
    ),
    pattern(
        &["diskpressure"],
        "Where k3s keeps its data there is hardly any room left, and it ends pods.",
        ROOM,
    ),
    pattern(
        &["cannot allocate memory"],
        "The machine has too little memory.",
        "Give the machine more memory: 2 GiB at least, 4 GiB for comfort.",
    ),
    pattern(
        &["out of memory"],
        "The machine has too little memory.",
        "Give the machine more memory: 2 GiB at least, 4 GiB for comfort.",
    ),
    pattern(
        &["read-only file system"],
        "The disk with k3s's data can't be written any more.",
        "Its cable or the disk itself may be broken. Restart the machine; if it happens again, \
         replace the disk.",
    ),
    pattern(
        &["input/output error"],
        "The stick or the disk can't be read.",
        "Put the stick in again and restart the machine; if it happens again, write another one, \
         or replace the disk.",
    ),
    pattern(
        &["database disk image is malformed"],
        "k3s's database on the disk is damaged.",
        DATABASE,
    ),
    pattern(
        &["database is locked"],
        "k3s's database is slower than k3s expects.",
        "Use a faster disk under `state:` in cluster.yaml, or memory (`disk: none`).",
    ),
    pattern(
        &["etcd", "timed out"],
        "etcd does not answer in time: its disk is slow, or other servers can't be reached.",
        DATABASE,
    ),
    pattern(
        &["starting kubernetes: preparing server", "etcd"],
        "etcd can't start.",
        DATABASE,
    ),
    pattern(
        &["failed to start containermanager"],
        "kubelet can't start on this kernel or file system.",
        "If `data-dir:` or `kubelet-arg:` stand under `k3s:` in cluster.yaml, remove them.",
    ),
    pattern(
        &["failed to validate kubelet flags"],
        "One of the values of `kubelet-arg:` under `k3s:` in cluster.yaml is wrong.",
        EDIT_K3S,
    ),
    pattern(
        &["unknown flag"],
        "A part of k3s does not know one of the options given by a key that ends in `-arg`.",
        EDIT_K3S,
    ),
    pattern(
        &["connection refused"],
        "The server can't be reached: it is off, still starting, or its address is another one.",
        WAIT,
    ),
    pattern(
        &["no route to host"],
        "The server can't be reached: the network between the machines is interrupted.",
        "Look at cables and switches, and whether the addresses in cluster.yaml are of one \
         network.",
    ),
    pattern(
        &["i/o timeout"],
        "The server does not answer.",
        "Look whether it runs, and whether port 6443 is let through between the machines.",
    ),
    pattern(
        &["context deadline exceeded"],
        "A part of k3s did not answer in time; the machine may be too slow.",
        WAIT,
    ),
];

/// What the end of k3s's log usually means, if it is known. `tail` are its last lines; what was
/// said last counts more than what was said before only where both are as certain.
pub(in crate::node) fn diagnose(tail: &str) -> Option<Meaning> {
    let lines: Vec<String> = tail.lines().map(str::to_lowercase).collect();
    let found = |pattern: &&Pattern| {
        let has = |line: &String| pattern.parts.iter().all(|part| line.contains(part));
        lines.iter().any(has)
    };
    PATTERNS.iter().find(found).map(|pattern| pattern.meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_k3s_was_seen_to_log_are_understood() {
        for (line, part) in [
            (
                "level=fatal msg=\"Error: flag provided but not defined: -disable\"",
                "does not know one of the keys",
            ),
            (
                "level=fatal msg=\"no default routes found in \\\"/proc/net/route\\\" or \\\"/proc/net/ipv6_route\\\"\"",
                "no default route",
            ),
            (
                "level=info msg=\"Waiting to retrieve agent configuration; server is not ready: Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match server node-passwd entry, try enabling a unique node name with the --with-node-id flag\"",
                "another machine by this node's name",
            ),
            (
                "level=fatal msg=\"token CA hash does not match the Cluster CA certificate hash: aa != bb\"",
                "another cluster",
            ),
            (
                "level=error msg=\"failed to get CA certs: Get \\\"https://127.0.0.1:6444/cacerts\\\": x509: certificate has expired or is not yet valid: current time 1970-01-01T00:01:02Z is before 2026-01-01T00:00:00Z\"",
                "clock is wrong",
            ),
            (
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
                "not of this cluster",
            ),
            (
                "level=info msg=\"Waiting to retrieve agent configuration; server is not ready: \\\"overlayfs\\\" snapshotter cannot be enabled for \\\"/var/lib/rancher/k3s/agent/containerd\\\", try using \\\"fuse-overlayfs\\\" or \\\"native\\\": failed to mount overlay: no such device\"",
                "can't carry an overlay",
            ),
            (
                "kube-proxy exited: iptables is not available on this host : error creating chain: executable file not found in $PATH",
                "can't run its iptables",
            ),
            (
                "Extension icmp revision 0 not supported, missing kernel module?",
                "no legacy iptables",
            ),
            (
                "level=fatal msg=\"pids cgroup controller not found\"",
                "cgroup controller",
            ),
            (
                "level=fatal msg=\"failed to find memory cgroup (v2)\"",
                "cgroup controller",
            ),
            (
                "listen tcp 0.0.0.0:6443: bind: address already in use",
                "port that k3s needs",
            ),
            (
                "write /var/lib/rancher/k3s/x: no space left on device",
                "no room left",
            ),
            (
                "Threshold quantity for DiskPressure reached",
                "hardly any room",
            ),
            (
                "level=fatal msg=\"starting kubernetes: preparing server: start managed database: etcd cluster join failed\"",
                "etcd can't start",
            ),
            (
                "level=fatal msg=\"bootstrap data already found and encrypted with different token\"",
                "another token",
            ),
            (
                "fork/exec /usr/local/bin/k3s: exec format error",
                "another architecture",
            ),
            (
                "level=fatal msg=\"server time isn't set properly: 1970-01-01\"",
                "before 1980",
            ),
            (
                "dial tcp 192.168.0.2:6443: connect: connection refused",
                "can't be reached",
            ),
        ] {
            let meaning = diagnose(&format!("level=info msg=\"Starting k3s\"\n{line}\n"));
            let meaning = meaning.unwrap_or_else(|| panic!("not understood: {line}"));
            assert!(meaning.what.contains(part), "{line}: {meaning:?}");
        }
    }

    #[test]
    fn a_cause_goes_before_what_follows_from_it() {
        let tail = "dial tcp 127.0.0.1:6444: connect: connection refused\n\
                    level=fatal msg=\"Error: flag provided but not defined: -x\"\n\
                    context deadline exceeded\n";
        let meaning = diagnose(tail).unwrap();
        assert!(meaning.what.contains("one of the keys"), "{meaning:?}");
        assert_eq!(diagnose("level=info msg=\"Starting k3s\"\n"), None);
        assert_eq!(diagnose(""), None);
    }

    #[test]
    fn every_pattern_can_be_found_and_says_how_to_mend_it() {
        for pattern in PATTERNS {
            let line = pattern.parts.join(" ");
            assert_eq!(
                line,
                line.to_lowercase(),
                "compared with lines in lower case"
            );
            assert!(diagnose(&line).is_some());
            for text in [pattern.meaning.what, pattern.meaning.mend] {
                assert!(text.ends_with('.'), "{text}");
            }
        }
    }
}
