//! `/mirrors/` and `/mirrors/RUNTIME` in a browser.

use std::fmt::Write as _;

use axum::response::Response;

use super::html::{Escaped, lines, page};
use super::lists::sub_head;
use super::usage::install_lines;
use crate::mirrors::{Endpoint, Mirror, Runtime};

/// The runtimes.
pub(in crate::registry) fn list(endpoint: &Endpoint) -> Response {
    let mut body = String::from(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Runtimes\">\
         <table class=\"stack\">\n<thead><tr><th scope=\"col\">Runtime</th>\
         <th scope=\"col\">What the files cover</th></tr></thead>\n<tbody>\n",
    );
    for runtime in Runtime::ALL {
        let _ = writeln!(
            body,
            "<tr><th scope=\"row\"><a href=\"/mirrors/{runtime}\">{}</a></th><td>{}</td></tr>",
            runtime.title(),
            runtime.about()
        );
    }
    body.push_str("</tbody></table></div>\n");
    let about = format!(
        "Files for other machines, with <code>{}</code> and the registries of this haul filled in. \
         For programs: <a href=\"/mirrors/?format=json\">JSON</a>, or curl.",
        Escaped(&endpoint.url())
    );
    let head = sub_head("Mirror files", &about);
    page("Mirror files – Haulboot registry", &head, &body)
}

/// The files of one.
pub(in crate::registry) fn mirror(endpoint: &Endpoint, mirror: &Mirror) -> Response {
    let runtime = mirror.runtime;
    let mut body = String::from("<h2>On the other machine</h2>\n");
    body.push_str(&lines(&install_lines(runtime, endpoint)));
    body.push_str("<ul>\n");
    for note in &mirror.notes {
        let _ = writeln!(body, "<li>{}</li>", Escaped(note));
    }
    body.push_str("</ul>\n<h2>The files</h2>\n");
    for file in &mirror.files {
        let _ = write!(
            body,
            "<h3><a href=\"/mirrors/{runtime}/{}\"><code>{}</code></a></h3>\n{}",
            Escaped(file.relative()),
            Escaped(&file.path),
            lines(&file.contents)
        );
    }
    let about = format!(
        "{}, from <code>{}</code>. <a href=\"/mirrors/{runtime}?format=json\">JSON</a> · \
         <a href=\"/mirrors/{runtime}.tar\">tar</a> · <a href=\"/mirrors/\">other runtimes</a>",
        runtime.about(),
        Escaped(&endpoint.url())
    );
    let title = format!("{} – Haulboot registry", runtime.title());
    page(&title, &sub_head(runtime.title(), &about), &body)
}
