//! Writing an image, from the inputs to the finished file.
//!
//! 1. Everything small is read and checked: `cluster.yaml`, k3s, boot packs, firmware.
//! 2. The hauls are unpacked beside the image, each blob checked on its way.
//! 3. What belongs on HAUL is laid beside them; from here all sizes are known.
//! 4. The partitions are written, the largest first, the table last.
//! 5. The finished image is put in place, all at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc as Shared;

use image_layout::bootargs::BootArgs;
use image_layout::catalog::{self, ArtifactKind, Catalog};
use image_layout::cluster::{self, Cluster};
use image_layout::image::{ArchInfo, BlobTotals, FORMAT, ImageInfo, K3sInfo};
use image_layout::partitions::{Guids, Partition};
use image_layout::paths::{config, esp, haul};
use image_layout::{Arch, digest::Hasher, hauler, limits};

use super::boot_menu::{self, Boot};
use super::error::ImageError;
use super::ext4::{self, Ext4Error, Tree};
use super::identity::{self, Seed};
use super::output::Output;
use super::plan::{Plan, align};
use super::request::{Request, Written};
use super::staging::Staging;
use super::{fat, gpt, readme};
use crate::bootpack::BootPack;
use crate::haul::Loaded;
use crate::k3s::K3sBinary;
use crate::progress::Progress;

/// Device firmware up to this size goes into the initramfs too, for drives' controllers that
/// need it. More than that slows every boot down.
const INITRAMFS_FIRMWARE_BYTES: u64 = 32 << 20;
/// How often HAUL is made anew, each time larger, when its contents turn out not to fit.
const ATTEMPTS: u32 = 3;

/// What is small, read before anything is written.
struct Inputs {
    yaml: Vec<u8>,
    cluster: Cluster,
    k3s: BTreeMap<Arch, K3sBinary>,
    packs: Vec<BootPack>,
    firmware: BTreeMap<String, Vec<u8>>,
    warnings: Vec<String>,
}

/// Writes the image that `request` asks for to `output`.
///
/// # Errors
/// Whatever is wrong with the inputs or the place; nothing is left behind then, except on a
/// drive that the image was being copied to.
pub fn write(
    request: &Request,
    output: Output,
    progress: &dyn Progress,
) -> Result<Written, ImageError> {
    let mut inputs = Inputs::read(request, progress)?;
    let (place, name) = output.staging_place();
    let result = Staging::new(&place, &name).and_then(|staging| {
        has_room(
            &place,
            request.hauls.iter().map(|path| bytes_of(path)).sum(),
        )?;
        let (image, written) = assemble(request, &mut inputs, &staging, progress)?;
        output.deliver(&image, progress)?;
        Ok(written)
    });
    result.map_err(|error| match error {
        ImageError::NoSpace { .. } => error,
        error if error.is_no_space() => ImageError::NoSpace {
            free: free_bytes(&place).unwrap_or(0),
            path: place,
            needs: None,
        },
        error => error,
    })
}

impl Inputs {
    fn read(request: &Request, progress: &dyn Progress) -> Result<Inputs, ImageError> {
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
        progress.begin("reading boot files", None);
        let packs = arches
            .iter()
            .map(|arch| BootPack::find(*arch, &request.boot_packs))
            .collect::<Result<Vec<_>, _>>()?;
        let firmware = crate::device_firmware::collect(&request.firmware)?;
        progress.end("read the boot files");

        let mut inputs = Inputs {
            yaml,
            cluster,
            k3s,
            packs,
            firmware,
            warnings: Vec::new(),
        };
        inputs.look_for_oddities(request);
        Ok(inputs)
    }

