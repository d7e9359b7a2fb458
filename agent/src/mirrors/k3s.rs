//! k3s: see [`rancher`].

use image_layout::Host;

use super::rancher::{self, Distribution};
use super::{Endpoint, MirrorFile};

/// Files of a machine on which k3s is installed as its makers do it.
pub(super) fn write(endpoint: &Endpoint, hosts: &[Host]) -> (Vec<MirrorFile>, Vec<String>) {
    let k3s = Distribution {
        directory: "/etc/rancher/k3s",
        server: "k3s",
        agent: "k3s-agent",
    };
    rancher::write(&k3s, endpoint, hosts)
}
