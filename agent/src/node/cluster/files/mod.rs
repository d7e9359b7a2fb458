//! Everything that is laid down before k3s starts.
//!
//! | file | lays down |
//! |---|---|
//! | `modules.rs` | kernel modules and settings |
//! | `links.rs` | `/usr/local/bin/k3s` and its tools, `/bin/sh` |
//! | `credentials.rs` | the cluster's authorities, the node's password |
//! | `config.rs` | `/etc/rancher/k3s/config.yaml`, with `user_keys.rs` and `agent_keys.rs` |
//! | `registries.rs` | `/etc/rancher/k3s/registries.yaml` |
//! | `in_place.rs` | k3s's unpacked data, from the stick |
//! | `charts.rs`, `manifests.rs` | what a server applies |
//! | `diagnose.rs` | nothing: it says what k3s's log means |
//!
//! All of it may be done again, when the node process was restarted.

mod agent_keys;
mod charts;
mod config;
mod credentials;
pub(in crate::node) mod diagnose;
mod error;
mod in_place;
mod links;
mod manifests;
mod modules;
mod registries;
mod server;
mod user_keys;
mod write;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use image_layout::cluster::{Cluster, Role};
use image_layout::image::K3sInfo;
use image_layout::paths;

pub(in crate::node) use self::error::FilesError;
pub(in crate::node) use self::links::carried_k3s;
pub(in crate::node) use self::server::server_address;
use self::user_keys::UserKeys;
use self::write::below;
use super::super::{Place, access};

/// What of `k3s:` matters outside of k3s's own files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) struct Said {
    /// The name that k3s registers this node by, if it is not the machine's.
    pub(in crate::node) node_name: Option<String>,
    /// Where k3s keeps its data; where it usually does if what is said is of no use.
    pub(in crate::node) data_dir: PathBuf,
    /// Whether nodes join by a token of the user's own, which the stick's says nothing about.
    pub(in crate::node) own_token: bool,
}

/// Reads `k3s:` of `cluster.yaml` for what matters outside of k3s's own files.
pub(in crate::node) fn said(cluster: &Cluster) -> Said {
    let user = UserKeys::new(&cluster.k3s);
    let tokens = ["token", "token-file", "agent-token", "agent-token-file"];
    Said {
        node_name: user.node_name(),
        data_dir: user
            .data_dir()
            .unwrap_or_else(|_| PathBuf::from(paths::node::K3S_DATA)),
        own_token: tokens.iter().any(|key| user.has(key)),
    }
}

/// What is known about this node when the stage begins.
#[derive(Clone, Debug)]
pub(in crate::node) struct Facts {
    /// Its name.
    pub(in crate::node) name: String,
    /// Server or agent.
    pub(in crate::node) role: Role,
    /// `cluster.yaml`.
    pub(in crate::node) cluster: Cluster,
    /// The address by which other nodes reach it.
    pub(in crate::node) address: Ipv4Addr,
    /// The interface that has it, `eth0`.
    pub(in crate::node) interface: String,
    /// For agents: the server they join, `https://192.168.0.2:6443`.
    pub(in crate::node) server: Option<String>,
    /// k3s on the stick: [`carried_k3s`].
    pub(in crate::node) k3s: K3sInfo,
    /// Registries of the haul's images, `quay.io`.
    pub(in crate::node) hosts: Vec<String>,
}

/// What was laid down.
#[derive(Debug)]
pub(in crate::node) struct LaidDown {
    /// Whether k3s's data are in place; otherwise k3s unpacks itself.
    pub(in crate::node) in_place: bool,
    /// What a person should know; one line each.
    pub(in crate::node) notices: Vec<String>,
    /// Where k3s keeps its data, a path of the node.
    pub(in crate::node) data_dir: PathBuf,
}

/// Lays down everything that k3s needs. Blocks: it reads from the stick and starts modprobe.
/// The state must be ready, so that what goes into k3s's data directory stays there.
pub(in crate::node) fn lay_down(place: &Place, facts: &Facts) -> Result<LaidDown, FilesError> {
    let root = place.root.as_path();
    let on_haul = below(root, Path::new(paths::node::HAUL));
    let user = UserKeys::new(&facts.cluster.k3s);
    let data_dir = user.data_dir()?;
    links::make(root, &on_haul, &data_dir)?;
    let tokens = credentials::lay_down(root, &on_haul, facts, &data_dir)?;
    let mut notices = modules::prepare(root, &place.proc);
    let config = config::compose(facts, &user, &data_dir, &tokens);
    config::write(root, &config)?;
    notices.extend(config.notices);
    let registry_user = access::own_user(&on_haul, &facts.cluster);
    registries::write(root, &facts.hosts, registry_user.as_ref())?;
    if data_dir != Path::new(paths::node::K3S_DATA) {
        notices.push(format!(
            "`state:` makes its place for {}; `data-dir: {}` under `k3s:` has images and data where \
             that directory lies, without bounds of their own",
            paths::node::K3S_DATA,
            data_dir.display()
        ));
    }
    if facts.role == Role::Server {
        let charts = charts::files(&facts.cluster.charts, registry_user.as_ref());
        notices.extend(applied(root, &on_haul, facts, &user, &data_dir, &charts)?);
    }
    in_place::clear(root, &data_dir);
    let hash = facts.k3s.data.as_deref();
    let in_place = match in_place::put_in_place(root, &on_haul, &data_dir, hash) {
        Ok(done) => done,
        Err(error) => {
            notices.push(format!(
                "k3s unpacks itself, which takes some 250 MB and longer: {error}"
            ));
            false
        }
    };
    Ok(LaidDown {
        in_place,
        notices,
        data_dir,
    })
}

/// Lays down what a server applies to the cluster; gives notices.
fn applied(
    root: &Path,
    on_haul: &Path,
    facts: &Facts,
    user: &UserKeys,
    data_dir: &Path,
    charts: &BTreeMap<String, Vec<u8>>,
) -> Result<Vec<String>, FilesError> {
    let to = below(root, data_dir).join("server/manifests");
    let mut notices = Vec::new();
    if !charts.is_empty() && user.on("disable-helm-controller") {
        notices.push(
            "no chart is installed: `disable-helm-controller` stands under `k3s:`".to_owned(),
        );
    }
    let of_charts = |name: &str| name.starts_with(charts::PREFIX) || name == charts::USER_FILE;
    let mut removed = manifests::settle(&to, of_charts, charts)?;
    let from = on_haul.join(paths::haul::MANIFESTS);
    let found = manifests::files(&from, &facts.cluster.manifests)?;
    notices.extend(found.notices);
    removed.extend(manifests::settle(
        &to.join("haulboot"),
        |_| true,
        &found.files,
    )?);
    if !removed.is_empty() {
        notices.push(format!(
            "not in cluster.yaml any more, and what they made stays in the cluster: {}",
            removed.join(", ")
        ));
    }
    Ok(notices)
}

#[cfg(test)]
mod tests;
