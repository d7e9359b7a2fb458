//! Content digests as OCI writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// A digest that was parsed: algorithm and bytes, never a string that could become a path.
///
/// Shape: `sha256:` with 64, or `sha512:` with 128 lower-case hexadecimal digits
/// (OCI image-spec, descriptor.md "Digests").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// SHA-256, what every registry and Hauler writes.
    Sha256([u8; 32]),
    /// SHA-512, registered by OCI and rare.
    Sha512([u8; 64]),
}

/// A string that is no digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no digest: expected sha256: and 64, or sha512: and 128 lower-case hex digits")]
pub struct InvalidDigest(pub String);

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256_of(bytes: &[u8]) -> Digest {
        Digest::Sha256(sha2::Sha256::digest(bytes).into())
    }

    /// `sha256` or `sha512`.
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Digest::Sha256(_) => "sha256",
            Digest::Sha512(_) => "sha512",
        }
    }

    /// The digits without the algorithm.
    pub fn hex(&self) -> String {
        match self {
            Digest::Sha256(bytes) => hex::encode(bytes),
            Digest::Sha512(bytes) => hex::encode(bytes),
        }
    }

    /// Where an OCI layout keeps the blob: `blobs/ALGORITHM/HEX`.
    pub fn blob_path(&self) -> String {
        format!("blobs/{}/{}", self.algorithm(), self.hex())
    }

    /// Reads a digest from its two parts, as an OCI layout's paths carry them.
    pub fn from_parts(algorithm: &str, digits: &str) -> Option<Digest> {
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        match algorithm {
            "sha256" => {
                let mut bytes = [0; 32];
                hex::decode_to_slice(digits, &mut bytes).ok()?;
                Some(Digest::Sha256(bytes))
            }
            "sha512" => {
                let mut bytes = [0; 64];
                hex::decode_to_slice(digits, &mut bytes).ok()?;
                Some(Digest::Sha512(bytes))
            }
            _ => None,
        }
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once(':')
            .and_then(|(algorithm, digits)| Digest::from_parts(algorithm, digits))
            .ok_or_else(|| InvalidDigest(text.to_owned()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Hashes a stream with the algorithm of the digest it is expected to have.
#[derive(Clone)]
pub enum Hasher {
    /// For [`Digest::Sha256`].
    Sha256(sha2::Sha256),
    /// For [`Digest::Sha512`].
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// A hasher of the same algorithm as `expected`.
    pub fn like(expected: &Digest) -> Hasher {
        match expected {
            Digest::Sha256(_) => Hasher::Sha256(sha2::Sha256::new()),
            Digest::Sha512(_) => Hasher::Sha512(sha2::Sha512::new()),
        }
    }

    /// A SHA-256 hasher.
    pub fn sha256() -> Hasher {
        Hasher::Sha256(sha2::Sha256::new())
    }

    /// Takes the next bytes of the stream.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Hasher::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_survives_parsing_and_printing() {
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!(digest, Digest::sha256_of(b""));
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(digest.blob_path(), format!("blobs/sha256/{}", &EMPTY[7..]));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let upper = EMPTY.to_uppercase();
        let short = &EMPTY[..70];
        for text in [
            "",
            "sha256:",
            "md5:00",
            "sha256:../../etc/passwd",
            short,
            &upper,
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(
            "sha256:E3B0C44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
                .parse::<Digest>()
                .is_err()
        );
    }

    #[test]
    fn streaming_gives_what_hashing_at_once_gives() {
        let mut hasher = Hasher::like(&Digest::sha256_of(b""));
        hasher.update(b"haul");
        hasher.update(b"boot");
        assert_eq!(hasher.finish(), Digest::sha256_of(b"haulboot"));
    }
}
