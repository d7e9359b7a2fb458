//! What builder and node both make from the cluster's secret.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The password by which a node proves that it is the one of its name, 64 hexadecimal digits.
///
/// k3s binds a name to the first password that comes with it, and refuses others (k3s:
/// pkg/nodepassword). Derived from the cluster's secret it survives the loss of everything a
/// diskless node ever wrote, and a spare machine can take over a name.
pub fn node_password(cluster_secret: &str, node: &str) -> String {
    derive(cluster_secret, &format!("node-password {node}"))
}

/// The user by which nodes read their registries where `registry.users` is set.
pub const REGISTRY_USER: &str = "haulboot-node";

/// The password of [`REGISTRY_USER`], 64 hexadecimal digits: every node of a cluster knows it, and
/// nobody has to hand it out.
pub fn registry_password(cluster_secret: &str) -> String {
    derive(cluster_secret, &format!("registry {REGISTRY_USER}"))
}

fn derive(secret: &str, purpose: &str) -> String {
    // a key of any length is taken; the error is for MACs with a fixed one
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.trim().as_bytes()) else {
        return String::new();
    };
    mac.update(purpose.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_same_at_every_boot_and_another_for_every_name_and_cluster() {
        let first = node_password("secret", "node-1");
        assert_eq!(first.len(), 64);
        assert_eq!(first, node_password("secret\n", "node-1"));
        assert_ne!(first, node_password("secret", "node-2"));
        assert_ne!(first, node_password("other", "node-1"));
    }

    #[test]
    fn the_registrys_password_is_the_clusters_and_no_nodes() {
        let password = registry_password("secret");
        assert_eq!(password.len(), 64);
        assert_eq!(password, registry_password("secret\n"));
        assert_ne!(password, registry_password("other"));
        assert_ne!(password, node_password("secret", REGISTRY_USER));
    }
}
