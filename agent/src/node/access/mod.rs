//! What the registry needs for HTTPS and users, handed to it through
//! [`image_layout::paths::node::ACCESS`]; anew whenever the node's addresses change.
//!
//! `cluster.yaml` says what is asked of clients. What it asks for and the stick does not bring
//! closes the registry for other machines, with a sentence that says why. Where `cluster.yaml` can't
//! be read, what it asked for when the image was built still holds.

mod leaf;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use image_layout::cluster::Cluster;
use image_layout::image::{AccessInfo, ImageInfo};
use image_layout::limits;
use image_layout::paths::{haul, node, secrets};
use image_layout::secrets::registry_password;
use tokio::sync::watch;

use self::leaf::Names;
use super::identity::Identity;
use super::status::Reports;
use super::{Place, read_bounded};
use crate::registry::{Material, UsersMaterial};

/// Bytes of one secret.
const SECRET_BYTES: u64 = 256 << 10;
/// Before what could not be read or written is tried again: a stick may be away for a moment.
const AGAIN: Duration = Duration::from_secs(10);

/// What is wrong, for the person in front of the machine and the one before a client.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wrong {
    /// To the client, a sentence.
    closed: &'static str,
    /// To the node's console.
    notice: String,
}

/// Hands over what is asked for, at once, whenever `addresses` change, and again for as long as
/// something is wrong. Never returns.
pub(super) async fn run(
    place: &Place,
    identity: &Identity,
    mut addresses: watch::Receiver<BTreeSet<IpAddr>>,
    reports: &Reports,
) -> Infallible {
    let mut said = BTreeSet::new();
    let mut written = None;
    loop {
        let now = addresses.borrow_and_update().clone();
        let (material, notices) = material(place, identity, now);
        let whole = (material.tls.is_some() || !material.https_only)
            && (material.users.as_ref()).is_none_or(|users| users.node.is_some());
        for notice in notices {
            if said.insert(notice.clone()) {
                reports.notice(notice);
            }
        }
        let directory = place.access();
        if written.as_ref() != Some(&material)
            && let Err(error) = material.write(&directory)
        {
            let path = directory.display();
            let notice =
                format!("{path} can't be written, so that nobody reads the registry: {error}");
            if said.insert(notice.clone()) {
                reports.notice(notice);
            }
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        written = Some(material);
        let changed = match whole {
            true => addresses.changed().await,
            false => match tokio::time::timeout(AGAIN, addresses.changed()).await {
                Ok(changed) => changed,
                Err(_) => continue,
            },
        };
        if changed.is_err() {
            // the network manager ends with the process
            return std::future::pending().await;
        }
    }
}

/// What is asked of clients, with what it takes; and what a person should know.
fn material(
    place: &Place,
    identity: &Identity,
    addresses: BTreeSet<IpAddr>,
) -> (Material, Vec<String>) {
    let mut material = Material::default();
    let mut notices = Vec::new();
    let secrets_on_stick = place.haul.join(haul::SECRETS);
    let registry = identity.cluster.as_ref().map(|cluster| &cluster.registry);
    let asked = match &identity.cluster {
        Some(cluster) => AccessInfo::of(&cluster.registry),
        None => built_in(&place.image_json),
    };
    if asked.users {
        let lines = registry.map(|registry| registry.users.clone());
        let secret = read(&secrets_on_stick.join(secrets::CLUSTER_SECRET));
        if let Err(error) = &secret
            && error.kind() != io::ErrorKind::NotFound
        {
            notices.push(format!(
                "this node can't read its own registry: secrets/{} is not to be had on this stick \
                 ({error}); it is tried again",
                secrets::CLUSTER_SECRET
            ));
        }
        let secret = secret.ok();
        material.users = Some(UsersMaterial {
            lines: lines.unwrap_or_default(),
            node: secret.map(|secret| digest(&registry_password(&secret))),
        });
    }
    if asked.tls {
        material.https_only = true;
        let name = &identity.plan.host_name;
        let own = registry.and_then(|registry| registry.address.as_deref());
        let mut names = Names::of_node(name, own);
        names.addresses.extend(addresses);
        match certificate(&secrets_on_stick, &names) {
            Ok(made) => material.tls = Some(made),
            Err(wrong) => {
                material.closed = Some(wrong.closed.to_owned());
                notices.push(wrong.notice);
            }
        }
    }
    if identity.cluster.is_none() && !asked.is_open() {
        let why = "this registry is for some alone, and who they are is not known, since the \
                   node's configuration can't be used; its screen says more";
        material.closed.get_or_insert_with(|| why.to_owned());
        notices.push(
            "the registry answers no other machine: the image was built with `registry.tls` or \
             `registry.users`, and cluster.yaml, which says who may read, can't be used"
                .to_owned(),
        );
    }
    (material, notices)
}

fn certificate(
    secrets_on_stick: &Path,
    names: &Names,
) -> Result<crate::registry::TlsMaterial, Wrong> {
    let tls = secrets_on_stick.join(secrets::TLS);
    let read = |name: &str| {
        read(&tls.join(name)).map_err(|error| {
            let (closed, remedy) = match error.kind() {
                io::ErrorKind::NotFound => (
                    "this registry is for HTTPS alone and has no certificate: its stick was built \
                     without `registry.tls`",
                    "build it again with that cluster.yaml",
                ),
                _ => (
                    "this registry is for HTTPS alone and has no certificate: its stick can't be \
                     read; it is tried again",
                    "it is tried again; if that does not help, write the stick anew",
                ),
            };
            let notice = format!(
                "the registry answers no other machine: cluster.yaml says `registry.tls`, and \
                 secrets/tls/{name} is not to be had on this stick ({error}); {remedy}"
            );
            Wrong { closed, notice }
        })
    };
    let (ca, key) = (read(secrets::REGISTRY_CA)?, read(secrets::REGISTRY_CA_KEY)?);
    leaf::issue(&ca, &key, names).map_err(|error| Wrong {
        closed: "this registry is for HTTPS alone and has no certificate: none could be issued",
        notice: format!(
            "the registry answers no other machine: its certificate can't be issued ({error}); \
             build the stick again with the directory of credentials (--credentials)"
        ),
    })
}

/// What was asked for when the image was built; where that can't be read either, everything.
fn built_in(image_json: &Path) -> AccessInfo {
    let closed = AccessInfo {
        tls: true,
        users: true,
    };
    let bytes = read_bounded(image_json, limits::IMAGE_JSON_BYTES).unwrap_or_default();
    serde_json::from_slice::<ImageInfo>(&bytes).map_or(closed, |image| image.access)
}

fn read(path: &Path) -> io::Result<String> {
    let bytes = read_bounded(path, SECRET_BYTES)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// SHA-256 of a password, hexadecimal.
fn digest(password: &str) -> String {
    image_layout::Digest::sha256_of(password.as_bytes()).hex()
}

/// By what this node's own programs read its registry: name and password; none where everybody may,
/// or the stick has no secret of a cluster.
pub(super) fn own_user(place_haul: &Path, cluster: &Cluster) -> Option<(&'static str, String)> {
    if cluster.registry.users.is_empty() {
        return None;
    }
    let path = place_haul.join(haul::SECRETS).join(secrets::CLUSTER_SECRET);
    let secret = read(&path).ok()?;
    Some((
        image_layout::secrets::REGISTRY_USER,
        registry_password(&secret),
    ))
}

impl Place {
    /// Where the registry looks for what it asks of clients.
    fn access(&self) -> std::path::PathBuf {
        self.root.join(node::ACCESS.trim_start_matches('/'))
    }
}

#[cfg(test)]
mod tests;
