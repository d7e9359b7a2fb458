//! Docker's daemon: `daemon.json` (dockerd(8)).

use image_layout::Host;
use image_layout::reference::DOCKER_HUB;
use serde_json::json;

use super::auth::{basic_note, json, logins};
use super::{Endpoint, MirrorFile, Scheme, file};
use crate::registry::as_component;

/// The name under which Docker keeps its log-in to Docker Hub, which it shows to mirrors of it.
const HUB_LOGIN: &str = "https://index.docker.io/v1/";

/// Docker takes mirrors for Docker Hub alone and sends no `ns`: the registry reads a path without
/// host as Docker Hub's.
pub(super) fn write(endpoint: &Endpoint, hosts: &[Host]) -> (Vec<MirrorFile>, Vec<String>) {
    let authority = &endpoint.authority;
    let daemon = match endpoint.scheme {
        Scheme::Http => json!({
            "registry-mirrors": [endpoint.url()],
            "insecure-registries": [authority.as_str()],
        }),
        Scheme::Https => json!({ "registry-mirrors": [endpoint.url()] }),
    };
    let mut files = vec![file("/etc/docker/daemon.json", json(&daemon))];
    if let Some(ca) = &endpoint.ca_pem {
        files.push(file(format!("/etc/docker/certs.d/{authority}/ca.crt"), ca));
    }
    let others: Vec<_> = hosts
        .iter()
        .filter(|host| host.as_str() != DOCKER_HUB)
        .map(|host| format!("docker pull {authority}/{}/NAME", as_component(host)))
        .collect();
    let mut notes = vec![
        "Where there is a daemon.json already put these keys into it. Then: systemctl restart \
         docker."
            .to_owned(),
        match others.as_slice() {
            [] => format!(
                "Docker knows mirrors of Docker Hub alone. Images of other registries are asked \
                 for by this one's name: docker pull {authority}/HOST/NAME."
            ),
            others => format!(
                "Docker knows mirrors of Docker Hub alone. Images of other registries are asked \
                 for by this one's name: {}.",
                others.join("; ")
            ),
        },
        "Where this registry does not have an image Docker asks Docker Hub next, and what it says \
         then is about that."
            .to_owned(),
    ];
    if endpoint.users {
        let servers = [HUB_LOGIN, authority.as_str()];
        files.push(logins("/root/.docker/config.json", servers));
        notes.push(basic_note());
        notes.push(
            "Docker shows a mirror the log-in of Docker Hub, which is why it is there twice; with \
             other users than root it is ~/.docker/config.json."
                .to_owned(),
        );
    }
    (files, notes)
}
