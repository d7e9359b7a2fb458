//! From a request's path to what is asked for.
//!
//! The path is percent-decoded once and then taken apart from the right, because a repository may
//! be called `a/blobs/b` (registry names have slashes and no reserved words).

use image_layout::{Digest, Tag};
use percent_encoding::percent_decode_str;

/// What a path asks for. Names are the client's, to be looked up and never opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/`: the page for people.
    Page,
    /// `/status`.
    Status,
    /// `/logs/NAME`; the name is empty for a list of all.
    Log(String),
    /// `/v2/`: whether this is a registry.
    Ping,
    /// `/v2/_catalog`: all repositories.
    Catalog,
    /// `/v2/NAME/tags/list`.
    Tags(String),
    /// `/v2/NAME/manifests/REFERENCE`.
    Manifest(String, ManifestName),
    /// `/v2/NAME/blobs/DIGEST`.
    Blob(String, Result<Digest, NotADigest>),
    /// `/v2/NAME/referrers/DIGEST`.
    Referrers(String, Result<Digest, NotADigest>),
    /// `/v2/NAME/blobs/uploads/SESSION`: how far an upload has come (OCI's end-13).
    Upload,
    /// `/files/`: what files there are.
    Files,
    /// `/files/NAME`.
    File(String),
    /// `/files/DIGEST/NAME`.
    FileByDigest(Digest, String),
    /// `/mirrors/REST`; the rest is empty for a list.
    Mirrors(String),
    /// `/images/`: all images, for people.
    Images,
    /// No endpoint of the registry, below `/v2/`.
    UnknownEndpoint,
    /// Nothing.
    Unknown,
}

/// What stands where a manifest's tag or digest belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ManifestName {
    /// A tag.
    Tag(Tag),
    /// A digest.
    Digest(Digest),
    /// It has a colon and is no digest.
    NotADigest,
    /// No tag can be called so. To a client this is a manifest that is not there.
    NotATag,
}

/// Stands where a digest belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotADigest;

impl Route {
    /// Reads the path of a request's target.
    pub(super) fn parse(raw: &str) -> Route {
        // nothing that is served has such bytes in its path
        let Ok(path) = percent_decode_str(raw).decode_utf8() else {
            return Route::Unknown;
        };
        if path.chars().any(char::is_control) {
            return Route::Unknown;
        }
        match path.as_ref() {
            "/" => Route::Page,
            "/status" | "/status/" => Route::Status,
            "/v2" | "/v2/" => Route::Ping,
            "/v2/_catalog" => Route::Catalog,
            "/files" | "/files/" => Route::Files,
            "/images" | "/images/" => Route::Images,
            "/mirrors" | "/mirrors/" => Route::Mirrors(String::new()),
            "/logs" | "/logs/" => Route::Log(String::new()),
            path => {
                if let Some(rest) = path.strip_prefix("/v2/") {
                    endpoint(rest).unwrap_or(Route::UnknownEndpoint)
                } else if let Some(rest) = path.strip_prefix("/files/") {
                    file(rest)
                } else if let Some(name) = path.strip_prefix("/logs/") {
                    Route::Log(name.to_owned())
                } else if let Some(rest) = path.strip_prefix("/mirrors/") {
                    Route::Mirrors(rest.to_owned())
                } else {
                    Route::Unknown
                }
            }
        }
    }
}

impl Route {
    /// Whether the answer grows with what the haul has.
    pub(super) fn is_list(&self) -> bool {
        matches!(
            self,
            Route::Page
                | Route::Catalog
                | Route::Tags(_)
                | Route::Referrers(..)
                | Route::Files
                | Route::Images
                | Route::Mirrors(_)
        )
    }
}

/// `NAME/KIND/LAST` of the distribution protocol.
fn endpoint(rest: &str) -> Option<Route> {
    let (before, last) = rest.rsplit_once('/')?;
    let (name, kind) = before.rsplit_once('/')?;
    let name = name.to_owned();
    match (kind, last) {
        ("tags", "list") => Some(Route::Tags(name)),
        ("manifests", _) => Some(Route::Manifest(name, manifest_name(last))),
        ("blobs", _) => Some(Route::Blob(name, digest(last))),
        ("referrers", _) => Some(Route::Referrers(name, digest(last))),
        ("uploads", _) if name.ends_with("/blobs") => Some(Route::Upload),
        _ => None,
    }
}

fn digest(text: &str) -> Result<Digest, NotADigest> {
    text.parse().map_err(|_| NotADigest)
}

