//! podman, skopeo, buildah: see [`containers`].

use image_layout::Host;

use super::auth::{basic_note, logins};
use super::{Endpoint, MirrorFile, containers};

/// Read after what `podman login` wrote (containers/image: pkg/docker/config).
const LOGINS: &str = "/root/.config/containers/auth.json";

/// Files of the whole machine; log-ins are each user's own.
pub(super) fn write(endpoint: &Endpoint, hosts: &[Host]) -> (Vec<MirrorFile>, Vec<String>) {
    let (mut files, mut notes) = containers::write(endpoint, hosts);
    notes.insert(
        0,
        "The next pull goes by these files. Images are asked for by their full names: \
         podman pull docker.io/library/nginx:1.16.0."
            .to_owned(),
    );
    if endpoint.users {
        files.push(logins(LOGINS, [endpoint.authority.as_str()]));
        notes.push(basic_note());
        notes.push(format!(
            "{LOGINS} is root's; another user has ~/.config/containers/auth.json. podman login {} \
             writes the same, until the machine restarts.",
            endpoint.authority
        ));
    }
    (files, notes)
}
