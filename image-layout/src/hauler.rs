//! Hauler's conventions: what an entry of `index.json` is, in every era of its format.
//!
//! Source: Hauler `pkg/consts/consts.go`, `pkg/content/oci.go`; 1.x writes kinds under
//! `dev.cosignproject.cosign/`, 2.x under `dev.hauler/`.

use std::collections::HashMap;

use crate::digest::Digest;
use crate::oci::{Descriptor, Manifest, annotation, media_type};
use crate::reference::{Host, Reference, Repository, Tag};

/// `index.json` as Hauler 2.1 keeps it beside a reduced one; to be preferred.
pub const HAULER_INDEX: &str = "hauler-index.json";
/// `index.json` of an OCI layout.
pub const INDEX: &str = "index.json";
/// Marks an OCI layout; Hauler 2.0 leaves it out.
pub const OCI_LAYOUT: &str = "oci-layout";

/// Where an entry came from, since 2.1; a chart's is `REPOSITORY-URL|hauler/NAME:VERSION`.
pub const ORIGINAL_REF: &str = "hauler.dev/original-ref";

/// What the annotation `kind` says an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An image, chart or file: one manifest. Also what an entry without a kind is.
    Image,
    /// A multi-platform image.
    ImageIndex,
    /// cosign signatures.
    Signatures,
    /// cosign attestations.
    Attestations,
    /// cosign SBOMs.
    Sboms,
    /// A manifest with a `subject`.
    Referrer,
    /// A kind of a later Hauler.
    Other(String),
}

impl Kind {
    /// Reads the annotation's value.
    pub fn parse(value: &str) -> Kind {
        let tail = value
            .strip_prefix("dev.hauler/")
            .or_else(|| value.strip_prefix("dev.cosignproject.cosign/"))
            .unwrap_or(value);
        match tail.split('/').next().unwrap_or_default() {
            "image" => Kind::Image,
            "imageIndex" => Kind::ImageIndex,
            "sigs" => Kind::Signatures,
            "atts" => Kind::Attestations,
            "sboms" => Kind::Sboms,
            "referrers" => Kind::Referrer,
            _ => Kind::Other(value.to_owned()),
        }
    }

    /// The suffix of the tag under which cosign looks for this kind
    /// (cosign: `pkg/oci/remote/remote.go`), `.sig`, `.att` or `.sbom`.
    pub fn cosign_suffix(&self) -> Option<&'static str> {
        match self {
            Kind::Signatures => Some(".sig"),
            Kind::Attestations => Some(".att"),
            Kind::Sboms => Some(".sbom"),
            _ => None,
        }
    }
}

impl Kind {
    /// The kind of an entry.
    pub fn of(entry: &Descriptor) -> Kind {
        entry
            .annotation(annotation::KIND)
            .map_or(Kind::Image, Kind::parse)
    }
}

/// What a manifest holds, by the type of its configuration: charts and files have the same `kind`
/// as images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Several manifests.
    Index,
    /// A container image.
    Image,
    /// A Helm chart.
    Chart,
    /// A file, or a directory as one compressed archive.
    File,
    /// Anything else.
    Other,
}

impl Content {
    /// Looks at a manifest.
    pub fn of(manifest: &Manifest) -> Content {
        if manifest.is_index() {
            return Content::Index;
        }
        let config = manifest
            .config
            .as_ref()
            .map_or("", |config| config.media_type.as_str());
        if config == media_type::HELM_CONFIG {
            Content::Chart
        } else if config.starts_with(media_type::HAULER_FILE_CONFIG_PREFIX) {
            Content::File
        } else if config.starts_with(media_type::OCI_IMAGE_CONFIG_PREFIX)
            || config.starts_with(media_type::DOCKER_IMAGE_CONFIG_PREFIX)
        {
            Content::Image
        } else {
            Content::Other
        }
    }
}

/// The name that an entry is asked for by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The registry it came from; none for charts and files, which live under Hauler's paths.
    pub host: Option<Host>,
    /// Repository.
    pub repository: Repository,
    /// Tag.
    pub tag: Option<Tag>,
    /// The digest that the name says. It need not be the entry's: an image that was added by the
    /// digest of its index for one platform only keeps the index's digest in its name.
    pub digest: Option<Digest>,
}

