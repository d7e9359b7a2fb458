//! `registries.yaml`, which k3s and rke2 share (k3s: pkg/agent/containerd,
//! docs.k3s.io/installation/private-registry).

use std::collections::BTreeSet;

use image_layout::Host;
use image_layout::reference::DOCKER_HUB;
use image_layout::yaml::render;
use serde_yaml::{Mapping, Value};

use super::auth::{PASSWORD, USER, plain_note};
use super::{Endpoint, MirrorFile, file};

/// Every registry that is not named.
const ANY: &str = "*";

/// `mirrors:` of a `registries.yaml`. Each registry is named though `*` stands for all: some
/// releases of k3s had faults with `*` alone. Docker Hub is always among them: images without a
/// host are its, and so are k3s's own.
pub(crate) fn mirrors<'a>(endpoint: &str, hosts: impl IntoIterator<Item = &'a str>) -> Value {
    let hosts: BTreeSet<&str> = hosts.into_iter().chain([DOCKER_HUB, ANY]).collect();
    let mirrors = hosts.into_iter().map(|host| {
        let endpoints: Value = vec![Value::from(endpoint)].into();
        (host.into(), map([("endpoint", endpoints)]))
    });
    Value::Mapping(mirrors.collect())
}

/// A mapping with keys that are words.
fn map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    let pairs = pairs.into_iter().map(|(key, value)| (key.into(), value));
    Value::Mapping(pairs.collect())
}

/// Where a distribution has its files, and the services that read them.
pub(super) struct Distribution {
    /// `/etc/rancher/k3s`.
    pub(super) directory: &'static str,
    /// The service of servers.
    pub(super) server: &'static str,
    /// The service of agents.
    pub(super) agent: &'static str,
}

/// The files of a distribution.
pub(super) fn write(
    distribution: &Distribution,
    endpoint: &Endpoint,
    hosts: &[Host],
) -> (Vec<MirrorFile>, Vec<String>) {
    let Distribution {
        directory,
        server,
        agent,
    } = distribution;
    let hosts = hosts.iter().map(Host::as_str);
    let mut document = Mapping::from_iter([("mirrors".into(), mirrors(&endpoint.url(), hosts))]);
    let mut host = Mapping::new();
    if endpoint.users {
        let auth = map([("username", USER.into()), ("password", PASSWORD.into())]);
        host.insert("auth".into(), auth);
    }
    let ca = endpoint
        .ca_pem
        .as_ref()
        .map(|ca| file(format!("{directory}/haulboot-ca.crt"), ca));
    if let Some(ca) = &ca {
        let tls = map([("ca_file", ca.path.as_str().into())]);
        host.insert("tls".into(), tls);
    }
    if !host.is_empty() {
        let configs = Mapping::from_iter([(endpoint.authority.as_str().into(), host.into())]);
        document.insert("configs".into(), configs.into());
    }
    let registries = MirrorFile {
        private: endpoint.users,
        ..file(
            format!("{directory}/registries.yaml"),
            render(&document.into()),
        )
    };
    let no_fallback = map([("disable-default-registry-endpoint", true.into())]);
    let mut files = vec![
        registries,
        file(
            format!("{directory}/config.yaml.d/haulboot.yaml"),
            render(&no_fallback),
        ),
    ];
    files.extend(ca);
    let mut notes = vec![
        format!(
            "They are read at start: systemctl restart {server}, or {agent} on a machine that is \
             an agent."
        ),
        format!(
            "config.yaml.d/haulboot.yaml keeps {} from asking the registries themselves where this \
             one does not have an image. Releases before January 2024 (1.26.13, 1.27.10, 1.28.6, \
             1.29.1) do not know that key: leave the file out there.",
            server.split('-').next().unwrap_or(server)
        ),
    ];
    if endpoint.users {
        notes.push(plain_note());
    }
    (files, notes)
}
