//! `builder inspect`.

use std::io::{self, Write as _};

use anyhow::Context as _;
use image_layout::catalog::ArtifactKind;

use crate::cli::inspect::InspectArgs;
use crate::image::{self, ArtifactContents, Contents, CredentialsContents};
use crate::size::Size;

/// Reads the image and prints what is on it.
///
/// # Errors
/// See [`image::inspect()`].
pub fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let contents = image::inspect(&args.image)?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&contents).context("rendering JSON")? + "\n",
        false => text(&contents),
    };
    match io::stdout().write_all(text.as_bytes()) {
        // `| head` has seen enough
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("writing to standard output"),
    }
}

fn text(contents: &Contents) -> String {
    let mut lines = Vec::new();
    let image = &contents.image;
    let time = i64::try_from(image.built)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| image.built.to_string(), |time| time.to_string());
    lines.push(format!(
        "{}, {}",
        contents.path.display(),
        Size(contents.bytes)
    ));
    lines.push(format!("  built by Haulboot {}, {time}", image.builder));
    lines.push(format!("  disk GUID {}", contents.disk));

    lines.push("\nPartitions".to_owned());
    for partition in &contents.partitions {
        lines.push(format!(
            "  {} {:<8} {:>10}  {}",
            partition.number,
            clean(&partition.name),
            Size(partition.extent.bytes),
            partition.guid
        ));
    }

    lines.push("\nBoots".to_owned());
    for (arch, what) in &image.arches {
        let complete = match contents.boots.contains(arch) {
            true => "",
            false => " (incomplete)",
        };
        lines.push(format!(
            "  {arch}{complete}: kernel {}, agent {}",
            what.kernel, what.agent
        ));
        if let Some(k3s) = &what.k3s {
            let version = k3s.version.as_deref().unwrap_or("of unknown version");
            lines.push(format!(
                "    k3s {version}, {}, {}",
                Size(k3s.size),
                k3s.digest
            ));
            lines.push(match &k3s.data {
                Some(hash) => format!("    k3s runs in place, data {}", clean(hash)),
                None => "    k3s unpacks itself at every boot".to_owned(),
            });
        }
        if !what.firmware.is_empty() {
            lines.push(format!(
                "    device firmware: {} files",
                what.firmware.len()
            ));
        }
    }

    let cluster = &contents.cluster;
    let name = cluster.name.as_deref().unwrap_or("unknown");
    lines.push(format!("\nCluster {name}"));
    for node in &cluster.nodes {
        lines.push(format!(
            "  {:<16} {:<9} {:<19} {}",
            node.name,
            node.role,
            node.address.as_deref().unwrap_or("DHCP"),
            clean(&node.matches)
        ));
    }
    if let Some(error) = &cluster.error {
        let file = cluster.file.as_deref().unwrap_or("cluster.yaml");
        lines.push(format!("  {file} is wrong: {error}"));
    }

    match contents.credentials {
        CredentialsContents::None => {}
        CredentialsContents::Registry => {
            lines.push("  with the secret that its registry's user is made of".to_owned());
        }
        CredentialsContents::Agent => lines.push("  for agents: no CA keys on it".to_owned()),
        CredentialsContents::CaKeys => {
            lines.push("  with CA keys: whoever holds it owns the cluster".to_owned());
        }
    }

    if image.access.tls {
        lines.push(
            "  with the key of the registries' authority: the registry speaks HTTPS".to_owned(),
        );
    }

    for haul in &image.hauls {
        lines.push(format!("\nHaul {}", clean(&haul.name)));
    }
    lines.push(format!(
        "  {} blobs, {}",
        image.blobs.count,
        Size(image.blobs.bytes)
    ));
    for (kind, heading) in [
        (ArtifactKind::Image, "Images"),
        (ArtifactKind::Chart, "Charts"),
        (ArtifactKind::File, "Files"),
        (ArtifactKind::Attached, "Signatures, attestations, SBOMs"),
        (ArtifactKind::Referrer, "Referrers"),
    ] {
        let of_kind = contents.artifacts.iter().filter(|a| a.kind == kind);
        let shown: Vec<String> = of_kind.map(artifact).collect();
        if !shown.is_empty() {
            lines.push(format!("\n{heading}"));
            lines.extend(shown);
        }
    }
    if !contents.warnings.is_empty() {
        lines.push("\nWarnings".to_owned());
        lines.extend(
            contents
                .warnings
                .iter()
                .map(|text| format!("  {}", clean(text))),
        );
    }
    lines.join("\n") + "\n"
}

fn artifact(artifact: &ArtifactContents) -> String {
    let mut line = format!("  {:>10}  {}", Size(artifact.size), clean(&artifact.name));
    if !artifact.platforms.is_empty() {
        line.push_str(&format!("  {}", clean(&artifact.platforms.join(" "))));
    }
    line
}

/// Text from an image without what a terminal would act upon.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