impl Name {
    /// The name of an entry with such content, `None` if it has none that a client could ask for.
    ///
    /// - `io.containerd.image.name` is the full name, wherever it is given and can be read.
    /// - Charts and files have `org.opencontainers.image.ref.name` alone: `hauler/NAME:TAG`.
    /// - So have images of Hauler before 1.1. It cut the host off and did not keep it: Docker Hub.
    /// - An entry without `kind` was not written by Hauler: there the same annotation may be a full
    ///   name (podman), or no more than a tag, which names nothing.
    pub fn of(entry: &Descriptor, content: Content) -> Option<Name> {
        let ref_name = entry.annotation(annotation::REF_NAME);
        if matches!(content, Content::Chart | Content::File) {
            return Name::without_host(ref_name?);
        }
        if let Some(name) = entry.annotation(annotation::IMAGE_NAME) {
            return name.parse::<Reference>().ok().map(Name::from);
        }
        let ref_name = ref_name?;
        let Some(kind) = entry.annotation(annotation::KIND) else {
            let is_name = ref_name.contains(['/', ':', '@']);
            return is_name
                .then(|| ref_name.parse::<Reference>().ok().map(Name::from))
                .flatten();
        };
        let attached = !matches!(Kind::parse(kind), Kind::Image | Kind::Other(_));
        if attached || matches!(content, Content::Index | Content::Image) {
            let full = format!("{}/{ref_name}", Host::docker_hub());
            full.parse::<Reference>().ok().map(Name::from)
        } else {
            Name::without_host(ref_name)
        }
    }

    fn without_host(name: &str) -> Option<Name> {
        let (name, digest) = match name.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse().ok()?)),
            None => (name, None),
        };
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag.parse().ok()?)),
            _ => (name, None),
        };
        Some(Name {
            host: None,
            repository: repository.parse().ok()?,
            tag,
            digest,
        })
    }
}

/// The registry and repository that a chart was pulled from, `None` where the entry doesn't say or
/// where it was no registry: of `oci://HOST/PATH|hauler/NAME:VERSION` it is `HOST` and `PATH/NAME`.
pub fn chart_origin(entry: &Descriptor) -> Option<(Host, Repository)> {
    let (url, name) = entry.annotation(ORIGINAL_REF)?.split_once('|')?;
    let at = url.strip_prefix("oci://")?.trim_end_matches('/');
    let (name, _version) = name.strip_prefix("hauler/")?.rsplit_once(':')?;
    let (host, path) = match at.split_once('/') {
        Some((host, path)) => (host, format!("{path}/{name}")),
        None => (at, name.to_owned()),
    };
    Some((host.parse().ok()?, path.parse().ok()?))
}

impl From<Reference> for Name {
    fn from(reference: Reference) -> Name {
        Name {
            host: Some(reference.host),
            repository: reference.repository,
            tag: reference.tag,
            digest: reference.digest,
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}/")?;
        }
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// What an entry calls itself: the full name, else the one without host. Not checked; see
/// [`crate::text::printable`] before printing it.
pub fn raw_name(entry: &Descriptor) -> Option<&str> {
    entry
        .annotation(annotation::IMAGE_NAME)
        .or_else(|| entry.annotation(annotation::REF_NAME))
}

/// Finds what signatures, attestations and SBOMs belong to.
pub struct Subjects(HashMap<String, Digest>);

impl Subjects {
    /// Notes the images among the entries of one `index.json`.
    pub fn of(entries: &[Descriptor]) -> Subjects {
        let named = |wanted: Kind| {
            entries
                .iter()
                .filter(move |entry| Kind::of(entry) == wanted)
                .filter_map(|entry| Some((Self::key(entry)?, entry.digest)))
        };
        // an index wins over a manifest of the same name: the tag means the index
        Subjects(named(Kind::Image).chain(named(Kind::ImageIndex)).collect())
    }

    /// The manifest that `entry` belongs to: the one it says (Hauler since 2.1), the one its kind
    /// says (`dev.hauler/sigs/HEX`), else the image of the same name.
    pub fn find(&self, entry: &Descriptor) -> Option<Digest> {
        let said = entry
            .annotation(annotation::SUBJECT_DIGEST)
            .and_then(|digest| digest.parse().ok());
        let in_kind = || {
            let (_, hex) = entry.annotation(annotation::KIND)?.rsplit_once('/')?;
            Digest::from_parts("sha256", hex)
        };
        said.or_else(in_kind)
            .or_else(|| self.0.get(&Self::key(entry)?).copied())
    }

