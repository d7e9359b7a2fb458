//! The small inputs of an image: read and checked before anything is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use image_layout::cluster::{self, Cluster};
use image_layout::image::{AccessInfo, ArchInfo, K3sInfo};
use image_layout::paths::haul;
use image_layout::{Arch, limits};

use super::error::ImageError;
use super::fleet::{self, FleetError};
use super::manifests::{self, Manifests};
use super::request::Request;
use crate::bootpack::BootPack;
use crate::credentials::{Credentials, For};
use crate::device_firmware;
use crate::k3s::{InPlace, K3sBinary};
use crate::progress::Progress;

/// Device firmware up to this size goes into the initramfs too, for drives' controllers that
/// need it. More than that slows every boot down.
const INITRAMFS_FIRMWARE_BYTES: u64 = 32 << 20;

/// What is small, read before anything is written.
pub(super) struct Inputs {
    pub(super) yaml: Vec<u8>,
    pub(super) cluster: Cluster,
    pub(super) k3s: BTreeMap<Arch, K3sBinary>,
    /// What lies unpacked of k3s; see [`super::k3s_data`].
    pub(super) k3s_data: BTreeMap<Arch, InPlace>,
    /// None without k3s, unless the registry asks something of its clients.
    pub(super) credentials: Option<Credentials>,
    pub(super) agents_only: bool,
    pub(super) manifests: Manifests,
    pub(super) packs: Vec<BootPack>,
    pub(super) firmware: BTreeMap<String, Vec<u8>>,
    pub(super) warnings: Vec<String>,
}

impl Inputs {
    /// Reads and checks them.
    pub(super) fn read(request: &Request, progress: &dyn Progress) -> Result<Inputs, ImageError> {
        if request.arches.is_empty() {
            return Err(ImageError::NoArch);
        }
        let word = |argument: &String| {
            argument.trim().is_empty() || argument.chars().any(char::is_control)
        };
        if let Some(argument) = request.append.iter().find(|argument| word(argument)) {
            return Err(ImageError::Argument(argument.clone()));
        }
        let arches: BTreeSet<Arch> = request.arches.iter().copied().collect();
        let mut k3s = BTreeMap::<Arch, K3sBinary>::new();
        for path in &request.k3s {
            let binary = K3sBinary::inspect(path)?;
            let arch = binary.arch;
            if !arches.contains(&arch) {
                return Err(ImageError::UnwantedK3s {
                    path: path.clone(),
                    arch,
                });
            }
            if let Some(first) = k3s.insert(arch, binary) {
                return Err(ImageError::TwoK3s {
                    arch,
                    first: first.path,
                    second: path.clone(),
                });
            }
        }
        let (yaml, cluster) = read_config(request.config.as_deref(), !k3s.is_empty())?;
        let manifests = read_fleet(request, &cluster, !k3s.is_empty())?;
        progress.begin("reading boot files", None);
        let packs = arches
            .iter()
            .map(|arch| BootPack::find(*arch, &request.boot_packs))
            .collect::<Result<Vec<_>, _>>()?;
        let firmware = device_firmware::collect(&request.firmware)?;
        progress.end("read the boot files");

        let mut inputs = Inputs {
            yaml,
            cluster,
            k3s,
            k3s_data: BTreeMap::new(),
            credentials: None,
            agents_only: request.agents_only,
            manifests,
            packs,
            firmware: firmware.files,
            warnings: firmware.warnings,
        };
        inputs.look_for_oddities(request);
        Ok(inputs)
    }

    fn look_for_oddities(&mut self, request: &Request) {
        let wants_k3s = self.runs_k3s();
        for pack in &self.packs {
            if wants_k3s && !self.k3s.contains_key(&pack.arch()) {
                self.warnings.push(format!(
                    "cluster.yaml has nodes that run k3s, but no k3s for {0} is on the image: \
                     on {0} they will serve the registry only; give it with --k3s",
                    pack.arch()
                ));
            }
        }
        if !self.k3s.is_empty() {
            self.warnings.extend(fleet::oddity(&self.cluster));
        }
        self.warnings.append(&mut self.manifests.warnings);
        for k3s in self.k3s.values().filter(|k3s| k3s.version.is_none()) {
            self.warnings.push(format!(
                "{} says no k3s version: is it k3s?",
                k3s.path.display()
            ));
        }
        if request.hauls.is_empty() {
            self.warnings
                .push("no haul was given: the registry will be empty".to_owned());
        }
        if self.firmware_bytes() > INITRAMFS_FIRMWARE_BYTES {
            self.warnings.push(
                "the device firmware is large and is loaded from the drive only after that is \
                 found; a controller that the drive itself hangs on will not get any"
                    .to_owned(),
            );
        }
    }

