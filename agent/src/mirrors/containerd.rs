//! containerd: `hosts.toml` (containerd: docs/hosts.md).

use std::collections::BTreeMap;

use serde::Serialize;

use super::auth::{BASIC, basic_note};
use super::{Endpoint, MirrorFile, file};

/// What is read for every registry that has no directory of its own.
const DIRECTORY: &str = "/etc/containerd/certs.d/_default";
/// Beside `hosts.toml`, which names it relatively: the directory can be moved.
const CA: &str = "ca.crt";

/// Keys of the file's root hold for `server`, those below `host` for that host.
#[derive(Serialize)]
struct HostsToml {
    server: String,
    #[serde(flatten)]
    of_server: HostToml,
    host: BTreeMap<String, HostToml>,
}

#[derive(Clone, Serialize)]
struct HostToml {
    capabilities: [&'static str; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
}

#[derive(Clone, Serialize)]
struct Header {
    authorization: [String; 1],
}

/// One file for every registry. The registry is `server`, so that nobody else is asked, and the
/// only `host` as well, since containerd 1.x refuses a file without one. There is never a
/// `skip_verify`: next to http:// it makes containerd try TLS first (containerd:
/// core/remotes/docker/resolver.go).
pub(super) fn write(endpoint: &Endpoint) -> (Vec<MirrorFile>, Vec<String>) {
    let url = endpoint.url();
    let host = HostToml {
        capabilities: ["pull", "resolve"],
        ca: endpoint.ca_pem.as_ref().map(|_| CA),
        header: endpoint.users.then(|| Header {
            authorization: [format!("Basic {BASIC}")],
        }),
    };
    let hosts = HostsToml {
        server: url.clone(),
        of_server: host.clone(),
        host: BTreeMap::from([(url, host)]),
    };
    let contents = format!(
        "# Images of every registry come from this one, and from no other.\n{}",
        super::text::toml(&hosts)
    );
    let mut files = vec![MirrorFile {
        private: endpoint.users,
        ..file(format!("{DIRECTORY}/hosts.toml"), contents)
    }];
    if let Some(ca) = &endpoint.ca_pem {
        files.push(file(format!("{DIRECTORY}/{CA}"), ca));
    }
    let mut notes = vec![
        "containerd reads the directory at every pull; it needs no restart for it.".to_owned(),
        "In /etc/containerd/config.toml config_path has to name the directory; restart containerd \
         after a change there. containerd 2.x (version = 3): \
         [plugins.\"io.containerd.cri.v1.images\".registry] config_path = \
         \"/etc/containerd/certs.d\". containerd 1.x (version = 2): \
         [plugins.\"io.containerd.grpc.v1.cri\".registry] config_path = \
         \"/etc/containerd/certs.d\"."
            .to_owned(),
        "A directory of a registry's own beside _default, such as docker.io, hides _default for \
         that registry: remove it."
            .to_owned(),
        "ctr takes the directory only if told: ctr images pull --hosts-dir \
         /etc/containerd/certs.d NAME."
            .to_owned(),
    ];
    if endpoint.users {
        notes.push(basic_note());
    }
    (files, notes)
}
