//! As much of OCI's manifests as serving them needs.
//!
//! Sources: OCI image-spec `descriptor.md`, `manifest.md`, `image-index.md`; Docker image
//! manifest v2, schema 2. Unknown members are ignored and nothing is ever written back: a manifest
//! is served as the bytes it came in, so these are views, not models. (`oci-spec`'s types refuse
//! what registries carry in practice: manifests without `mediaType`, artifacts without layers.)

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Media types that are told apart.
pub mod media_type {
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Configuration of an image; followed by its version.
    pub const OCI_IMAGE_CONFIG_PREFIX: &str = "application/vnd.oci.image.config.";
    /// Configuration of a Docker image; followed by its version.
    pub const DOCKER_IMAGE_CONFIG_PREFIX: &str = "application/vnd.docker.container.image.";
    /// The archive of a Helm chart (Helm: `pkg/registry`).
    pub const HELM_CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
    /// Configuration of a Helm chart (Helm: `pkg/registry`).
    pub const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
    /// Every configuration of a file begins so (Hauler: `pkg/consts`).
    pub const HAULER_FILE_CONFIG_PREFIX: &str = "application/vnd.content.hauler.file.";
}

/// Annotations that are read.
pub mod annotation {
    /// Name within the registry (OCI image-spec, annotations.md).
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
    /// Full name with host (containerd: `images.AnnotationImageName`).
    pub const IMAGE_NAME: &str = "io.containerd.image.name";
    /// A layer's file name (OCI image-spec, annotations.md).
    pub const TITLE: &str = "org.opencontainers.image.title";
    /// What an entry of a haul is (Hauler: `pkg/consts`).
    pub const KIND: &str = "kind";
    /// Manifest that a signature belongs to (Hauler).
    pub const SUBJECT_DIGEST: &str = "hauler.dev/subject-digest";
}

/// A reference to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Type of the blob; empty where the descriptor has none.
    #[serde(default)]
    pub media_type: String,
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Platform, in indexes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Annotations.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// A platform of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub os: String,
    /// `amd64`, `arm64` ...
    #[serde(default, deserialize_with = "null_is_empty")]
    pub architecture: String,
    /// `v7` ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .as_ref()
            .map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// A manifest or an index: whatever a `manifests/` request can name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Its own media type, where it says one.
    #[serde(default)]
    pub media_type: Option<String>,
    /// Type of an artifact.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Configuration; present in image manifests.
    #[serde(default)]
    pub config: Option<Descriptor>,
    /// Layers; present in image manifests.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layers: Vec<Descriptor>,
    /// Children; present in indexes.
    #[serde(default)]
    pub manifests: Option<Vec<Descriptor>>,
    /// The manifest this one refers to.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Whether this is an index (a list of manifests).
    pub fn is_index(&self) -> bool {
        self.manifests.is_some()
    }

    /// The media type to serve it with: its own, else the one its descriptor gave, else the one
    /// its shape tells. What is no plausible media type is passed over.
    pub fn served_media_type(&self, descriptor: &str) -> String {
        let said = self
            .media_type
            .as_deref()
            .filter(|said| is_manifest_type(said));
        let described = Some(descriptor).filter(|said| is_manifest_type(said));
        let shape = if self.is_index() {
            media_type::OCI_INDEX
        } else {
            media_type::OCI_MANIFEST
        };
        said.or(described).unwrap_or(shape).to_owned()
    }
}

impl Descriptor {
    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// Whether this is a layer that registries need not have: clients fetch it from its publisher
    /// (OCI image-spec, layer.md "Non-Distributable Layers"; Docker's foreign layers).
    pub fn is_nondistributable(&self) -> bool {
        self.media_type.contains(".nondistributable.") || self.media_type.contains(".foreign.")
    }
}

impl Platform {
    /// Whether both parts are words, and not `unknown` as attestations have it.
    pub fn is_known(&self) -> bool {
        let word = |part: &str| {
            (1..=64).contains(&part.len())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        word(&self.os)
            && self.os != "unknown"
            && word(&self.architecture)
            && self.variant.as_deref().is_none_or(word)
    }
}

/// Whether `text` may be the `Content-Type` of a manifest: `application/` and a subtype of harmless
/// characters that says JSON, or Docker's signed form of it (`+prettyjws`). A manifest is whatever a
/// haul says it is, and a browser must not take it for a page.
pub fn is_manifest_type(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-' | b'_'))
    };
    text.len() <= 255
        && text.split_once('/').is_some_and(|(kind, sub)| {
            let sub_lower = sub.to_ascii_lowercase();
            kind.eq_ignore_ascii_case("application")
                && part(sub)
                && (sub_lower.ends_with("json") || sub_lower.ends_with("+prettyjws"))
        })
}

/// Go writes `null` for an empty list or map.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_comes_from_the_manifest_then_the_descriptor_then_the_shape() {
        let manifest = |json: &str| serde_json::from_str::<Manifest>(json).unwrap();
        let own = manifest(r#"{"mediaType":"application/vnd.x+json","manifests":[]}"#);
        assert_eq!(
            own.served_media_type("application/y+json"),
            "application/vnd.x+json"
        );
        assert_eq!(
            manifest("{}").served_media_type("application/y+json"),
            "application/y+json"
        );
        assert_eq!(
            manifest(r#"{"manifests":[]}"#).served_media_type(""),
            media_type::OCI_INDEX
        );
        assert_eq!(
            manifest("{}").served_media_type(""),
            media_type::OCI_MANIFEST
        );
        for hostile in [
            "text/html\\r\\nSet-Cookie: a=b",
            "text/html",
            "text/plain",
            "text/json",
            "application/xhtml+xml",
            "application/javascript",
            "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
        ] {
            let hostile = manifest(&format!(r#"{{"mediaType":"{hostile}"}}"#));
            assert_eq!(hostile.served_media_type(""), media_type::OCI_MANIFEST);
            assert_eq!(
                manifest("{}").served_media_type(hostile.media_type.as_deref().unwrap()),
                media_type::OCI_MANIFEST
            );
        }
    }

    #[test]
    fn null_lists_of_go_are_empty_lists() {
        let manifest: Manifest =
            serde_json::from_str(r#"{"layers":null,"annotations":null}"#).unwrap();
        assert!(manifest.layers.is_empty() && !manifest.is_index());
    }
}
