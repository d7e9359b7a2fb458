//! `/mirrors/`: files that make other machines' runtimes ask this registry, see [`crate::mirrors`].
//!
//! `/mirrors/RUNTIME` is all of a runtime: text, a page for browsers, JSON for programs.
//! `/mirrors/RUNTIME/PATH` is one file, `/mirrors/RUNTIME.tar` all of them for `tar -xkC /`,
//! `/mirrors/ca.crt` the certificate of the authority where the registry has one.

use std::fmt::Write as _;
use std::io;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use image_layout::Host;
use serde::Serialize;

use super::files::{wants_html, wants_json};
use super::query::Query;
use super::state::Registry;
use super::{address, answers, page, status};
use crate::mirrors::{self, Endpoint, Mirror, MirrorFile, Runtime};

const TEXT: &str = "text/plain; charset=utf-8";

/// In which form an answer is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Html,
}

/// Answers what stands behind `/mirrors/`.
pub(super) fn answer(registry: &Registry, request: &Parts, query: &Query, rest: &str) -> Response {
    let status = status::current(registry);
    let endpoint = address::endpoint(registry, request, status.as_ref());
    let hosts: Vec<Host> = registry.index.hosts().cloned().collect();
    let form = form(&request.headers, query);
    let mut response = match what(rest) {
        Some(Wanted::List) => list(&endpoint, form),
        Some(Wanted::Ca) => match &endpoint.ca_pem {
            Some(ca) => answers::whole(StatusCode::OK, TEXT, ca.clone().into_bytes()),
            None => answers::text(
                StatusCode::NOT_FOUND,
                "this registry has no authority of its own",
            ),
        },
        Some(Wanted::All(runtime)) => {
            let mirror = mirrors::write(runtime, &endpoint, &hosts);
            match form {
                Form::Html => page::mirror(&endpoint, &mirror),
                Form::Json => answers::json(StatusCode::OK, &mirror),
                Form::Text => {
                    let text = mirrors::render_text(&mirror);
                    answers::whole(StatusCode::OK, TEXT, text.into_bytes())
                }
            }
        }
        Some(Wanted::Tar(runtime)) => archive(&mirrors::write(runtime, &endpoint, &hosts))
            .unwrap_or_else(|_| {
                let line = "the files can't be put into an archive; take them one by one";
                answers::text(StatusCode::INTERNAL_SERVER_ERROR, line)
            }),
        Some(Wanted::File(runtime, path)) => {
            let mirror = mirrors::write(runtime, &endpoint, &hosts);
            file(&mirror, path)
        }
        None => unknown(),
    };
    let headers = response.headers_mut();
    // the address differs with who asks
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Host"));
    response
}

enum Wanted<'a> {
    List,
    Ca,
    All(Runtime),
    Tar(Runtime),
    File(Runtime, &'a str),
}

fn what(rest: &str) -> Option<Wanted<'_>> {
    if rest.is_empty() {
        return Some(Wanted::List);
    }
    if rest == "ca.crt" {
        return Some(Wanted::Ca);
    }
    if let Some(name) = rest.strip_suffix(".tar").filter(|it| !it.contains('/')) {
        return Some(Wanted::Tar(name.parse().ok()?));
    }
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    let runtime = name.parse().ok()?;
    Some(match path {
        "" => Wanted::All(runtime),
        path => Wanted::File(runtime, path),
    })
}

fn form(headers: &HeaderMap, query: &Query) -> Form {
    if wants_json(headers, query) {
        Form::Json
    } else if query.format.is_none() && wants_html(headers) {
        Form::Html
    } else {
        Form::Text
    }
}

#[derive(Serialize)]
struct Listed {
    runtime: Runtime,
    about: &'static str,
    url: String,
}

fn list(endpoint: &Endpoint, form: Form) -> Response {
    match form {
        Form::Html => page::mirror_list(endpoint),
        Form::Json => {
            let listed = Runtime::ALL.map(|runtime| Listed {
                runtime,
                about: runtime.about(),
                url: format!("/mirrors/{runtime}"),
            });
            answers::json(StatusCode::OK, &listed)
        }
        Form::Text => {
            let mut text = String::new();
            for runtime in Runtime::ALL {
                let url = format!("{}/mirrors/{runtime}", endpoint.url());
                let _ = writeln!(text, "{url:<50} {}", runtime.about());
            }
            answers::whole(StatusCode::OK, TEXT, text.into_bytes())
        }
    }
}

/// One file, by the path it belongs to.
fn file(mirror: &Mirror, path: &str) -> Response {
    let named = |file: &&MirrorFile| file.relative() == path;
    match mirror.files.iter().find(named) {
        Some(file) => answers::whole(StatusCode::OK, TEXT, file.contents.clone().into_bytes()),
        None => {
            let known: Vec<_> = mirror.files.iter().map(MirrorFile::relative).collect();
            let line = format!(
                "{} has no such file; it has {}",
                mirror.runtime,
                known.join(", ")
            );
            answers::text(StatusCode::NOT_FOUND, &line)
        }
    }
}

/// All files as a tar archive, root's, without folders: those that are there stay as they are.
fn archive(mirror: &Mirror) -> io::Result<Response> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in &mirror.files {
        let mut head = tar::Header::new_gnu();
        head.set_size(file.contents.len() as u64);
        head.set_mode(file.mode());
        head.set_uid(0);
        head.set_gid(0);
        head.set_mtime(0);
        archive.append_data(&mut head, file.relative(), file.contents.as_bytes())?;
    }
    let bytes = archive.into_inner()?;
    let mut response = answers::whole(StatusCode::OK, "application/x-tar", bytes);
    let name = format!("attachment; filename=\"haulboot-{}.tar\"", mirror.runtime);
    if let Ok(name) = HeaderValue::try_from(name) {
        response
            .headers_mut()
            .insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

fn unknown() -> Response {
    let names = Runtime::ALL.map(Runtime::name).join(", ");
    let line = format!("no such runtime; there are files for {names}");
    answers::text(StatusCode::NOT_FOUND, &line)
}
