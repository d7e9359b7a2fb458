//! From an OCI layout to a [`Catalog`].

use std::collections::btree_map::{BTreeMap, Entry};

use serde::Deserialize;

use super::error::CatalogError;
use super::walk::{Walked, Walker};
use super::{Artifact, ArtifactKind, Catalog, FORMAT, Origin};
use crate::digest::Digest;
use crate::hauler::{self, Content, Kind, Name, Subjects};
use crate::limits;
use crate::oci::Descriptor;
use crate::reference::{Host, Repository, Tag};
use crate::text::printable;

/// Where [`Catalog::build`] finds blobs.
pub trait BlobSource {
    /// The size of a blob in bytes, `None` if there is no such blob.
    fn size(&self, digest: &Digest) -> Option<u64>;

    /// A blob's bytes. Called for manifests, indexes and configurations only, and only for blobs
    /// whose size is at most [`limits::MANIFEST_BYTES`].
    fn read(&self, digest: &Digest) -> std::io::Result<Vec<u8>>;
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

impl Catalog {
    /// Catalogues the layout whose `index.json` is given; see the module's description.
    ///
    /// Every blob that a named artifact needs must be there with the size its descriptor says, and
    /// every manifest must have its digest; contents of layers are the caller's to check. Children
    /// of an index that the haul left out (other platforms) are warnings as long as one is there.
    ///
    /// Memory and time are bounded by the size of `index_json` and of the distinct manifests, no
    /// matter how often they name one another.
    pub fn build(index_json: &[u8], blobs: &dyn BlobSource) -> Result<Catalog, CatalogError> {
        let entries = Catalog::entries(index_json)?;
        let subjects = Subjects::of(&entries);
        let mut builder = Builder {
            walker: Walker::new(blobs),
            artifacts: BTreeMap::new(),
            lost_digests: Vec::new(),
        };
        for entry in &entries {
            builder.entry(entry, &subjects)?;
        }
        Ok(builder.finish())
    }

    /// The entries of an `index.json`.
    pub fn entries(index_json: &[u8]) -> Result<Vec<Descriptor>, CatalogError> {
        let index: Index = serde_json::from_slice(index_json).map_err(CatalogError::Index)?;
        let entries = index.manifests.unwrap_or_default();
        if entries.len() > limits::ARTIFACTS {
            return Err(CatalogError::TooMany(entries.len()));
        }
        Ok(entries)
    }
}

/// What makes two entries claim the same place.
type Place = (
    ArtifactKind,
    Option<Host>,
    Repository,
    Option<Tag>,
    Option<Digest>,
);

struct Builder<'a> {
    walker: Walker<'a>,
    artifacts: BTreeMap<Place, (Artifact, Content)>,
    /// Names by a digest that is not the one they have: name, digest, what is there instead.
    lost_digests: Vec<(String, Digest, Digest)>,
}

