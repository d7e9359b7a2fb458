//! Sizes of disks as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Names of units and their bytes. Two letters count in thousands, as makers of disks do.
const UNITS: [(&str, u64); 6] = [
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];
/// Percent by which a disk may differ from a size without a comparison: what is sold as 500 GB
/// has 480 to 512.
const EQUAL: u64 = 5;
/// Percent that a comparison leaves: what is sold as 2 TB has 2.0004 and is meant by `<= 2TB`.
const LIMIT: u64 = 1;

/// Which sizes are meant: `500GB` (5 % more or less), `>= 100GB`, `<= 2TB`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DiskSize {
    comparison: Comparison,
    bytes: u64,
    /// As written: number and unit.
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    About,
    AtLeast,
    AtMost,
}

impl DiskSize {
    /// Whether a disk of so many bytes is meant.
    pub fn matches(&self, bytes: u64) -> bool {
        let part = |percent: u64| self.bytes / 100 * percent;
        let least = |percent| bytes >= self.bytes.saturating_sub(part(percent));
        let most = |percent| bytes <= self.bytes.saturating_add(part(percent));
        match self.comparison {
            Comparison::About => least(EQUAL) && most(EQUAL),
            Comparison::AtLeast => least(LIMIT),
            Comparison::AtMost => most(LIMIT),
        }
    }
}

impl FromStr for DiskSize {
    type Err = String;

    fn from_str(text: &str) -> Result<DiskSize, String> {
        let wrong = || {
            format!(
                "{text:?} is no size; write 500GB, \">= 100GB\" or \"<= 2TB\" (MB, GB, TB, MiB, GiB, TiB)"
            )
        };
        let rest = text.trim();
        let (comparison, rest) = match (rest.strip_prefix(">="), rest.strip_prefix("<=")) {
            (Some(rest), _) => (Comparison::AtLeast, rest),
            (_, Some(rest)) => (Comparison::AtMost, rest),
            _ => (Comparison::About, rest),
        };
        let rest = rest.trim();
        let letters = rest.find(|c: char| c.is_ascii_alphabetic());
        let (number, unit) = rest.split_at(letters.ok_or_else(wrong)?);
        let number = number.trim();
        let digits = |c: char| c.is_ascii_digit() || c == '.';
        if number.is_empty() || !number.chars().all(digits) {
            return Err(wrong());
        }
        let (name, factor) = UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))
            .ok_or_else(wrong)?;
        let value: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = value * *factor as f64;
        if !(1.0..1e18).contains(&bytes) {
            return Err(wrong());
        }
        Ok(DiskSize {
            comparison,
            bytes: bytes as u64,
            text: format!("{number} {name}"),
        })
    }
}

impl TryFrom<String> for DiskSize {
    type Error = String;

    fn try_from(text: String) -> Result<DiskSize, String> {
        text.parse()
    }
}

impl From<DiskSize> for String {
    fn from(size: DiskSize) -> String {
        size.to_string()
    }
}

impl fmt::Display for DiskSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comparison = match self.comparison {
            Comparison::About => "",
            Comparison::AtLeast => ">= ",
            Comparison::AtMost => "<= ",
        };
        write!(f, "{comparison}{}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_means_the_disks_that_are_sold_under_it() {
        for (wanted, bytes, is_meant) in [
            ("500GB", 500_107_862_016, true),
            ("500 gb", 480_103_981_056, true),
            ("500GB", 512_110_190_592, true),
            ("500GB", 466_000_000_000, false),
            ("2TB", 2_000_398_934_016, true),
            ("<= 2TB", 2_000_398_934_016, true),
            ("<=2TB", 2_200_000_000_000, false),
            (">= 100GB", 100_000_000_000, true),
            (">=100GB", 90_000_000_000, false),
            ("1.5TiB", 3 << 39, true),
            ("16GiB", 16 << 30, true),
        ] {
            let size: DiskSize = wanted.parse().unwrap();
            assert_eq!(size.matches(bytes), is_meant, "{wanted} and {bytes}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "", "500", "GB", "-5GB", "5 PB5", "1e3GB", "> 5GB", "0GB", "1..5GB",
        ] {
            assert!(text.parse::<DiskSize>().is_err(), "{text}");
        }
    }
}
