//! Sizes as people read them.

use std::fmt;

/// Bytes, shown with binary prefixes: `12.30 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&indicatif::BinaryBytes(self.0).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_prefix_and_can_be_padded() {
        assert_eq!(format!("{:>10}", Size(12 << 20)), " 12.00 MiB");
        assert_eq!(Size(512).to_string(), "512 B");
    }
}