    fn look_for_oddities(&mut self, request: &Request) {
        let runs_k3s = |role| role != cluster::Role::Registry;
        let wants_k3s = self.cluster.nodes.iter().any(|node| runs_k3s(node.role))
            || runs_k3s(self.cluster.unmatched.role);
        for pack in &self.packs {
            if wants_k3s && !self.k3s.contains_key(&pack.arch()) {
                self.warnings.push(format!(
                    "cluster.yaml has nodes that run k3s, but no k3s for {0} is on the image: \
                     on {0} they will serve the registry only; give it with --k3s",
                    pack.arch()
                ));
            }
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

    fn firmware_bytes(&self) -> u64 {
        self.firmware.values().map(|file| file.len() as u64).sum()
    }

    /// Device firmware for the initramfs.
    fn initramfs_firmware(&self) -> Vec<(String, Vec<u8>)> {
        if self.firmware_bytes() > INITRAMFS_FIRMWARE_BYTES {
            return Vec::new();
        }
        self.firmware
            .iter()
            .map(|(name, contents)| (name.clone(), contents.clone()))
            .collect()
    }

    fn arch_info(&self, pack: &BootPack) -> ArchInfo {
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
            }),
            firmware: self.firmware.keys().cloned().collect(),
        }
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

/// Puts the image together in `staging`; gives its path there.
fn assemble(
    request: &Request,
    inputs: &mut Inputs,
    staging: &Staging,
    progress: &dyn Progress,
) -> Result<(PathBuf, Written), ImageError> {
    let root = staging.directory("haul")?;
    let layout = staging.directory(&format!("haul/{}", haul::LAYOUT))?;
    let loaded = match request.hauls.is_empty() {
        true => no_haul(&layout)?,
        false => crate::haul::load(&request.hauls, &layout, progress)?,
    };

    let recorded = inputs.packs.iter().map(|pack| pack.manifest().timestamp);
    let built = identity::build_time(request.source_date_epoch, recorded.chain([loaded.newest]));
    let info = ImageInfo {
        format: FORMAT,
        builder: env!("CARGO_PKG_VERSION").to_owned(),
        built,
        cluster: inputs.cluster.name.clone(),
        arches: inputs
            .packs
            .iter()
            .map(|pack| (pack.arch(), inputs.arch_info(pack)))
            .collect(),
        hauls: loaded.hauls.clone(),
        blobs: loaded.catalog.totals(),
    };
    progress.begin("gathering k3s, modules and firmware", None);
    lay_out(&root, inputs, &info)?;
    let tree = Tree::of(&root)?;
    set_modes(&root, &tree, inputs)?;
    progress.end("gathered k3s, modules and firmware");

    progress.begin("making the initramfs", None);
    let boot_files = BootFiles::of(inputs)?;
    progress.end("made the initramfs");
    let guids = match request.random_guids {
        true => identity::random_guids(),
        false => seed(request, inputs, &loaded, &boot_files, built)?.guids(),
    };
    let boot_files = boot_files.with_menu(request, inputs, &guids, built);

    let haul_bytes = tree.file_system_bytes();
    let plan = Plan::new(boot_files.bytes(), haul_bytes);
    has_room(staging.path(), tree.content_bytes() + boot_files.bytes())?;
    let image = staging.path().join("image");
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&image)
        .map_err(ImageError::io("making", &image))?;
    let scratch = staging.directory("scratch")?;
    let plan = write_haul(
        &image, &file, plan, &tree, &guids, built, &scratch, progress,
    )?;

    progress.begin("writing the boot partition", None);
    let file = Shared::new(file);
    let yaml_and_readme = [
        (config::CLUSTER_YAML.to_owned(), inputs.yaml.clone()),
        (config::README.to_owned(), readme::text(&info).into_bytes()),
    ];
    let config_files = yaml_and_readme
        .iter()
        .map(|(k, v)| (k.clone(), v.as_slice()));
    for (partition, files) in [
        (Partition::Config, config_files.collect()),
        (Partition::Esp, boot_files.files()),
    ] {
        let name = partition.name();
        if let (Some(extent), Some(guid)) = (plan.of(partition), guids.of(partition)) {
            fat::write(&file, extent, name, guid, built, &files)
                .map_err(|source| ImageError::Fat { name, source })?;
        }
    }
    gpt::write(&file, &plan, &guids)?;
    file.sync_all().map_err(ImageError::io("writing", &image))?;
    progress.end("wrote the boot partition");

    let count = |kind| loaded.catalog.of_kind(kind).count();
    // the haul's own were said when it was read
    let warnings = std::mem::take(&mut inputs.warnings);
    let written = Written {
        images: count(ArtifactKind::Image),
        charts: count(ArtifactKind::Chart),
        files: count(ArtifactKind::File),
        info,
        cluster: inputs.cluster.clone(),
        plan,
        guids,
        warnings,
    };
    Ok((image, written))
}

