//! The runtimes that files are written for.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A container runtime, or a distribution of Kubernetes that brings its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub(crate) enum Runtime {
    /// containerd, 1.5 and later.
    Containerd,
    /// CRI-O.
    CriO,
    /// Docker's daemon.
    Docker,
    /// k3s.
    K3s,
    /// podman, and with it skopeo and buildah.
    Podman,
    /// rke2.
    Rke2,
    /// Talos.
    Talos,
}

/// No runtime has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownRuntime;

impl Runtime {
    /// All, by name.
    pub(crate) const ALL: [Runtime; 7] = [
        Runtime::Containerd,
        Runtime::CriO,
        Runtime::Docker,
        Runtime::K3s,
        Runtime::Podman,
        Runtime::Rke2,
        Runtime::Talos,
    ];

    /// The name on the command line and in paths.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Runtime::Containerd => "containerd",
            Runtime::CriO => "cri-o",
            Runtime::Docker => "docker",
            Runtime::K3s => "k3s",
            Runtime::Podman => "podman",
            Runtime::Rke2 => "rke2",
            Runtime::Talos => "talos",
        }
    }

    /// The name as its makers write it, with those that read the same files.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Runtime::Containerd => "containerd",
            Runtime::CriO => "CRI-O",
            Runtime::Docker => "Docker",
            Runtime::K3s => "k3s",
            Runtime::Podman => "podman, skopeo, buildah",
            Runtime::Rke2 => "rke2",
            Runtime::Talos => "Talos",
        }
    }

    /// What the files do, for a list.
    pub(crate) const fn about(self) -> &'static str {
        match self {
            Runtime::Containerd => "every registry, by hosts.toml",
            Runtime::CriO => "the registries of the haul, by registries.conf.d",
            Runtime::Docker => "Docker Hub alone, by daemon.json",
            Runtime::K3s | Runtime::Rke2 => "every registry, by registries.yaml",
            Runtime::Podman => "the registries of the haul, by registries.conf.d",
            Runtime::Talos => "every registry, by a patch of the machine's configuration",
        }
    }

    /// Whether each registry has to be named.
    pub(crate) const fn needs_hosts(self) -> bool {
        matches!(self, Runtime::CriO | Runtime::Podman)
    }
}

impl FromStr for Runtime {
    type Err = UnknownRuntime;

    fn from_str(text: &str) -> Result<Runtime, UnknownRuntime> {
        Runtime::ALL
            .into_iter()
            .find(|runtime| runtime.name() == text)
            .ok_or(UnknownRuntime)
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Runtime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn a_runtime_has_one_name_everywhere() {
        for runtime in Runtime::ALL {
            assert_eq!(runtime.name().parse(), Ok(runtime));
            let on_the_command_line = runtime.to_possible_value().unwrap();
            assert_eq!(on_the_command_line.get_name(), runtime.name());
        }
        assert_eq!(Runtime::value_variants(), Runtime::ALL);
        assert_eq!("K3S".parse::<Runtime>(), Err(UnknownRuntime));
    }
}
