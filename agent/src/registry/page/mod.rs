//! Pages for people: `/`, `/images/`, `/files/`, `/mirrors/`. No script, light and dark, readable
//! on a phone and by a screen reader. What they say of a haul is the word of whoever made it, and
//! goes through [`html::Escaped`].

mod html;
mod lists;
mod mirrors;
mod node;
mod usage;

use std::fmt::Write as _;

use axum::http::request::Parts;
use axum::response::Response;
use image_layout::catalog::ArtifactKind;
use image_layout::status::Status;

use self::html::{Escaped, Size, page};
use super::address;
use super::query::Query;
use super::state::Registry;
use super::status;

pub(super) use self::lists::{Lists, files, images};
pub(super) use self::mirrors::{list as mirror_list, mirror};

/// Sentences of one list; a haul may give cause for far more than a person reads.
const WARNINGS: usize = 100;

/// `/`.
pub(super) fn answer(registry: &Registry, request: &Parts) -> Response {
    let status = status::current(registry).unwrap_or_default();
    let endpoint = address::endpoint(registry, request, Some(&status));
    let lists = registry.lists();
    let mut body = String::new();
    node::problems(&mut body, &status);
    cards(&mut body, registry, &status);
    integrity(&mut body, registry);
    usage::section(&mut body, registry, &endpoint);
    body.push_str(&lists.images);
    body.push_str(&lists.charts);
    body.push_str(&lists.files);
    warnings(&mut body, &registry.index.warnings);
    node::section(&mut body, &status, &registry.index.warnings);
    let (title, head) = head(registry, &status);
    page(&title, &head, &body)
}

/// Title and header of the first page: which machine this is, and the way to the sections.
fn head(registry: &Registry, status: &Status) -> (String, String) {
    let node = status.node.as_ref().filter(|node| !node.name.is_empty());
    let name = node.map_or("What this haul carries", |node| node.name.as_str());
    let title = match node {
        Some(node) => format!("{} – Haulboot registry", node.name),
        None => "Haulboot registry".to_owned(),
    };
    let mut head = format!("<h1>{}</h1>\n", Escaped(name));
    if let Some(node) = node {
        let addresses = node.addresses.join(", ");
        let parts = [
            ("cluster ", node.cluster.as_str()),
            ("role ", node.role.as_str()),
            ("", addresses.as_str()),
        ];
        let parts: Vec<_> = parts
            .iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(what, text)| format!("{what}{}", Escaped(text)))
            .collect();
        let _ = writeln!(head, "<p class=\"sub\">{}</p>", parts.join(" · "));
    }
    head.push_str("<nav aria-label=\"Sections\"><ul>\n");
    let has = |kind| registry.index.artifacts.iter().any(|a| a.kind == kind);
    for (shown, target, text) in [
        (true, "#use", "Use it"),
        (has(ArtifactKind::Image), "#images", "Images"),
        (has(ArtifactKind::Chart), "#charts", "Charts"),
        (!registry.index.files.all().is_empty(), "/files/", "Files"),
        (true, "/mirrors/", "Mirror files"),
        (!status.stages.is_empty(), "#node", "Node"),
        (true, "/v2/_catalog", "Catalog (JSON)"),
        (true, "/status", "Status (JSON)"),
    ] {
        if shown {
            let _ = writeln!(head, "<li><a href=\"{target}\">{text}</a></li>");
        }
    }
    head.push_str("</ul></nav>\n");
    (title, head)
}

/// The numbers.
fn cards(body: &mut String, registry: &Registry, status: &Status) {
    let index = &registry.index;
    let count = |kind| index.artifacts.iter().filter(|a| a.kind == kind).count();
    body.push_str("<dl class=\"cards\">\n");
    let mut card = |what: &str, value: &str, more: &str| {
        let _ = write!(body, "<div><dt>{what}</dt><dd>{}", Escaped(value));
        if !more.is_empty() {
            let _ = write!(body, "<small>{}</small>", Escaped(more));
        }
        body.push_str("</dd></div>\n");
    };
    let hosts = index.hosts().count();
    let from = match hosts {
        0 => String::new(),
        1 => "from 1 registry".to_owned(),
        hosts => format!("from {hosts} registries"),
    };
    card("Images", &count(ArtifactKind::Image).to_string(), &from);
    card("Charts", &count(ArtifactKind::Chart).to_string(), "");
    card("Files", &count(ArtifactKind::File).to_string(), "");
    let (blobs, bytes) = index.blob_totals();
    let blobs = format!("in {blobs} blobs");
    card("Size", &Size(bytes).to_string(), &blobs);
    let cluster = status.cluster.as_ref().filter(|it| !it.k3s.is_empty());
    if let Some(cluster) = cluster {
        card("k3s", &cluster.k3s, node::phase(cluster.phase));
    } else if let Some(version) = node::carried_k3s(status) {
        card("k3s", version, "carried");
    }
    body.push_str("</dl>\n");
}

/// Whether blobs are as they should be, and whether the medium can be read.
fn integrity(body: &mut String, registry: &Registry) {
    let errors = registry.medium.errors();
    let bad = registry.integrity.status().blobs_bad > 0 || errors > 0;
    let class = if bad { "box bad" } else { "muted" };
    let _ = write!(
        body,
        "<p class=\"{class}\">{}",
        registry.integrity.summary()
    );
    if errors > 0 {
        let _ = write!(body, " Reading the medium failed {errors} times.");
    }
    body.push_str("</p>\n");
}

fn warnings(body: &mut String, warnings: &[String]) {
    if warnings.is_empty() {
        return;
    }
    body.push_str("<h2>To know about this haul</h2>\n<div class=\"box note\">\n<ul>\n");
    for warning in warnings.iter().take(WARNINGS) {
        let _ = writeln!(body, "<li>{}</li>", Escaped(warning));
    }
    body.push_str("</ul>\n");
    if let Some(more) = warnings
        .len()
        .checked_sub(WARNINGS)
        .filter(|more| *more > 0)
    {
        let _ = writeln!(body, "<p>… and {more} more, in the registry's log.</p>");
    }
    body.push_str("</div>\n");
}

/// Which page of a long list a request wants, from 1.
fn wanted(query: &Query, pages: usize) -> usize {
    query.page.unwrap_or(1).clamp(1, pages.max(1))
}

#[cfg(test)]
mod tests;