fn manifest_name(text: &str) -> ManifestName {
    if text.contains(':') {
        return digest(text).map_or(ManifestName::NotADigest, ManifestName::Digest);
    }
    text.parse()
        .map_or(ManifestName::NotATag, ManifestName::Tag)
}

/// A file's name may have folders; it is looked up and never opened.
fn file(rest: &str) -> Route {
    if rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Route::Unknown;
    }
    let by_digest = rest
        .split_once('/')
        .and_then(|(digest, name)| Some((digest.parse().ok()?, name)));
    match by_digest {
        Some((digest, name)) => Route::FileByDigest(digest, name.to_owned()),
        None => Route::File(rest.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn name(route: &Route) -> &str {
        match route {
            Route::Tags(name)
            | Route::Manifest(name, _)
            | Route::Blob(name, _)
            | Route::Referrers(name, _) => name,
            other => panic!("{other:?} has no name"),
        }
    }

    #[test]
    fn ping_is_known_with_and_without_slash() {
        assert_eq!(Route::parse("/v2/"), Route::Ping);
        assert_eq!(Route::parse("/v2"), Route::Ping);
    }

    #[test]
    fn paths_are_read_from_the_right() {
        let digest = format!("sha256:{HEX}");
        for (path, repository) in [
            (format!("/v2/a/blobs/b/blobs/{digest}"), "a/blobs/b"),
            (
                format!("/v2/a/manifests/b/manifests/{digest}"),
                "a/manifests/b",
            ),
            ("/v2/tags/list/tags/list".to_owned(), "tags/list"),
            (format!("/v2/manifests/referrers/{digest}"), "manifests"),
        ] {
            assert_eq!(name(&Route::parse(&path)), repository, "{path}");
        }
    }

    #[test]
    fn sessions_of_uploads_are_known_for_what_they_are() {
        let upload = |path: &str| Route::parse(path) == Route::Upload;
        assert!(upload("/v2/a/b/blobs/uploads/0a1b"));
        assert!(upload("/v2/a/blobs/uploads/"));
        assert!(!upload("/v2/a/uploads/0a1b"));
        assert!(!upload("/v2/blobs/uploads/0a1b"));
    }

    #[test]
    fn digests_may_come_with_an_encoded_colon() {
        let route = Route::parse(&format!("/v2/a/blobs/sha256%3A{HEX}"));
        assert_eq!(
            route,
            Route::Blob("a".into(), Ok(format!("sha256:{HEX}").parse().unwrap()))
        );
    }

    #[test]
    fn what_is_no_tag_and_what_is_no_digest_are_told_apart() {
        let manifest = |reference: &str| match Route::parse(&format!("/v2/a/manifests/{reference}"))
        {
            Route::Manifest(_, name) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(manifest(".INVALID_MANIFEST_NAME"), ManifestName::NotATag);
        assert_eq!(manifest("sha256:totallywrong"), ManifestName::NotADigest);
        assert_eq!(
            manifest(&format!("sha256:{}", HEX.to_uppercase())),
            ManifestName::NotADigest
        );
        assert!(matches!(manifest("1.0"), ManifestName::Tag(_)));
    }

    #[test]
    fn traversal_and_control_characters_lead_nowhere() {
        for path in [
            "/files/../etc/passwd",
            "/files/%2e%2e/secret",
            "/files/a%00b",
            "/v2/a/tags/list%0d%0aX:y",
            "/%ff",
            "//v2/",
            "",
            "*",
        ] {
            assert_eq!(Route::parse(path), Route::Unknown, "{path}");
        }
        // percent-decoding happens once
        assert_eq!(
            Route::parse("/files/%252e%252e"),
            Route::File("%2e%2e".into())
        );
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "\\PC{0,80}") {
            let _ = Route::parse(&path);
        }

        #[test]
        fn no_registry_path_panics(
            parts in proptest::collection::vec(
                "(v2|manifests|blobs|tags|list|referrers|_catalog|files|\\.\\.|%2e|%2F|%|sha256:[0-9a-f]{0,70}|[a-z]{0,3})",
                0..9,
            )
        ) {
            let path = format!("/{}", parts.join("/"));
            if let Route::Manifest(name, _) | Route::Blob(name, _) = Route::parse(&path) {
                prop_assert!(!name.contains('\0'));
            }
        }

        #[test]
        fn a_well_formed_path_gives_back_its_parts(
            name in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,4}", tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}"
        ) {
            let route = Route::parse(&format!("/v2/{name}/manifests/{tag}"));
            prop_assert_eq!(
                route,
                Route::Manifest(name, ManifestName::Tag(tag.parse().unwrap()))
            );
        }
    }
}
