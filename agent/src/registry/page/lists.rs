//! Tables of what the haul has. The first page shows the beginning of each; it is made once, since
//! nothing of it changes.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use axum::response::Response;
use image_layout::catalog::{Artifact, ArtifactKind};
use image_layout::{Digest, Host};

use super::super::files::HaulFile;
use super::super::index::{Index, as_component};
use super::super::query::Query;
use super::html::{Escaped, Size, lines, page};
use super::usage::fetch_line;
use super::wanted;
use crate::mirrors::Endpoint;

/// Rows of each table on the first page.
const FIRST: usize = 100;
/// Rows of a page of its own.
const ROWS: usize = 500;
/// Hexadecimal digits of a digest that people compare.
const SHORT: usize = 12;

/// Parts of the first page that are the same for every request.
#[derive(Debug)]
pub(in crate::registry) struct Lists {
    pub(super) images: String,
    pub(super) charts: String,
    pub(super) files: String,
}

impl Lists {
    /// Writes the tables.
    pub(in crate::registry) fn of(index: &Index) -> Lists {
        let images: Vec<_> = of_kind(index, ArtifactKind::Image).collect();
        let charts: Vec<_> = of_kind(index, ArtifactKind::Chart).collect();
        let attached = attached(index);
        let more = |all: usize, link: &str| match all.checked_sub(FIRST) {
            None | Some(0) => String::new(),
            Some(_) => format!("<p><a href=\"{link}\">All {all}</a></p>\n"),
        };
        let section = |id: &str, title: &str, rows: String| match rows.is_empty() {
            true => String::new(),
            false => format!(
                "<section id=\"{id}\" aria-labelledby=\"h-{id}\">\n<h2 id=\"h-{id}\">{title}</h2>\n\
                 {rows}</section>\n"
            ),
        };
        let files = index.files.all();
        Lists {
            images: section(
                "images",
                "Images",
                image_tables(images.get(..FIRST).unwrap_or(&images), &attached)
                    + &more(images.len(), "/images/"),
            ),
            charts: section(
                "charts",
                "Charts",
                chart_table(charts.get(..FIRST).unwrap_or(&charts))
                    + &more(charts.len(), "/files/"),
            ),
            files: section(
                "files",
                "Files",
                file_table(files.get(..FIRST).unwrap_or(files)) + &more(files.len(), "/files/"),
            ),
        }
    }
}

fn of_kind(index: &Index, kind: ArtifactKind) -> impl Iterator<Item = &Artifact> {
    let artifacts = index.artifacts.iter();
    artifacts.filter(move |artifact| artifact.kind == kind)
}

/// What belongs to an image by cosign's tags and by referrers: words for it.
fn attached(index: &Index) -> HashMap<Digest, BTreeSet<&str>> {
    let mut attached: HashMap<Digest, BTreeSet<&str>> = HashMap::new();
    for artifact in of_kind(index, ArtifactKind::Attached) {
        let Some((subject, suffix)) = artifact.tag.as_ref().and_then(|tag| {
            let (subject, suffix) = tag.as_str().split_once('.')?;
            let (algorithm, hex) = subject.split_once('-')?;
            Some((Digest::from_parts(algorithm, hex)?, suffix))
        }) else {
            continue;
        };
        let word = match suffix {
            "sig" => "signed",
            "att" => "attestations",
            "sbom" => "SBOM",
            _ => continue,
        };
        attached.entry(subject).or_default().insert(word);
    }
    for artifact in of_kind(index, ArtifactKind::Image) {
        if !index.referrers(&artifact.digest).is_empty() {
            let words = attached.entry(artifact.digest).or_default();
            words.insert("referrers");
        }
    }
    attached
}

/// What a client writes behind this registry's address.
pub(super) fn pull_name(artifact: &Artifact) -> String {
    let name = artifact.name();
    match &artifact.host {
        Some(host) => name.replacen(host.as_str(), &as_component(host), 1),
        None => name,
    }
}

/// The manifest's path on this server.
fn manifest_path(artifact: &Artifact) -> String {
    let host = artifact.host.as_ref().map(as_component);
    let host = host.map_or_else(String::new, |host| format!("{host}/"));
    let Artifact {
        repository, digest, ..
    } = artifact;
    format!("/v2/{host}{repository}/manifests/{digest}")
}

fn short(digest: &Digest) -> String {
    digest.hex().chars().take(SHORT).collect()
}

/// One table for each registry.
fn image_tables(images: &[&Artifact], attached: &HashMap<Digest, BTreeSet<&str>>) -> String {
    let mut html = String::new();
    let mut rest = images;
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|it| it.host == first.host).count();
        let (of_host, others) = rest.split_at(same);
        host_table(&mut html, first.host.as_ref(), of_host, attached);
        rest = others;
    }
    html
}

