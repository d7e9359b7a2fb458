//! Hauler's conventions: what an entry of `index.json` is, in every era of its format.
//!
//! Source: Hauler `pkg/consts/consts.go`, `pkg/content/oci.go`; 1.x writes kinds under
//! `dev.cosignproject.cosign/`, 2.x under `dev.hauler/`.

use crate::digest::Digest;

/// `index.json` as Hauler 2.1 keeps it beside a reduced one; to be preferred.
pub const HAULER_INDEX: &str = "hauler-index.json";
/// `index.json` of an OCI layout.
pub const INDEX: &str = "index.json";
/// Marks an OCI layout; Hauler 2.0 leaves it out.
pub const OCI_LAYOUT: &str = "oci-layout";

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
}
