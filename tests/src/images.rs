//! Images to boot: built once a test run, by the `builder` program, as a person would.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use builder::qemu::{QemuError, with_partition};
use image_layout::Arch;
use image_layout::partitions::Partition;
use image_layout::paths::config::CLUSTER_YAML_NAMES;
use serde::Deserialize;

use crate::clients::run;
use crate::launcher;
use crate::results::{repository, target};
use crate::served::archives;

/// What goes onto an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recipe {
    /// Architectures it boots.
    pub arches: Vec<Arch>,
    /// Hauls of the fixtures, by name without `.tar.zst`.
    pub hauls: Vec<String>,
    /// The k3s file, for every architecture that it boots.
    #[serde(default)]
    pub k3s: K3s,
    /// Whose secrets it has.
    #[serde(default)]
    pub credentials: Credentials,
    /// The text of `cluster.yaml` that it is built with; none: the builder's template.
    #[serde(default)]
    pub config: Option<String>,
}

/// What is on an image as k3s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum K3s {
    /// Nothing.
    #[default]
    None,
    /// A file of the launcher's shape with the stand-in for k3s in it.
    Launcher,
    /// The stand-in as it is, of a shape that the builder doesn't know.
    UnknownShape,
    /// A program that ends at once, with exit code 0.
    Hello,
    /// [`K3s::Launcher`] for x86_64 alone, whatever the image boots.
    #[serde(rename = "x86_64-only")]
    X8664Only,
    /// The same for arm64.
    #[serde(rename = "arm64-only")]
    Arm64Only,
}

/// Whose secrets are on an image with k3s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credentials {
    /// Those of one cluster, the same for every image of a test run.
    #[default]
    Shared,
    /// Another cluster's.
    Other,
    /// The first cluster's with another token for agents.
    WrongAgentToken,
}

/// What a person does to the stick after it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Replaces `cluster.yaml`.
    pub config: Config,
    /// The drive is larger than the image by so many bytes.
    pub grow: u64,
    /// The drive's size is rounded up to a power of two, as SD cards in QEMU need it.
    pub power_of_two: bool,
}

/// What `cluster.yaml` on the stick is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Config {
    /// As the builder wrote it.
    #[default]
    AsBuilt,
    /// Deleted.
    Absent,
    /// Replaced by this text under this name.
    Text {
        /// File name.
        name: String,
        /// Contents.
        text: String,
    },
}

/// The program under test: `$HAULBOOT_BUILDER`, else the one built beside this test.
///
/// # Errors
/// When there is none; the message says how to build it.
pub fn builder_program() -> Result<PathBuf> {
    program(
        "HAULBOOT_BUILDER",
        "builder",
        &["release/builder", "debug/builder"],
    )
}

/// The agent for this machine: `$HAULBOOT_AGENT`, else the static one, else the one built for
/// development.
///
/// # Errors
/// When there is none; the message says how to build it.
pub fn agent_program() -> Result<PathBuf> {
    let musl = match Arch::current() {
        Arch::X86_64 => "x86_64-unknown-linux-musl/release/agent",
        Arch::Arm64 => "aarch64-unknown-linux-musl/release/agent",
    };
    program(
        "HAULBOOT_AGENT",
        "agent",
        &[musl, "release/agent", "debug/agent"],
    )
}

/// The program of the demonstration's images for one architecture.
///
/// # Errors
/// When it isn't built.
pub fn hello_program(arch: Arch) -> Result<PathBuf> {
    let place = match arch {
        Arch::X86_64 => "x86_64-unknown-linux-musl/release/hello",
        Arch::Arm64 => "aarch64-unknown-linux-musl/release/hello",
    };
    program("HAULBOOT_HELLO", "hello", &[place])
}

fn program(variable: &str, name: &str, places: &[&str]) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let mut places = places.iter().map(|place| target().join(place));
    match places.find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("the program {name} is not built; run: make"),
    }
}

/// The image of a recipe, built if this test run hasn't yet. Nobody may change the file.
///
/// # Errors
/// When the builder isn't built or fails; the message has its words.
pub fn image(recipe: &Recipe) -> Result<PathBuf> {
    // Before the lock: what is wrong is made from what is right.
    let credentials = match recipe.k3s {
        K3s::None => None,
        _ => Some(credentials(recipe)?),
    };
    static BUILT: Mutex<BTreeMap<Recipe, PathBuf>> = Mutex::new(BTreeMap::new());
    // Held while building: two images at once would only make both slower.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(recipe) {
        return Ok(path.clone());
    }
    let directory = target().join("test-images");
    fs::create_dir_all(&directory).context("making a directory for images")?;
    let path = directory.join(file_name(recipe));
    if path.exists() {
        fs::remove_file(&path).context("removing an old image")?;
    }
    let mut command = Command::new(builder_program()?);
    for arch in &recipe.arches {
        command.args(["--arch", arch.name()]);
    }
    for haul in &recipe.hauls {
        for archive in archives(haul)? {
            command.arg("--haul").arg(archive);
        }
    }
    for k3s in k3s_files(recipe)? {
        command.arg("--k3s").arg(k3s);
    }
    if let Some(credentials) = credentials {
        command.arg("--credentials").arg(credentials);
    }
    if let Some(text) = &recipe.config {
        let config = path.with_extension("yaml");
        fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
        command.arg("--config").arg(config);
    }
    command.arg("-o").arg(&path);
    if std::env::var_os("HAULBOOT_BOOT_PACKS").is_none() {
        command.env("HAULBOOT_BOOT_PACKS", target().join("boot-packs"));
    }
    command.current_dir(repository());
    run(&mut command, "make").context("building an image")?;
    built.insert(recipe.clone(), path.clone());
    Ok(path)
}