fn host_table(
    html: &mut String,
    host: Option<&Host>,
    images: &[&Artifact],
    attached: &HashMap<Digest, BTreeSet<&str>>,
) {
    let host = host.map_or("without a registry", Host::as_str);
    let host = Escaped(host);
    let _ = write!(
        html,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Images of {host}\">\
         <table class=\"stack four\">\n<caption>{host} <span>– {}</span></caption>\n\
         <thead><tr><th scope=\"col\">Image</th><th scope=\"col\">Platforms</th>\
         <th scope=\"col\">Digest</th><th scope=\"col\" class=\"n\">Size</th></tr></thead>\n<tbody>\n",
        match images.len() {
            1 => "1 image".to_owned(),
            count => format!("{count} images"),
        }
    );
    for image in images {
        let platforms: Vec<_> = image.platforms.iter().map(ToString::to_string).collect();
        let tag = image.tag.as_ref();
        let tag = match tag {
            Some(tag) => format!(":{tag}"),
            None => format!("@{}:{}…", image.digest.algorithm(), short(&image.digest)),
        };
        let words = attached.get(&image.digest).into_iter().flatten();
        let words: String = words
            .map(|word| format!(" <span class=\"tag\">{word}</span>"))
            .collect();
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\"><code><span class=\"host\">{host}/</span>{}<strong>{}</strong></code>\
             {words}</th><td>{}</td>\
             <td data-is=\"digest\"><a href=\"{}\"><code>{}</code></a></td>\
             <td class=\"n\" data-is=\"size\">{}</td></tr>",
            Escaped(image.repository.as_str()),
            Escaped(&tag),
            Escaped(&platforms.join(", ")),
            Escaped(&manifest_path(image)),
            short(&image.digest),
            Size(image.size)
        );
    }
    html.push_str("</tbody></table></div>\n");
}

fn chart_table(charts: &[&Artifact]) -> String {
    if charts.is_empty() {
        return String::new();
    }
    let mut html = String::from(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Charts\">\
         <table class=\"stack four\">\n<thead><tr><th scope=\"col\">Chart</th><th scope=\"col\">Version</th>\
         <th scope=\"col\">Digest</th><th scope=\"col\" class=\"n\">Size</th></tr></thead>\n<tbody>\n",
    );
    for chart in charts {
        let tag = chart.tag.as_ref().map_or("", |tag| tag.as_str());
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\"><code>{}</code></th><td data-is=\"version\">{}</td>\
             <td data-is=\"digest\"><a href=\"{}\"><code>{}</code></a></td>\
             <td class=\"n\" data-is=\"size\">{}</td></tr>",
            Escaped(chart.repository.as_str()),
            Escaped(tag),
            Escaped(&manifest_path(chart)),
            short(&chart.digest),
            Size(chart.size)
        );
    }
    html.push_str("</tbody></table></div>\n");
    html
}

fn file_table(files: &[HaulFile]) -> String {
    if files.is_empty() {
        return String::new();
    }
    let mut html = String::from(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Files\">\
         <table class=\"stack\">\n<thead><tr><th scope=\"col\">File</th><th scope=\"col\">Digest</th>\
         <th scope=\"col\" class=\"n\">Size</th></tr></thead>\n<tbody>\n",
    );
    for file in files {
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\"><a href=\"{}\">{}</a></th><td><code>{}</code></td>\
             <td class=\"n\" data-is=\"size\">{}</td></tr>",
            Escaped(&file.url),
            Escaped(&file.name),
            file.digest,
            Size(file.size)
        );
    }
    html.push_str("</tbody></table></div>\n");
    html
}

/// Links to the pages before and after.
fn pages(at: usize, pages: usize) -> String {
    if pages <= 1 {
        return String::new();
    }
    let link = |shown: bool, page: usize, text: &str| match shown {
        true => format!("<a href=\"?page={page}\">{text}</a>\n"),
        false => String::new(),
    };
    format!(
        "<nav class=\"pages\" aria-label=\"Pages\">\n{}<span>Page {at} of {pages}</span>\n{}</nav>\n",
        link(at > 1, at.saturating_sub(1), "← Previous"),
        link(at < pages, at + 1, "Next →")
    )
}

/// The header of every page but the first. `about` is HTML.
pub(super) fn sub_head(title: &str, about: &str) -> String {
    format!(
        "<h1>{title}</h1>\n<p class=\"sub\">{about}</p>\n<nav aria-label=\"Up\"><ul><li>\
         <a href=\"/\">← What this machine carries</a></li></ul></nav>\n"
    )
}

/// The rows of one page of `all`, and the links around them.
fn cut<'a, T>(all: &'a [T], query: &Query) -> (&'a [T], String) {
    let count = all.len().div_ceil(ROWS);
    let at = wanted(query, count);
    let rows = all.chunks(ROWS).nth(at - 1).unwrap_or_default();
    (rows, pages(at, count))
}

/// `/images/`.
pub(in crate::registry) fn images(index: &Index, query: &Query) -> Response {
    let images: Vec<_> = of_kind(index, ArtifactKind::Image).collect();
    let (rows, links) = cut(&images, query);
    let mut body = links.clone() + &image_tables(rows, &attached(index)) + &links;
    if images.is_empty() {
        body.push_str("<p>The haul has no images.</p>\n");
    }
    let about = format!(
        "{} in all; <a href=\"/v2/_catalog\">as JSON</a>",
        images.len()
    );
    page(
        "Images – Haulboot registry",
        &sub_head("Images", &about),
        &body,
    )
}

/// `/files/`.
pub(in crate::registry) fn files(
    files: &[HaulFile],
    endpoint: &Endpoint,
    query: &Query,
) -> Response {
    let (rows, links) = cut(files, query);
    let mut body = String::new();
    match files.first() {
        Some(first) => {
            body.push_str("<p>Each comes as it went into the haul, under its own name.</p>\n");
            body.push_str(&lines(&fetch_line(endpoint, &first.url)));
            body.push_str(&links);
            body.push_str(&file_table(rows));
            body.push_str(&links);
        }
        None => body.push_str("<p>The haul has no files.</p>\n"),
    }
    let about = format!(
        "{} in all, charts among them; <a href=\"/files/?format=json\">as JSON</a>",
        files.len()
    );
    page(
        "Files – Haulboot registry",
        &sub_head("Files of the haul", &about),
        &body,
    )
}
