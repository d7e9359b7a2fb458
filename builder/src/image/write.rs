//! Writing an image, from the inputs to the finished file.
//!
//! 1. Everything small is read and checked: `cluster.yaml`, k3s, boot packs, firmware.
//! 2. The hauls are unpacked beside the image, each blob checked on its way.
//! 3. What belongs on HAUL is laid beside them; from here all sizes are known.
//! 4. The partitions are written, the largest first, the table last.
//! 5. The finished image is put in place, all at once.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc as Shared;

use image_layout::catalog::ArtifactKind;
use image_layout::image::{FORMAT, ImageInfo};
use image_layout::partitions::Partition;
use image_layout::paths::{config, haul};

use super::boot_files::BootFiles;
use super::error::ImageError;
use super::ext4::{self, Ext4Error, Tree};
use super::fleet;
use super::haul_tree::{is_secret, json, lay_out, no_haul, set_modes};
use super::identity::{self, Seed};
use super::inputs::Inputs;
use super::output::Output;
use super::place::refuse_inputs;
use super::plan::{Plan, align};
use super::request::{Request, Written};
use super::space::{bytes_of, free_bytes, has_room};
use super::staging::Staging;
use super::{fat, gpt, k3s_data, missing_images, readme};
use crate::credentials::{self, CredentialsError, Placed, Server};
use crate::haul::Loaded;
use crate::progress::Progress;

/// How often HAUL is made anew, each time larger, when its contents turn out not to fit.
const ATTEMPTS: u32 = 3;

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
    refuse_inputs(request, &[], &output)?;
    let mut inputs = Inputs::read(request, progress)?;
    refuse_inputs(request, &inputs.manifests.sources, &output)?;
    let mut placed = None;
    if !inputs.k3s.is_empty() || !inputs.access().is_open() {
        let mut found = credentials(request, &output)?;
        inputs.warnings.append(&mut found.warnings);
        if inputs.cluster.registry.tls {
            found.credentials.want_registry_authority()?;
        }
        inputs.credentials = Some(found.credentials.clone());
        placed = Some(found);
    }
    let (place, name) = output.staging_place();
    let full = |error: ImageError| match error {
        ImageError::NoSpace { .. } => error,
        error if error.is_no_space() => ImageError::NoSpace {
            free: free_bytes(&place).unwrap_or(0),
            path: place.clone(),
            needs: None,
        },
        error => error,
    };
    let staging = Staging::new(&place, &name).map_err(full)?;
    has_room(
        &place,
        request.hauls.iter().map(|path| bytes_of(path)).sum(),
    )?;
    let (image, mut written) = assemble(request, &mut inputs, &staging, progress).map_err(full)?;
    if let Some(placed) = placed {
        // before the image: one whose credentials are lost is of no use
        let beside = match &output {
            Output::File(path) if !request.agents_only && !inputs.k3s.is_empty() => {
                Some(path.as_path())
            }
            _ => None,
        };
        let server = Server::of(&inputs.cluster);
        written.credentials = Some(placed.save(&inputs.cluster.name, server, beside)?);
    }
    output.deliver(&image, progress)?;
    Ok(written)
}

/// The credentials for the image, in the directory that was named or beside the image.
fn credentials(request: &Request, output: &Output) -> Result<Placed, ImageError> {
    let directory = match (&request.credentials, output) {
        (Some(directory), _) => directory.clone(),
        (None, Output::File(path)) => {
            let own = credentials::beside(path);
            if request.agents_only && !own.exists() {
                return Err(CredentialsError::NoCluster(own).into());
            }
            own
        }
        (None, Output::Device(name) | Output::Stream { name, .. }) => {
            return Err(CredentialsError::NoPlace(name.clone()).into());
        }
    };
    Ok(credentials::open(&directory)?)
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

    if let Some(path) = &request.config
        && !inputs.k3s.is_empty()
        && !inputs.agents_only
    {
        fleet::check_charts(path, &inputs.cluster.charts, &loaded.catalog)?;
    }
    progress.begin("unpacking k3s", None);
    k3s_data::lay_out(&root, inputs)?;
    progress.end("unpacked k3s");
    missing_images::check(request, inputs, &loaded.catalog, &layout)?;

    let recorded = inputs.packs.iter().map(|pack| pack.manifest().timestamp);
    let built = identity::build_time(request.source_date_epoch, recorded.chain([loaded.newest]));
    let info = ImageInfo {
        format: FORMAT,
        agents_only: inputs.agents_only,
        builder: env!("CARGO_PKG_VERSION").to_owned(),
        built,
        cluster: inputs.cluster.name.clone(),
        access: inputs.access(),
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
    let mut tree = Tree::of(&root)?;
    tree.keep_private(is_secret);
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
        // whoever may read an image with secrets owns the cluster
        .mode(match inputs.credentials {
            Some(_) => 0o600,
            None => 0o666,
        })
        .open(&image)
        .map_err(ImageError::io("making", &image))?;
    let scratch = staging.directory("scratch")?;
    let contents = ext4::FileSystem {
        tree: &tree,
        guid: guids.haul,
        built,
        scratch: &scratch,
    };
    let plan = write_haul(&image, &file, plan, &contents, progress)?;

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
        credentials: None,
        plan,
        guids,
        warnings,
    };
    Ok((image, written))
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
        for (name, contents) in pack.tools() {
            seed.contents(&format!("{}/tools/{name}", pack.arch()), contents);
        }
    }
    for (arch, k3s) in &inputs.k3s {
        seed.digest(&format!("k3s {arch}"), &k3s.digest);
    }
    for (name, contents) in &inputs.firmware {
        seed.contents(name, contents);
    }
    for (name, contents) in &inputs.secrets() {
        seed.contents(&format!("{}/{name}", haul::SECRETS), contents);
    }
    for (name, contents) in &inputs.manifests.files {
        seed.contents(&format!("{}/{name}", haul::MANIFESTS), contents);
    }
    for argument in &request.append {
        seed.add("append", argument.as_bytes());
    }
    Ok(seed)
}

/// Makes HAUL, larger when it turns out too small; gives the plan it was written by.
fn write_haul(
    image: &Path,
    file: &File,
    mut plan: Plan,
    contents: &ext4::FileSystem<'_>,
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
            Some(contents.tree.content_bytes()),
        );
        match contents.write(image, plan.haul, progress) {
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
