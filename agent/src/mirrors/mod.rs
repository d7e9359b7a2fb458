//! Configuration of other machines: files that make a container runtime ask this registry for the
//! images of every registry, under their own names.
//!
//! [`write`] is a function of the runtime, the registry's address and the hosts of the haul; one
//! file here knows one runtime. `agent mirrors` ([`command`]) prints the files or lays them down as
//! a tree, the registry serves them at `/mirrors/RUNTIME`.

mod command;
mod endpoint;
mod runtime;
mod text;
mod tree;
// what several runtimes share
mod auth;
mod containers;
pub(crate) mod rancher;
// one file a runtime
mod containerd;
mod cri_o;
mod docker;
mod k3s;
mod podman;
mod rke2;
mod talos;

use image_layout::Host;
use serde::Serialize;

pub(crate) use command::{Mirrors, main as command_main};
pub(crate) use endpoint::{Endpoint, Scheme};
pub(crate) use runtime::Runtime;
pub(crate) use text::render as render_text;

/// What a runtime needs to have the registry as its mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Mirror {
    /// For whom it is.
    pub(crate) runtime: Runtime,
    /// The registry's address, `http://192.168.0.2:5000`.
    pub(crate) endpoint: String,
    /// Files, ready to be copied; at least one.
    pub(crate) files: Vec<MirrorFile>,
    /// What a person has to do or to know, one or more sentences each.
    pub(crate) notes: Vec<String>,
}

/// A file for another machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MirrorFile {
    /// Where it belongs: an absolute path, or a name where the runtime takes it from anywhere.
    pub(crate) path: String,
    /// Its text.
    pub(crate) contents: String,
    /// Whether a person is to put a password in, so that nobody else may read it.
    pub(crate) private: bool,
}

impl MirrorFile {
    /// Its path below a directory that stands for the other machine's `/`.
    pub(crate) fn relative(&self) -> &str {
        self.path.trim_start_matches('/')
    }

    /// Its permissions.
    pub(crate) fn mode(&self) -> u32 {
        if self.private { 0o600 } else { 0o644 }
    }
}

/// A file that everybody may read.
fn file(path: impl Into<String>, contents: impl Into<String>) -> MirrorFile {
    MirrorFile {
        path: path.into(),
        contents: contents.into(),
        private: false,
    }
}

/// The files and notes for a runtime. `hosts` are the registries of the haul's images; runtimes
/// that know a word for "every registry" do without.
pub(crate) fn write(runtime: Runtime, endpoint: &Endpoint, hosts: &[Host]) -> Mirror {
    let (files, mut notes) = match runtime {
        Runtime::Containerd => containerd::write(endpoint),
        Runtime::CriO => cri_o::write(endpoint, hosts),
        Runtime::Docker => docker::write(endpoint, hosts),
        Runtime::K3s => k3s::write(endpoint, hosts),
        Runtime::Podman => podman::write(endpoint, hosts),
        Runtime::Rke2 => rke2::write(endpoint, hosts),
        Runtime::Talos => talos::write(endpoint),
    };
    if endpoint.is_loopback() {
        notes.push(format!(
            "{} is the machine itself: for other machines ask by the address that they use.",
            endpoint.authority
        ));
    }
    if endpoint.scheme == Scheme::Https && endpoint.ca_pem.is_none() {
        notes.push(
            "No CA was given, so the machine must trust the registry's certificate already."
                .to_owned(),
        );
    }
    Mirror {
        runtime,
        endpoint: endpoint.url(),
        files,
        notes,
    }
}

#[cfg(test)]
mod tests;
