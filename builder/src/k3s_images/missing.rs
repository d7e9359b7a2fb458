//! Comparing what is needed with what the hauls have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use image_layout::Arch;
use image_layout::catalog::{Artifact, ArtifactKind, Catalog};
use image_layout::reference::Reference;

/// How an image is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// No haul has the name.
    Image,
    /// The image is there, for other platforms only.
    Platform,
}

/// Images that k3s needs and no haul has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no haul has images that k3s needs: {}", sentences(.0).join("; "))]
pub struct MissingImages(pub BTreeMap<Arch, Vec<(Reference, Lacks)>>);

/// The images of `needed` that a machine of `arch` can't pull from what is in `catalog`.
pub fn missing(
    needed: &BTreeSet<Reference>,
    arch: Arch,
    catalog: &Catalog,
) -> Vec<(Reference, Lacks)> {
    let lacks = |wanted: &&Reference| {
        let mut named = catalog
            .of_kind(ArtifactKind::Image)
            .filter(|artifact| is(artifact, wanted, catalog))
            .peekable();
        named.peek().is_none().then_some(Lacks::Image).or_else(|| {
            let runs = named.any(|artifact| runs_on(artifact, arch));
            (!runs).then_some(Lacks::Platform)
        })
    };
    needed
        .iter()
        .filter_map(|wanted| Some((wanted.clone(), lacks(&wanted)?)))
        .collect()
}

/// Whether a pull of `wanted` gets this artifact. A digest goes before a tag.
fn is(artifact: &Artifact, wanted: &Reference, catalog: &Catalog) -> bool {
    if artifact.host.as_ref() != Some(&wanted.host) || artifact.repository != wanted.repository {
        return false;
    }
    match wanted.digest {
        Some(digest) => {
            artifact.digest == digest
                || catalog
                    .manifests
                    .binary_search_by_key(&digest, |entry| entry.digest)
                    .is_ok()
        }
        None => artifact.tag == wanted.tag,
    }
}

/// Whether an image runs on `arch`, or does not say where it runs.
fn runs_on(artifact: &Artifact, arch: Arch) -> bool {
    let this = |os: &str, architecture: &str| os == "linux" && architecture == arch.oci();
    artifact.platforms.is_empty()
        || artifact
            .platforms
            .iter()
            .any(|platform| this(&platform.os, &platform.architecture))
}

fn sentences(missing: &BTreeMap<Arch, Vec<(Reference, Lacks)>>) -> Vec<String> {
    let image = |(image, lacks): &(Reference, Lacks)| match lacks {
        Lacks::Image => image.to_string(),
        Lacks::Platform => format!("{image} (there for other platforms only)"),
    };
    let one = |(arch, images): (&Arch, &Vec<_>)| {
        let images: Vec<String> = images.iter().map(image).collect();
        format!("for {arch} {}", images.join(", "))
    };
    missing.iter().map(one).collect()
}

impl MissingImages {
    /// What a person can do about it, in several lines, some of them to copy.
    pub fn help(&self) -> String {
        let names: BTreeSet<&Reference> = self.0.values().flatten().map(|(name, _)| name).collect();
        let mut lines = vec![
            "give k3s-airgap-images-ARCH.tar of the k3s release with --haul, which has them all;"
                .to_owned(),
            "or add them to a haul, under spec.images of its manifest:".to_owned(),
        ];
        lines.extend(names.iter().map(|name| format!("  - name: {name}")));
        lines.push("or in its store:".to_owned());
        for (arch, images) in &self.0 {
            let command = |(name, _): &(Reference, Lacks)| {
                format!(
                    "  hauler store add image {name} --platform linux/{}",
                    arch.oci()
                )
            };
            lines.extend(images.iter().map(command));
        }
        lines.push("or name components that are not needed under `k3s: disable:` in".to_owned());
        lines.push("cluster.yaml; --allow-missing-images writes the image all the same".to_owned());
        lines.join("\n")
    }
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lacks::Image => "no haul has it",
            Lacks::Platform => "the hauls have it for other platforms only",
        })
    }
}