impl Builder<'_> {
    fn entry(&mut self, entry: &Descriptor, subjects: &Subjects) -> Result<(), CatalogError> {
        let shown = hauler::raw_name(entry).map_or_else(|| entry.digest.to_string(), printable);
        let walked = self.walker.walk(entry, &shown, 0)?;
        if let Some(artifact) = self.artifact(entry, &shown, &walked, subjects) {
            self.place(artifact, walked.content);
        }
        Ok(())
    }

    fn artifact(
        &mut self,
        entry: &Descriptor,
        shown: &str,
        walked: &Walked,
        subjects: &Subjects,
    ) -> Option<Artifact> {
        let file = matches!(walked.content, Content::Chart | Content::File);
        let title = walked.layer.as_ref().and_then(|(_, title)| title.clone());
        let name = match Name::of(entry, walked.content) {
            Some(name) => name,
            None if file => {
                let name = stand_in(title.as_deref().unwrap_or(shown), &entry.digest)?;
                self.walker.warnings.add(format!(
                    "{shown} has a name that no registry client can ask for; as an artifact it is {name}",
                ));
                name
            }
            None => {
                self.walker.warnings.add(format!(
                    "{} has no name that a client can ask for ({shown}); it is served by digest only",
                    entry.digest
                ));
                return None;
            }
        };
        let kind = Kind::of(entry);
        let (kind, tag) = match (walked.content, &kind) {
            (Content::Chart, _) => (ArtifactKind::Chart, name.tag),
            (Content::File, _) => (ArtifactKind::File, name.tag),
            (_, Kind::Referrer) => (ArtifactKind::Referrer, None),
            (_, kind) => match kind.cosign_suffix() {
                Some(suffix) => {
                    let subject = subjects.find(entry);
                    let tag = subject
                        .and_then(|subject| hauler::cosign_tag(&subject, suffix).parse().ok());
                    let Some(tag) = tag else {
                        self.walker.warnings.add(format!(
                            "{} belongs to {shown}, which is not in the haul; it is served by digest only",
                            entry.digest
                        ));
                        return None;
                    };
                    (ArtifactKind::Attached, Some(tag))
                }
                None => {
                    if let Some(said) = name.digest.filter(|said| *said != entry.digest) {
                        self.lost_digests
                            .push((shown.to_owned(), said, entry.digest));
                    }
                    (ArtifactKind::Image, name.tag)
                }
            },
        };
        let origin = (kind == ArtifactKind::Chart)
            .then(|| hauler::chart_origin(entry))
            .flatten()
            .map(|(host, repository)| Origin { host, repository });
        Some(Artifact {
            kind,
            host: name.host,
            repository: name.repository,
            origin,
            tag,
            digest: entry.digest,
            title,
            size: walked.size,
            platforms: walked.platforms.clone(),
            content: walked.layer.as_ref().map(|(content, _)| *content),
        })
    }

    /// Gives an artifact its place among the names. Of two with the same name an index goes before
    /// a manifest (Hauler keeps both, in random order), else the later counts, as for Hauler; never
    /// without a word.
    fn place(&mut self, artifact: Artifact, content: Content) {
        let by_digest = artifact.tag.is_none().then_some(artifact.digest);
        let place = (
            artifact.kind,
            artifact.host.clone(),
            artifact.repository.clone(),
            artifact.tag.clone(),
            by_digest,
        );
        let mut taken = match self.artifacts.entry(place) {
            Entry::Vacant(place) => {
                place.insert((artifact, content));
                return;
            }
            Entry::Occupied(taken) => taken,
        };
        let (there, its_content) = taken.get();
        let stays = *its_content == Content::Index && content != Content::Index;
        let (named, other) = if stays {
            (there.digest, artifact.digest)
        } else {
            (artifact.digest, there.digest)
        };
        if named == other {
            return;
        }
        self.walker.warnings.add(format!(
            "{} is in the haul twice; {named} is served by that name, {other} by digest only",
            artifact.name(),
        ));
        // what lost the name stays: a file is still to be downloaded, an image to be pulled
        let mut nameless = match stays {
            true => (artifact, content),
            false => taken.insert((artifact, content)),
        };
        nameless.0.tag = None;
        let (kind, digest) = (nameless.0.kind, nameless.0.digest);
        let (host, repository) = (nameless.0.host.clone(), nameless.0.repository.clone());
        let place = (kind, host, repository, None, Some(digest));
        self.artifacts.entry(place).or_insert(nameless);
    }

    fn finish(mut self) -> Catalog {
        for (name, said, instead) in self.lost_digests {
            if !self.walker.manifests.contains_key(&said) {
                self.walker.warnings.add(format!(
                    "{name} can't be pulled by that digest: the haul has {instead} instead, \
                     as happens when one platform of an image is added"
                ));
            }
        }
        if self.artifacts.is_empty() {
            let nothing =
                "the haul has no image, chart or file that a client could ask for by name";
            self.walker.warnings.add(nothing.to_owned());
        }
        let artifacts = self.artifacts.into_values().map(|(artifact, _)| artifact);
        let blobs = self.walker.blobs.into_iter();
        Catalog {
            format: FORMAT,
            artifacts: artifacts.collect(),
            manifests: self.walker.manifests.into_values().collect(),
            blobs: blobs
                .map(|(digest, size)| super::BlobEntry { digest, size })
                .collect(),
            warnings: self.walker.warnings.finish(),
        }
    }
}

/// A name for a file whose own can't be one: `hauler/bashrc-1f2e3d4c:latest`.
fn stand_in(own: &str, digest: &Digest) -> Option<Name> {
    let mut slug = String::new();
    for c in own.chars().take(64) {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = match slug.trim_end_matches('-') {
        "" => "file",
        slug => slug,
    };
    let hex = digest.hex();
    Some(Name {
        host: None,
        repository: format!("hauler/{slug}-{}", hex.get(..8)?).parse().ok()?,
        tag: Some("latest".parse().ok()?),
        digest: None,
    })
}
