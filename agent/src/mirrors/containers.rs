//! What podman, skopeo, buildah and CRI-O read: containers-registries.conf(5),
//! containers-certs.d(5).

use image_layout::Host;
use serde::Serialize;

use super::{Endpoint, MirrorFile, Scheme, file};
use crate::registry::as_component;

/// Files here are read in the order of their names, and the last word on a registry counts.
const CONF: &str = "/etc/containers/registries.conf.d/50-haulboot.conf";

#[derive(Serialize)]
struct RegistriesConf {
    registry: Vec<RegistryBlock>,
}

#[derive(Serialize)]
struct RegistryBlock {
    prefix: String,
    location: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    insecure: bool,
}

/// One block for each registry: there is no word for all of them. These clients send no `ns`, so
/// the registry's name stands in the location. The location is not a mirror but the registry
/// itself, so that nobody else is asked.
pub(super) fn write(endpoint: &Endpoint, hosts: &[Host]) -> (Vec<MirrorFile>, Vec<String>) {
    let (nameless, named): (Vec<_>, Vec<_>) = hosts.iter().partition(|host| host.is_ipv6());
    let block = |host: &&Host| RegistryBlock {
        prefix: host.as_str().to_owned(),
        location: format!("{}/{}", endpoint.authority, as_component(host)),
        insecure: endpoint.scheme == Scheme::Http,
    };
    // a location that can't be read would leave its registry without any
    let unnamed = endpoint.authority.is_ipv6();
    let contents = match unnamed {
        true => "# No registry can be named here by an address of IPv6.\n".to_owned(),
        false => format!(
            "# Images of these registries come from {}, and from no other.\n{}",
            endpoint.authority,
            super::text::toml(&RegistriesConf {
                registry: named.iter().map(block).collect(),
            })
        ),
    };
    let mut files = vec![file(CONF, contents)];
    if let Some(ca) = &endpoint.ca_pem {
        let path = format!("/etc/containers/certs.d/{}/ca.crt", endpoint.authority);
        files.push(file(path, ca));
    }
    let mut notes = Vec::new();
    if unnamed {
        notes.push(format!(
            "These clients know no registry by an address of IPv6, so nothing is said of {} here. Ask \
             for these files by a name of this machine, or set `registry.address` in cluster.yaml.",
            endpoint.authority
        ));
    }
    if named.is_empty() {
        notes.push("The haul has no image, so there is no registry to name.".to_owned());
    }
    if !nameless.is_empty() {
        let names: Vec<_> = nameless.iter().map(|host| host.as_str()).collect();
        notes.push(format!(
            "These clients can't ask for images of {}: an IPv6 address can't stand in a path.",
            names.join(", ")
        ));
    }
    (files, notes)
}