/// An OCI layout with nothing in it: the registry of an image without a haul.
fn no_haul(layout: &Path) -> Result<Loaded, ImageError> {
    let catalog = Catalog {
        format: catalog::FORMAT,
        ..Catalog::default()
    };
    put(
        layout,
        hauler::OCI_LAYOUT,
        b"{\"imageLayoutVersion\":\"1.0.0\"}\n",
    )?;
    put(
        layout,
        hauler::INDEX,
        b"{\"schemaVersion\":2,\"manifests\":[]}\n",
    )?;
    put(layout, haul::CATALOG, &json(&catalog, haul::CATALOG)?)?;
    fs::create_dir_all(layout.join("blobs/sha256")).map_err(ImageError::io("making", layout))?;
    Ok(Loaded {
        catalog,
        hauls: Vec::new(),
        eras: Vec::new(),
        newest: 0,
        unneeded: BlobTotals::default(),
    })
}

fn json(value: &impl serde::Serialize, name: &str) -> Result<Vec<u8>, ImageError> {
    let mut json = serde_json::to_vec_pretty(value)
        .map_err(|error| ImageError::io("writing", Path::new(name))(error.into()))?;
    json.push(b'\n');
    Ok(json)
}

/// Lays everything of HAUL but the haul itself into `root`.
fn lay_out(root: &Path, inputs: &Inputs, info: &ImageInfo) -> Result<(), ImageError> {
    put(root, haul::IMAGE_JSON, &json(info, haul::IMAGE_JSON)?)?;
    for pack in &inputs.packs {
        let arch = pack.arch();
        let modules = haul::modules(arch, &pack.manifest().kernel_release);
        for (name, contents) in pack.haul_modules() {
            put(root, &format!("{modules}/{name}"), contents)?;
        }
        let firmware = haul::firmware(arch);
        for (name, contents) in &inputs.firmware {
            put(root, &format!("{firmware}/{name}"), contents)?;
        }
        if let Some(k3s) = inputs.k3s.get(&arch) {
            copy_k3s(k3s, &root.join(haul::k3s(arch)))?;
        }
    }
    Ok(())
}

fn put(root: &Path, name: &str, contents: &[u8]) -> Result<(), ImageError> {
    let path = root.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(ImageError::io("making", parent))?;
    }
    fs::write(&path, contents).map_err(ImageError::io("writing", &path))
}

/// Copies k3s and makes sure that what arrives is what was looked at.
fn copy_k3s(k3s: &K3sBinary, to: &Path) -> Result<(), ImageError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(ImageError::io("making", parent))?;
    }
    let reading = || ImageError::io("reading", &k3s.path);
    let mut from = File::open(&k3s.path).map_err(reading())?.take(k3s.size + 1);
    let mut file = File::create(to).map_err(ImageError::io("writing", to))?;
    let mut hasher = Hasher::sha256();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = from.read(&mut chunk).map_err(reading())?;
        let bytes = chunk.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        file.write_all(bytes)
            .map_err(ImageError::io("writing", to))?;
    }
    if hasher.finish() != k3s.digest {
        return Err(ImageError::Changed(k3s.path.clone()));
    }
    Ok(())
}

/// Permissions on HAUL don't depend on the umask: k3s is a program, nothing else is.
fn set_modes(root: &Path, tree: &Tree, inputs: &Inputs) -> Result<(), ImageError> {
    let programs: BTreeSet<String> = inputs.k3s.keys().map(|arch| haul::k3s(*arch)).collect();
    for name in tree.files() {
        let mode = match programs.contains(name) {
            true => 0o755,
            false => 0o644,
        };
        let path = root.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(ImageError::io("setting the permissions of", &path))?;
    }
    Ok(())
}

/// What goes onto the ESP, by its path there.
struct BootFiles<'a> {
    large: BTreeMap<String, &'a [u8]>,
    made: BTreeMap<String, Vec<u8>>,
}

