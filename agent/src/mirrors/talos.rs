//! Talos: patches of a machine's configuration (talos: pkg/machinery/config/types/cri and
//! types/v1alpha1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image_layout::yaml::render;
use serde_yaml::Value;

use super::auth::{PASSWORD, USER, plain_note};
use super::{Endpoint, MirrorFile, file};

/// For Talos 1.12 and later: a document for each subject.
const DOCUMENTS: &str = "talos-1.12.yaml";
/// For earlier ones: everything in `machine.registries`.
const BEFORE: &str = "talos-before-1.12.yaml";

/// One file for each way of writing it. `*` is every registry that has no entry of its own; TLS and
/// users belong to the endpoint, since Talos refuses them for `*`.
pub(super) fn write(endpoint: &Endpoint) -> (Vec<MirrorFile>, Vec<String>) {
    let private = |file| MirrorFile {
        private: endpoint.users,
        ..file
    };
    let files = vec![
        private(file(DOCUMENTS, documents(endpoint))),
        private(file(BEFORE, before(endpoint))),
    ];
    let mut notes = vec![
        format!(
            "Talos 1.12 and later: talosctl patch machineconfig --nodes NODE --patch @{DOCUMENTS}. \
             Earlier ones take {BEFORE}; one that does not know skipFallback takes it without that line."
        ),
        "A registry with an entry of its own in the machine's configuration does not go by \"*\"."
            .to_owned(),
    ];
    if endpoint.users {
        notes.push(plain_note());
        notes.push("Restart the machine after a change of users.".to_owned());
    }
    (files, notes)
}

fn map(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let pairs = pairs.into_iter().map(|(key, value)| (key.into(), value));
    Value::Mapping(pairs.collect())
}

fn document(
    kind: &str,
    name: &str,
    rest: impl IntoIterator<Item = (&'static str, Value)>,
) -> Value {
    let head = [
        ("apiVersion", "v1alpha1".into()),
        ("kind", kind.into()),
        ("name", name.into()),
    ];
    map(head.into_iter().chain(rest))
}

fn documents(endpoint: &Endpoint) -> String {
    let authority = endpoint.authority.as_str();
    let url = map([("url", endpoint.url().into())]);
    let mut documents = vec![document(
        "RegistryMirrorConfig",
        "*",
        [
            ("endpoints", vec![url].into()),
            ("skipFallback", true.into()),
        ],
    )];
    if let Some(ca) = &endpoint.ca_pem {
        let ca = [("ca", ca.as_str().into())];
        documents.push(document("RegistryTLSConfig", authority, ca));
    }
    if endpoint.users {
        let auth = [("username", USER.into()), ("password", PASSWORD.into())];
        documents.push(document("RegistryAuthConfig", authority, auth));
    }
    let documents: Vec<_> = documents.iter().map(render).collect();
    documents.join("---\n")
}

fn before(endpoint: &Endpoint) -> String {
    let mirror = map([
        ("endpoints", vec![Value::from(endpoint.url())].into()),
        ("skipFallback", true.into()),
    ]);
    let mut registries = vec![("mirrors", map([("*", mirror)]))];
    let mut host = Vec::new();
    if let Some(ca) = &endpoint.ca_pem {
        // here the certificate is encoded once more
        host.push(("tls", map([("ca", STANDARD.encode(ca).into())])));
    }
    if endpoint.users {
        let auth = [("username", USER.into()), ("password", PASSWORD.into())];
        host.push(("auth", map(auth)));
    }
    if !host.is_empty() {
        let authority = Value::from(endpoint.authority.as_str());
        let config = serde_yaml::Mapping::from_iter([(authority, map(host))]);
        registries.push(("config", config.into()));
    }
    let machine = map([("registries", map(registries))]);
    render(&map([("machine", machine)]))
}
