//! Pages for people: `/` and `/files/`. No script, light and dark, readable on a phone.

use std::fmt::Write as _;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use image_layout::Host;
use image_layout::catalog::{Artifact, ArtifactKind};

use super::answers;
use super::files::HaulFile;
use super::index::as_component;
use super::state::Registry;

/// Rows of one table; a haul may have far more than a person reads.
const ROWS: usize = 2_000;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:60rem}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}\
code,pre{font-family:ui-monospace,monospace;font-size:.9em}\
pre{padding:.75rem;overflow-x:auto;border:1px solid GrayText;border-radius:.4rem}\
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid GrayText;\
vertical-align:top}td.n,th.n{text-align:right;white-space:nowrap}\
td code{overflow-wrap:anywhere}";

/// Text that stands in HTML as itself, in elements and in quoted attributes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Bytes as people write them.
struct Size(u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut size = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while size >= 1024.0 && unit + 1 < UNITS.len() {
            size /= 1024.0;
            unit += 1;
        }
        write!(
            f,
            "{size:.1} {}",
            UNITS.get(unit).copied().unwrap_or_default()
        )
    }
}

fn html(title: &str, body: &str) -> Response {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n{body}</html>\n",
        Escaped(title)
    );
    let mut response = answers::whole(
        StatusCode::OK,
        "text/html; charset=utf-8",
        page.into_bytes(),
    );
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
        ),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// `/`.
pub(super) fn answer(registry: &Registry, headers: &HeaderMap) -> Response {
    // what the person typed is how this machine is reached from there; anything that is no host
    // and port is not repeated
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok()?.parse::<Host>().ok());
    let address = host.as_ref().map_or("NODE:5000", |host| host.as_str());
    let index = &registry.index;
    let mut body = format!(
        "<h1>Haulboot registry</h1>\n<p>{}. \
         <a href=\"/files/\">Files</a> · <a href=\"/v2/_catalog\">Catalog</a> · \
         <a href=\"/status\">Status</a></p>\n",
        index.summary()
    );
    warnings(&mut body, &index.warnings);
    let of_kind = |kind| {
        index
            .artifacts
            .iter()
            .filter(move |artifact| artifact.kind == kind)
    };
    if let Some(image) = of_kind(ArtifactKind::Image).next() {
        let name = pull_name(image);
        let _ = write!(
            body,
            "<h2>Use it from another machine</h2>\n\
             <pre>skopeo copy --src-tls-verify=false docker://{address}/{name} \
             oci-archive:image.tar\n\
             podman pull --tls-verify=false {address}/{name}</pre>\n\
             <p>k3s, in <code>/etc/rancher/k3s/registries.yaml</code>:</p>\n\
             <pre>mirrors:\n  \"*\":\n    endpoint: [\"http://{address}\"]</pre>\n",
        );
    }
    if let Some(chart) = of_kind(ArtifactKind::Chart).next() {
        let version = chart
            .tag
            .as_ref()
            .map_or_else(String::new, |tag| format!(" --version {tag}"));
        let _ = writeln!(
            body,
            "<pre>helm pull oci://{address}/{}{version} --plain-http</pre>",
            chart.repository
        );
    }
    table(&mut body, "Images", of_kind(ArtifactKind::Image));
    table(&mut body, "Charts", of_kind(ArtifactKind::Chart));
    file_table(&mut body, index.files.all());
    html("Haulboot registry", &body)
}

/// What a client writes behind this registry's address.
fn pull_name(artifact: &Artifact) -> String {
    let name = artifact.name();
    match &artifact.host {
        Some(host) => name.replacen(host.as_str(), &as_component(host), 1),
        None => name,
    }
}

/// `/files/`.
pub(super) fn files(files: &[HaulFile]) -> Response {
    let mut body = String::from(
        "<h1>Files of the haul</h1>\n<p><a href=\"/\">Registry</a> · \
         <a href=\"/files/?format=json\">as JSON</a></p>\n",
    );
    file_table(&mut body, files);
    if files.is_empty() {
        body.push_str("<p>The haul has no files.</p>\n");
    }
    html("Files of the haul", &body)
}

fn warnings(body: &mut String, warnings: &[String]) {
    if warnings.is_empty() {
        return;
    }
    body.push_str("<h2>To know</h2>\n<ul>\n");
    for warning in warnings.iter().take(ROWS) {
        let _ = writeln!(body, "<li>{}</li>", Escaped(warning));
    }
    body.push_str("</ul>\n");
}

fn table<'a>(body: &mut String, title: &str, artifacts: impl Iterator<Item = &'a Artifact>) {
    let mut artifacts = artifacts.peekable();
    if artifacts.peek().is_none() {
        return;
    }
    let _ = write!(
        body,
        "<h2>{title}</h2>\n<div class=\"scroll\"><table>\n\
         <tr><th>Name</th><th>Platforms</th><th class=\"n\">Size</th></tr>\n"
    );
    for artifact in artifacts.by_ref().take(ROWS) {
        let platforms: Vec<_> = artifact.platforms.iter().map(|p| p.to_string()).collect();
        let _ = writeln!(
            body,
            "<tr><td><code>{}</code></td><td>{}</td><td class=\"n\">{}</td></tr>",
            Escaped(&pull_name(artifact)),
            Escaped(&platforms.join(", ")),
            Size(artifact.size)
        );
    }
    body.push_str("</table></div>\n");
    more(body, artifacts.count());
}

fn file_table(body: &mut String, files: &[HaulFile]) {
    if files.is_empty() {
        return;
    }
    body.push_str(
        "<h2>Files</h2>\n<div class=\"scroll\"><table>\n\
         <tr><th>Name</th><th>Digest</th><th class=\"n\">Size</th></tr>\n",
    );
    for file in files.iter().take(ROWS) {
        let _ = writeln!(
            body,
            "<tr><td><a href=\"{}\">{}</a></td><td><code>{}</code></td><td class=\"n\">{}</td></tr>",
            Escaped(&file.url),
            Escaped(&file.name),
            file.digest,
            Size(file.size)
        );
    }
    body.push_str("</table></div>\n");
    more(body, files.len().saturating_sub(ROWS));
}

fn more(body: &mut String, left_out: usize) {
    if left_out > 0 {
        let _ = writeln!(body, "<p>… and {left_out} more; the catalog has all.</p>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_haul_becomes_markup() {
        assert_eq!(
            Escaped("<a href='x' b=\"y\">&").to_string(),
            "&lt;a href=&#39;x&#39; b=&quot;y&quot;&gt;&amp;"
        );
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(Size(0).to_string(), "0 B");
        assert_eq!(Size(1023).to_string(), "1023 B");
        assert_eq!(Size(1536).to_string(), "1.5 KiB");
        assert_eq!(Size(5 << 40).to_string(), "5.0 TiB");
    }
}
