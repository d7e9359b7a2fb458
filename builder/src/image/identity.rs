//! What makes an image the image it is: build time and the seed of its GUIDs.

use image_layout::digest::Hasher;
use image_layout::{Digest, partitions::Guids};

/// The build time: `SOURCE_DATE_EPOCH` if that is set, else the newest time that the inputs
/// record. The clock of this machine is never asked: the same inputs give the same bytes
/// (docs/decisions/005-build-time.md).
pub(super) fn build_time(
    source_date_epoch: Option<u64>,
    inputs: impl IntoIterator<Item = u64>,
) -> u64 {
    source_date_epoch.unwrap_or_else(|| inputs.into_iter().max().unwrap_or(0))
}

/// Gathers everything that goes into an image, in a form in which no two sets of inputs look
/// alike: every name and every value is written with its length.
pub(super) struct Seed(Hasher);

impl Seed {
    pub(super) fn new() -> Seed {
        let mut seed = Seed(Hasher::sha256());
        seed.add("builder", env!("CARGO_PKG_VERSION").as_bytes());
        seed
    }

    /// Adds a short value.
    pub(super) fn add(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), value] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    /// Adds the digest of contents.
    pub(super) fn contents(&mut self, name: &str, contents: &[u8]) {
        self.digest(name, &Digest::sha256_of(contents));
    }

    /// Adds contents whose digest is known.
    pub(super) fn digest(&mut self, name: &str, digest: &Digest) {
        self.add(name, digest.to_string().as_bytes());
    }

    pub(super) fn guids(self) -> Guids {
        Guids::derive(&self.0.finish())
    }
}

/// GUIDs that no other image has.
pub(super) fn random_guids() -> Guids {
    Guids {
        disk: uuid::Uuid::new_v4(),
        config: uuid::Uuid::new_v4(),
        esp: uuid::Uuid::new_v4(),
        haul: uuid::Uuid::new_v4(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_outranks_the_inputs_and_the_newest_input_counts() {
        assert_eq!(build_time(Some(5), [7, 9]), 5);
        assert_eq!(build_time(None, [7, 9, 8]), 9);
        assert_eq!(build_time(None, []), 0);
    }

    #[test]
    fn guids_follow_from_names_values_and_their_order() {
        let guids = |parts: &[(&str, &[u8])]| {
            let mut seed = Seed::new();
            for (name, value) in parts {
                seed.add(name, value);
            }
            seed.guids()
        };
        let one = guids(&[("a", b"bc")]);
        assert_eq!(one, guids(&[("a", b"bc")]));
        assert_ne!(one, guids(&[("ab", b"c")]));
        assert_ne!(one, guids(&[("a", b"b"), ("c", b"")]));
        assert_ne!(random_guids(), random_guids());
    }
}