impl<'a> BootFiles<'a> {
    fn of(inputs: &'a Inputs) -> Result<BootFiles<'a>, ImageError> {
        let mut files = BootFiles {
            large: BTreeMap::new(),
            made: BTreeMap::new(),
        };
        let firmware = inputs.initramfs_firmware();
        for pack in &inputs.packs {
            let arch = pack.arch();
            files
                .large
                .insert(esp::boot_loader(arch), pack.boot_loader());
            files.large.insert(esp::kernel(arch), pack.kernel());
            files
                .made
                .insert(esp::initramfs(arch), pack.initramfs(&firmware)?);
        }
        Ok(files)
    }

    fn with_menu(
        mut self,
        request: &Request,
        inputs: &Inputs,
        guids: &Guids,
        built: u64,
    ) -> BootFiles<'a> {
        let args = BootArgs {
            disk: Some(guids.disk),
            haul: Some(guids.haul),
            config: Some(guids.config),
            built: Some(built),
            ..BootArgs::default()
        };
        self.made.insert(
            esp::LOADER_CONF.to_owned(),
            boot_menu::loader_conf().into_bytes(),
        );
        for pack in &inputs.packs {
            let entries = boot_menu::entries(&Boot {
                arch: pack.arch(),
                kernel_release: &pack.manifest().kernel_release,
                args: &args,
                append: &request.append,
                k3s: inputs.k3s.contains_key(&pack.arch()),
            });
            let entries = entries.into_iter();
            self.made
                .extend(entries.map(|(path, text)| (path, text.into_bytes())));
        }
        self
    }

    fn files(&self) -> fat::Files<'_> {
        let made = self.made.iter().map(|(k, v)| (k.clone(), v.as_slice()));
        let large = self.large.iter().map(|(k, v)| (k.clone(), *v));
        large.chain(made).collect()
    }

    fn bytes(&self) -> u64 {
        let files = self.files();
        files.values().map(|contents| contents.len() as u64).sum()
    }
}

/// Everything that tells one image from another.
fn seed(
    request: &Request,
    inputs: &Inputs,
    loaded: &Loaded,
    boot_files: &BootFiles<'_>,
    built: u64,
) -> Result<Seed, ImageError> {
    let mut seed = Seed::new();
    seed.add("built", &built.to_le_bytes());
    seed.contents("cluster.yaml", &inputs.yaml);
    for haul in &loaded.hauls {
        seed.add("haul", haul.name.as_bytes());
    }
    seed.contents("catalog", &json(&loaded.catalog, haul::CATALOG)?);
    for (path, contents) in boot_files.files() {
        seed.contents(&path, contents);
    }
    for pack in &inputs.packs {
        for (name, contents) in pack.haul_modules() {
            seed.contents(&format!("{}/{name}", pack.arch()), contents);
        }
    }
    for (arch, k3s) in &inputs.k3s {
        seed.digest(&format!("k3s {arch}"), &k3s.digest);
    }
    for (name, contents) in &inputs.firmware {
        seed.contents(name, contents);
    }
    for argument in &request.append {
        seed.add("append", argument.as_bytes());
    }
    Ok(seed)
}

/// Makes HAUL, larger when it turns out too small; gives the plan it was written by.
#[allow(clippy::too_many_arguments)]
fn write_haul(
    image: &Path,
    file: &File,
    mut plan: Plan,
    tree: &Tree,
    guids: &Guids,
    built: u64,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<Plan, ImageError> {
    let mut attempt = 1;
    loop {
        // emptied first: what a failed attempt left must not shine through
        file.set_len(0)
            .and_then(|()| file.set_len(plan.total()))
            .map_err(ImageError::io("writing", image))?;
        progress.begin(
            "writing the haul into the image",
            Some(tree.content_bytes()),
        );
        match ext4::write(image, plan.haul, tree, guids.haul, built, scratch, progress) {
            Ok(()) => {
                progress.end("wrote the haul into the image");
                return Ok(plan);
            }
            Err(Ext4Error::TooSmall(bytes)) if attempt < ATTEMPTS => {
                progress.end("the partition was too small; it is made anew");
                attempt += 1;
                plan.haul.bytes = align(bytes + bytes / 20 + (4 << 20));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes sure that the disk of `directory` has `needs` bytes free.
fn has_room(directory: &Path, needs: u64) -> Result<(), ImageError> {
    match free_bytes(directory) {
        Some(free) if free < needs => Err(ImageError::NoSpace {
            path: directory.to_owned(),
            free,
            needs: Some(needs),
        }),
        // a file system that does not say is found full when it is
        _ => Ok(()),
    }
}

fn free_bytes(directory: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// Bytes of a file. Directories count nothing: this is a first estimate.
fn bytes_of(path: &Path) -> u64 {
    fs::metadata(path)
        .ok()
        .filter(fs::Metadata::is_file)
        .map_or(0, |metadata| metadata.len())
}