    /// Whether some machine runs k3s by `cluster.yaml`.
    pub(super) fn runs_k3s(&self) -> bool {
        let runs_k3s = |role| role != cluster::Role::Registry;
        self.cluster.nodes.iter().any(|node| runs_k3s(node.role))
            || runs_k3s(self.cluster.unmatched.role)
    }

    /// Whether a file on HAUL is one of those that k3s's launcher would unpack.
    pub(super) fn is_k3s_data(&self, path: &str) -> bool {
        self.k3s_data.iter().any(|(arch, data)| {
            let directory = haul::k3s_data(*arch, &data.hash);
            let below = path.strip_prefix(directory.as_str());
            below.is_some_and(|rest| rest.starts_with('/'))
        })
    }

    /// Secrets on HAUL, by their path in its directory of secrets.
    pub(super) fn secrets(&self) -> BTreeMap<String, Vec<u8>> {
        let credentials = self.credentials.as_ref();
        let whom = match (self.k3s.is_empty(), self.agents_only) {
            (true, _) => For::Registries,
            (false, true) => For::Agents,
            (false, false) => For::Servers,
        };
        let https = self.cluster.registry.tls;
        credentials.map_or_else(BTreeMap::new, |all| all.for_stick(whom, https))
    }

    /// What is asked of the registry's clients.
    pub(super) fn access(&self) -> AccessInfo {
        AccessInfo::of(&self.cluster.registry)
    }

    fn firmware_bytes(&self) -> u64 {
        self.firmware.values().map(|file| file.len() as u64).sum()
    }

    /// Device firmware for the initramfs.
    pub(super) fn initramfs_firmware(&self) -> Vec<(String, Vec<u8>)> {
        if self.firmware_bytes() > INITRAMFS_FIRMWARE_BYTES {
            return Vec::new();
        }
        self.firmware
            .iter()
            .map(|(name, contents)| (name.clone(), contents.clone()))
            .collect()
    }

    /// What `haulboot.json` says of one architecture.
    pub(super) fn arch_info(&self, pack: &BootPack) -> ArchInfo {
        let manifest = pack.manifest();
        let version = |start: &str| {
            let found = manifest.packages.iter().find(|p| p.name.starts_with(start));
            found.map_or_else(String::new, |package| package.version.clone())
        };
        ArchInfo {
            kernel: manifest.kernel_release.clone(),
            kernel_package: version("linux-image"),
            boot_loader_package: version("systemd-boot"),
            agent: manifest.agent_version.clone(),
            k3s: self.k3s.get(&pack.arch()).map(|k3s| K3sInfo {
                version: k3s.version.clone(),
                size: k3s.size,
                digest: k3s.digest,
                data: self
                    .k3s_data
                    .get(&pack.arch())
                    .map(|data| data.hash.clone()),
            }),
            firmware: self.firmware.keys().cloned().collect(),
        }
    }
}

/// Checks what the cluster asks of k3s, and reads the manifests for its server.
fn read_fleet(request: &Request, cluster: &Cluster, k3s: bool) -> Result<Manifests, ImageError> {
    if !k3s {
        return match request.agents_only {
            true => Err(FleetError::NoK3s.into()),
            false => Ok(Manifests::default()),
        };
    }
    let Some(path) = &request.config else {
        return match request.agents_only {
            true => Err(FleetError::NoConfig.into()),
            false => Ok(Manifests::default()),
        };
    };
    fleet::check_roles(path, cluster, request.agents_only)?;
    match request.agents_only {
        // agents apply none, and what is in them may be secret
        true => Ok(Manifests::default()),
        false => Ok(manifests::collect(path, &cluster.manifests)?),
    }
}

fn read_config(path: Option<&Path>, k3s: bool) -> Result<(Vec<u8>, Cluster), ImageError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ImageError::ReadConfig { path, source }
    };
    let (path, yaml) = match path {
        None => (Path::new("template"), cluster::template(k3s).into_bytes()),
        Some(path) => {
            let mut yaml = Vec::new();
            File::open(path)
                // one byte more than allowed, so that a larger file is noticed and not cut off
                .and_then(|file| {
                    file.take(limits::CLUSTER_YAML_BYTES + 1)
                        .read_to_end(&mut yaml)
                })
                .map_err(failed(path))?;
            (path, yaml)
        }
    };
    match cluster::parse(&yaml) {
        Ok(cluster) => Ok((yaml, cluster)),
        Err(error) => Err(ImageError::Config {
            path: path.to_owned(),
            error,
        }),
    }
}
