//! `builder haul info HAUL`.

use std::fmt::Write as _;

use image_layout::catalog::{Artifact, ArtifactKind};
use image_layout::oci::Platform;
use image_layout::text::printable;
use indicatif::HumanBytes;

use super::table::{self, Table};
use crate::cli::haul::Info;
use crate::haul::Loaded;
use crate::progress;

pub(super) fn run(arguments: &Info) -> anyhow::Result<()> {
    let loaded = crate::haul::inspect(&arguments.hauls, progress::to_stderr(false).as_ref())?;
    if arguments.json {
        let mut json = serde_json::to_string_pretty(&loaded.catalog)?;
        json.push('\n');
        table::print(&json)
    } else {
        table::print(&report(&loaded))
    }
}

/// Which columns a kind of artifact has.
fn section(kind: ArtifactKind) -> (&'static str, &'static str) {
    match kind {
        ArtifactKind::Image => ("IMAGE", "PLATFORMS"),
        ArtifactKind::Chart => ("CHART", "ARCHIVE"),
        ArtifactKind::File => ("FILE", "ARTIFACT"),
        ArtifactKind::Attached => ("ATTACHED", "KIND"),
        ArtifactKind::Referrer => ("REFERRER", "OF"),
    }
}

fn report(loaded: &Loaded) -> String {
    let catalog = &loaded.catalog;
    let mut text = String::new();
    for (haul, era) in loaded.hauls.iter().zip(&loaded.eras) {
        // writing to a string can't fail
        let _ = writeln!(text, "{}  ({era})", printable(&haul.name));
    }
    for kind in [
        ArtifactKind::Image,
        ArtifactKind::Chart,
        ArtifactKind::File,
        ArtifactKind::Attached,
        ArtifactKind::Referrer,
    ] {
        let (name, detail) = section(kind);
        let mut table = Table::new([name, detail, "SIZE"]);
        for artifact in catalog.of_kind(kind) {
            table.row(row(loaded, artifact));
        }
        if !table.is_empty() {
            let _ = write!(text, "\n{table}");
        }
    }
    if !catalog.warnings.is_empty() {
        text.push_str("\nWARNINGS\n");
        for warning in &catalog.warnings {
            let _ = writeln!(text, "- {}", warning);
        }
    }
    let totals = catalog.totals();
    let _ = writeln!(
        text,
        "\n{} artifacts, {} blobs, {}. The whole haul was read and every digest checked.",
        catalog.artifacts.len(),
        totals.count,
        HumanBytes(totals.bytes)
    );
    if loaded.unneeded.count > 0 {
        let _ = writeln!(
            text,
            "{} more blobs, {}, are needed by nothing and will be left out.",
            loaded.unneeded.count,
            HumanBytes(loaded.unneeded.bytes)
        );
    }
    text
}

fn row(loaded: &Loaded, artifact: &Artifact) -> [String; 3] {
    let subject = || {
        // sorted by digest
        let manifests = &loaded.catalog.manifests;
        let found = manifests.binary_search_by_key(&artifact.digest, |entry| entry.digest);
        manifests.get(found.ok()?)?.subject
    };
    let title = artifact.title.as_deref().map(printable);
    let name = artifact.name();
    let content = artifact
        .content
        .map_or(artifact.size, |content| content.size);
    let (name, detail, size) = match artifact.kind {
        ArtifactKind::Image => {
            let platforms: Vec<_> = artifact.platforms.iter().map(Platform::to_string).collect();
            (name, platforms.join(" "), artifact.size)
        }
        ArtifactKind::Chart => (name, title.unwrap_or_default(), content),
        ArtifactKind::File => (title.unwrap_or_else(|| name.clone()), name, content),
        ArtifactKind::Attached => (name, attached(artifact).to_owned(), artifact.size),
        ArtifactKind::Referrer => {
            let subject = subject().map(|subject| subject.to_string());
            (name, subject.unwrap_or_default(), artifact.size)
        }
    };
    [name, detail, HumanBytes(size).to_string()]
}

/// What cosign keeps under a tag with such an end.
fn attached(artifact: &Artifact) -> &'static str {
    let tag = artifact.tag.as_ref().map_or("", |tag| tag.as_str());
    match tag.rsplit_once('.') {
        Some((_, "sig")) => "signatures",
        Some((_, "att")) => "attestations",
        Some((_, "sbom")) => "SBOM",
        _ => "",
    }
}
