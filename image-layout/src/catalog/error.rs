//! Why a layout can't be catalogued.

use crate::digest::Digest;
use crate::limits;

/// Why a layout can't be catalogued.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// `index.json` is no JSON of the expected shape.
    #[error("index.json is no OCI index: {0}")]
    Index(serde_json::Error),
    /// More entries than [`limits::ARTIFACTS`].
    #[error("index.json names {0} artifacts; {max} are allowed", max = limits::ARTIFACTS)]
    TooMany(usize),
    /// The artifacts consist of more than [`limits::BLOBS`].
    #[error("the artifacts consist of more than {max} blobs", max = limits::BLOBS)]
    TooManyBlobs,
    /// A blob that something needs is not there.
    #[error("{wanted_by} needs blob {digest}, which is not in the haul")]
    MissingBlob {
        /// The missing blob.
        digest: Digest,
        /// Who needs it.
        wanted_by: String,
    },
    /// A blob has another size than its descriptor says.
    #[error("blob {digest} of {wanted_by} has {actual} bytes; its descriptor says {expected}")]
    WrongSize {
        /// The blob.
        digest: Digest,
        /// Who needs it.
        wanted_by: String,
        /// Bytes by the descriptor.
        expected: u64,
        /// Bytes there are.
        actual: u64,
    },
    /// A blob that is read as a manifest is not the one its digest names.
    #[error("manifest {digest} of {wanted_by} is damaged: its bytes have another digest")]
    WrongDigest {
        /// The manifest.
        digest: Digest,
        /// Who needs it.
        wanted_by: String,
    },
    /// A manifest is larger than any client reads.
    #[error("manifest {digest} of {wanted_by} has {size} bytes; {max} are allowed",
        max = limits::MANIFEST_BYTES)]
    ManifestTooLarge {
        /// The manifest.
        digest: Digest,
        /// Who needs it.
        wanted_by: String,
        /// Its bytes.
        size: u64,
    },
    /// A manifest is no JSON of the expected shape.
    #[error("manifest {digest} of {wanted_by} can't be read: {error}")]
    BadManifest {
        /// The manifest.
        digest: Digest,
        /// Who needs it.
        wanted_by: String,
        /// Why.
        error: serde_json::Error,
    },
    /// Indexes are nested deeper than [`limits::INDEX_DEPTH`].
    #[error("indexes below {0} are nested too deeply")]
    TooDeep(String),
    /// A blob can't be read.
    #[error("reading blob {digest}: {error}")]
    Read {
        /// The blob.
        digest: Digest,
        /// Why.
        error: std::io::Error,
    },
}
