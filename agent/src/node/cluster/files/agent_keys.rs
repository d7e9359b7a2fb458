//! What `k3s agent` knows.

/// Long names of the options of `k3s agent`, hidden ones too. It prints its help and ends at any
/// other key of its configuration, while `k3s server` passes over those it does not know.
///
/// Source: k3s: pkg/cli/cmds/{agent,config,log,root}.go, and k3s's documentation, cli/agent.md,
/// of release 1.34 and later.
const AGENT: &[&str] = &[
    "airgap-extra-registry",
    "alsologtostderr",
    "bind-address",
    "config",
    "container-runtime-endpoint",
    "data-dir",
    "debug",
    "default-runtime",
    "disable-apiserver-lb",
    "disable-default-registry-endpoint",
    "disable-selinux",
    "docker",
    "enable-pprof",
    "flannel-cni-conf",
    "flannel-conf",
    "flannel-iface",
    "image-credential-provider-bin-dir",
    "image-credential-provider-config",
    "image-service-endpoint",
    "kube-proxy-arg",
    "kubelet-arg",
    "lb-server-port",
    "log",
    "no-flannel",
    "node-external-dns",
    "node-external-ip",
    "node-internal-dns",
    "node-ip",
    "node-label",
    "node-name",
    "node-taint",
    "nonroot-devices",
    "pause-image",
    "prefer-bundled-bin",
    "private-registry",
    "protect-kernel-defaults",
    "resolv-conf",
    "rootless",
    "selinux",
    "server",
    "snapshotter",
    "token",
    "token-file",
    "v",
    "vmodule",
    "vpn-auth",
    "vpn-auth-file",
    "with-node-id",
];

/// Whether `k3s agent` knows a key, by its long name.
pub(super) fn known(key: &str) -> bool {
    AGENT.binary_search(&key).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_servers_have_is_unknown_to_agents() {
        assert!(AGENT.is_sorted(), "looked up by halves");
        for key in ["node-label", "with-node-id", "airgap-extra-registry", "v"] {
            assert!(known(key), "{key}");
        }
        for key in [
            "disable",
            "tls-san",
            "cluster-cidr",
            "agent-token",
            "nodelabel",
        ] {
            assert!(!known(key), "{key}");
        }
    }
}