/// The files for `--k3s`.
fn k3s_files(recipe: &Recipe) -> Result<Vec<PathBuf>> {
    let boots = |arch: &Arch| recipe.arches.contains(arch);
    Arch::ALL
        .into_iter()
        .filter(boots)
        .filter_map(|arch| match recipe.k3s {
            K3s::None => None,
            K3s::X8664Only if arch != Arch::X86_64 => None,
            K3s::Arm64Only if arch != Arch::Arm64 => None,
            K3s::Launcher | K3s::X8664Only | K3s::Arm64Only => Some(launcher::launcher(arch)),
            K3s::UnknownShape => Some(launcher::unknown_shape(arch)),
            K3s::Hello => Some(hello_program(arch)),
        })
        .collect()
}

/// The directory for `--credentials`.
fn credentials(recipe: &Recipe) -> Result<PathBuf> {
    static FRESH: Mutex<bool> = Mutex::new(false);
    let place = |name: &str| target().join("test-images").join(name);
    let [shared, other, wrong] = [
        "credentials",
        "credentials-other",
        "credentials-wrong-token",
    ]
    .map(place);
    {
        // Those of an earlier run may be of an earlier builder.
        let mut fresh = FRESH.lock().unwrap_or_else(PoisonError::into_inner);
        if !*fresh {
            for directory in [&shared, &other, &wrong] {
                if directory.exists() {
                    fs::remove_dir_all(directory).context("removing old credentials")?;
                }
            }
            *fresh = true;
        }
    }
    match recipe.credentials {
        Credentials::Shared => Ok(shared),
        Credentials::Other => Ok(other),
        Credentials::WrongAgentToken => {
            image(&Recipe {
                credentials: Credentials::Shared,
                ..recipe.clone()
            })?;
            if !wrong.exists() {
                run(
                    Command::new("cp").arg("-a").arg(&shared).arg(&wrong),
                    "the package coreutils",
                )?;
                spoil_token(&wrong.join(image_layout::paths::secrets::AGENT_TOKEN))?;
            }
            Ok(wrong)
        }
    }
}

/// Replaces the last part of a token, its secret; the CA's hash before it stays.
fn spoil_token(file: &Path) -> Result<()> {
    let token = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let (before, _) = token
        .rsplit_once(':')
        .with_context(|| format!("{} has no token", file.display()))?;
    fs::write(file, format!("{before}:{}\n", "0".repeat(32)))
        .with_context(|| format!("writing {}", file.display()))
}

/// The administrator's kubeconfig that the builder left beside an image.
pub fn kubeconfig(image: &Path) -> PathBuf {
    image.with_extension("img.kubeconfig")
}

/// The certificate by which clients check the registry of an image with `registry.tls`: with k3s in
/// the credentials that all images of a run share.
pub fn registry_ca(image: &Path, k3s: K3s) -> PathBuf {
    let credentials = match k3s {
        K3s::None => image.with_extension("img.credentials"),
        _ => target().join("test-images/credentials"),
    };
    let tls = credentials.join(image_layout::paths::secrets::TLS);
    tls.join(image_layout::paths::secrets::REGISTRY_CA)
}

fn file_name(recipe: &Recipe) -> String {
    let arches: Vec<_> = recipe.arches.iter().map(|arch| arch.name()).collect();
    let k3s = match recipe.k3s {
        K3s::None => String::new(),
        k3s => format!("k3s {k3s:?} {:?} ", recipe.credentials),
    };
    let config = recipe.config.as_ref().map_or_else(String::new, |text| {
        let digest = image_layout::Digest::sha256_of(text.as_bytes()).hex();
        format!(" config {}", digest.get(..8).unwrap_or_default())
    });
    let hauls = recipe.hauls.join(" ");
    let name = format!("{k3s}{} {hauls}{config}", arches.join(" "));
    format!("{}.img", crate::results::slug(&name))
}

/// A copy of `image` in `directory` with the edits, or the image itself where there are none.
///
/// # Errors
/// When it can't be copied or changed.
pub fn edited(image: &Path, edits: &Edits, directory: &Path) -> Result<PathBuf> {
    if *edits == Edits::default() {
        return Ok(image.to_owned());
    }
    let copy = directory.join("stick.img");
    // cp keeps holes; an image is mostly holes.
    run(
        Command::new("cp")
            .arg("--sparse=always")
            .arg(image)
            .arg(&copy),
        "the package coreutils",
    )?;
    let file = File::options().write(true).open(&copy)?;
    let mut size = file.metadata()?.len() + edits.grow;
    if edits.power_of_two {
        size = size.next_power_of_two();
    }
    file.set_len(size).context("making the drive larger")?;
    configure(&copy, &edits.config).context("editing HAULCFG")?;
    Ok(copy)
}

fn configure(image: &Path, config: &Config) -> Result<()> {
    if *config == Config::AsBuilt {
        return Ok(());
    }
    with_partition(image, Partition::Config, true, |fs| {
        let root = fs.root_dir();
        let failed = |source| QemuError::Read {
            path: image.to_owned(),
            source,
        };
        for name in CLUSTER_YAML_NAMES {
            match root.remove(name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed(error));
                }
                _ => {}
            }
        }
        if let Config::Text { name, text } = config {
            let mut file = root.create_file(name).map_err(failed)?;
            file.truncate().map_err(failed)?;
            file.write_all(text.as_bytes()).map_err(failed)?;
            file.flush().map_err(failed)?;
        }
        Ok(())
    })?;
    Ok(())
}