    /// Eras write the same name differently.
    fn key(entry: &Descriptor) -> Option<String> {
        let name = raw_name(entry)?;
        Some(
            name.parse::<Reference>()
                .map_or_else(|_| name.to_owned(), |name| name.to_string()),
        )
    }
}

/// The tag under which cosign looks for what belongs to `subject`: `sha256-HEX.sig`.
pub fn cosign_tag(subject: &Digest, suffix: &str) -> String {
    format!("{}-{}{suffix}", subject.algorithm(), subject.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_every_era_are_the_same_kinds() {
        for prefix in ["dev.hauler", "dev.cosignproject.cosign"] {
            assert_eq!(
                Kind::parse(&format!("{prefix}/imageIndex")),
                Kind::ImageIndex
            );
            assert_eq!(Kind::parse(&format!("{prefix}/sigs/abc")), Kind::Signatures);
            assert_eq!(
                Kind::parse(&format!("{prefix}/referrers/abc")),
                Kind::Referrer
            );
        }
        assert_eq!(Kind::parse("x/y"), Kind::Other("x/y".into()));
    }

    fn entry(annotations: &[(&str, &str)]) -> Descriptor {
        Descriptor {
            media_type: String::new(),
            digest: Digest::sha256_of(b"entry"),
            size: 5,
            platform: None,
            annotations: annotations
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn every_era_and_tool_is_read_by_its_own_rule() {
        use annotation::{IMAGE_NAME, KIND, REF_NAME};
        let old = ("kind", "dev.cosignproject.cosign/image");
        type Case<'a> = (&'a [(&'a str, &'a str)], Content, Option<&'a str>);
        let table: &[Case] = &[
            (
                &[
                    (KIND, "dev.hauler/image"),
                    (IMAGE_NAME, "index.docker.io/library/a:1"),
                    (REF_NAME, "library/a:1"),
                ],
                Content::Image,
                Some("docker.io/library/a:1"),
            ),
            (
                &[old, (REF_NAME, "library/a:1")],
                Content::Image,
                Some("docker.io/library/a:1"),
            ),
            (
                &[old, (REF_NAME, "my.group/app:1")],
                Content::Image,
                Some("docker.io/my.group/app:1"),
            ),
            (
                &[old, (REF_NAME, "oras/thing:1")],
                Content::Other,
                Some("oras/thing:1"),
            ),
            (
                &[old, (REF_NAME, "hauler/shop:1.2.3-build4")],
                Content::Chart,
                Some("hauler/shop:1.2.3-build4"),
            ),
            (
                &[(REF_NAME, "quay.io/a/b:2")],
                Content::Image,
                Some("quay.io/a/b:2"),
            ),
            (&[(REF_NAME, "1.0")], Content::Image, None),
            (
                &[(IMAGE_NAME, "docker.io/library/a:1"), (REF_NAME, "1")],
                Content::Image,
                Some("docker.io/library/a:1"),
            ),
            (
                &[old, (REF_NAME, "hauler/.bashrc:latest")],
                Content::File,
                None,
            ),
            (&[], Content::Image, None),
        ];
        for (annotations, content, name) in table {
            let found = Name::of(&entry(annotations), *content).map(|name| name.to_string());
            assert_eq!(found.as_deref(), *name, "{annotations:?}");
        }
    }

    #[test]
    fn a_signature_finds_its_image_though_their_eras_write_the_name_differently() {
        let image = entry(&[
            ("kind", "dev.hauler/imageIndex"),
            (annotation::IMAGE_NAME, "index.docker.io/a/b:1"),
        ]);
        let subjects = Subjects::of(std::slice::from_ref(&image));
        let by_name = entry(&[
            ("kind", "dev.hauler/sigs"),
            (annotation::IMAGE_NAME, "docker.io/a/b:1"),
        ]);
        assert_eq!(subjects.find(&by_name), Some(image.digest));
        let child = Digest::sha256_of(b"child");
        let by_kind = entry(&[("kind", &format!("dev.hauler/sigs/{}", child.hex()))]);
        assert_eq!(subjects.find(&by_kind), Some(child));
    }
}
