//! rke2: see [`rancher`].

use image_layout::Host;

use super::rancher::{self, Distribution};
use super::{Endpoint, MirrorFile};

/// Files of a machine on which rke2 is installed as its makers do it.
pub(super) fn write(endpoint: &Endpoint, hosts: &[Host]) -> (Vec<MirrorFile>, Vec<String>) {
    let rke2 = Distribution {
        directory: "/etc/rancher/rke2",
        server: "rke2-server",
        agent: "rke2-agent",
    };
    rancher::write(&rke2, endpoint, hosts)
}
