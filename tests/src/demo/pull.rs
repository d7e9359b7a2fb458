//! What `make demo` pulls and fetches.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use builder::image::ArtifactContents;
use flate2::read::GzDecoder;
use image_layout::oci::{Manifest, annotation};
use image_layout::{Arch, Digest};
use serde_json::Value;

use super::{Demo, shown};
use crate::clients;
use crate::demo_haul;
use crate::qemu::Vm;

impl Demo {
    /// Pulls an image with skopeo, compares its digest, and runs it where that is possible.
    pub(super) fn pull(&self, vm: &Vm, artifact: &ArtifactContents) -> Result<(String, Digest)> {
        let name = artifact.name.clone();
        let to = self.directory.join("pulled");
        if to.exists() {
            fs::remove_dir_all(&to).with_context(|| format!("removing {}", to.display()))?;
        }
        let mut command = Command::new("skopeo");
        command
            .args([
                "copy",
                "--quiet",
                "--all",
                "--preserve-digests",
                "--src-tls-verify=false",
            ])
            .arg(format!("docker://{}/{name}", vm.registry()?))
            .arg(format!("dir:{}", to.display()));
        println!("     $ {}", shown(&command));
        clients::run(&mut command, "the package skopeo")?;
        let manifest = to.join("manifest.json");
        let bytes =
            fs::read(&manifest).with_context(|| format!("reading {}", manifest.display()))?;
        let digest = Digest::sha256_of(&bytes);
        ensure!(
            digest == artifact.digest,
            "{name} came as {digest}, and {} went into the image",
            artifact.digest
        );
        println!("     {digest}, as in the haul");
        if name == demo_haul::HELLO && self.arch == Arch::current() {
            let words = run_pulled(&to, self.arch).context("running the image's program")?;
            println!("     its program says: {words}");
        }
        Ok((name, digest))
    }

    /// Fetches a file; what it must be is in its manifest, which is asked for by digest.
    pub(super) fn fetch(&self, vm: &Vm, artifact: &ArtifactContents) -> Result<(String, Digest)> {
        let name = &artifact.name;
        let repository = name
            .split_once(':')
            .map_or(name.as_str(), |(before, _)| before);
        let path = format!("/v2/{repository}/manifests/{}", artifact.digest);
        let answer = clients::get(vm.registry()?, &path)?;
        ensure!(
            answer.status == 200 && Digest::sha256_of(&answer.body) == artifact.digest,
            "{path}: status {}, or other bytes than went into the image",
            answer.status
        );
        let manifest: Manifest =
            serde_json::from_slice(&answer.body).with_context(|| format!("reading {path}"))?;
        let layer = manifest.layers.first();
        let title = layer.and_then(|layer| layer.annotations.get(annotation::TITLE));
        let (Some(layer), Some(title)) = (layer, title) else {
            bail!("the manifest of {name} has no titled layer");
        };
        let path = format!("/files/{title}");
        println!("     $ curl http://{}{path}", vm.registry()?);
        clients::fetch(vm.registry()?, &path, &layer.digest)?;
        println!("     {}, as in the haul", layer.digest);
        Ok((title.clone(), layer.digest))
    }
}

/// Runs the program of an image that skopeo copied to `directory`; returns its first line.
fn run_pulled(directory: &Path, arch: Arch) -> Result<String> {
    let read = |name: &str| -> Result<Value> {
        let path = directory.join(name);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))
    };
    let hex = |descriptor: &Value| -> Result<String> {
        let digest: Digest = descriptor["digest"]
            .as_str()
            .context("a descriptor has no digest")?
            .parse()?;
        Ok(digest.hex())
    };
    let index = read("manifest.json")?;
    let child = index["manifests"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|child| child["platform"]["architecture"] == arch.oci())
        .with_context(|| format!("the index has no image for {}", arch.oci()))?;
    let manifest = read(&format!("{}.manifest.json", hex(child)?))?;
    let layer = directory.join(hex(&manifest["layers"][0])?);
    let layer = File::open(&layer).with_context(|| format!("opening {}", layer.display()))?;
    let root = directory.join("root");
    tar::Archive::new(GzDecoder::new(layer))
        .unpack(&root)
        .context("unpacking the layer")?;
    let output = Command::new(root.join("hello")).output()?;
    ensure!(output.status.success(), "it ended with {}", output.status);
    let words = String::from_utf8(output.stdout)?;
    Ok(words.lines().next().unwrap_or_default().to_owned())
}
