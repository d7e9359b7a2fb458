//! The `Range` header (RFC 9110, section 14).

/// What part of a representation a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it, with status 200. Also the answer to what is not understood and to several
    /// ranges at once: containers/image takes the pieces out of the whole by itself, and takes
    /// any other answer but 206 and 400 for an error.
    Whole,
    /// The bytes from `first` to `last`, both included; status 206.
    Part {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte; below the size.
        last: u64,
    },
    /// Nothing; status 416.
    Nothing,
}

impl Wanted {
    /// Reads the header's value for a representation of `size` bytes.
    pub(super) fn parse(value: &str, size: u64) -> Wanted {
        let Some((unit, ranges)) = value.split_once('=') else {
            return Wanted::Whole;
        };
        if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
            return Wanted::Whole;
        }
        let Some((first, last)) = ranges.trim().split_once('-') else {
            return Wanted::Whole;
        };
        let (Ok(first), Ok(last)) = (offset(first), offset(last)) else {
            return Wanted::Whole;
        };
        let end = size.checked_sub(1);
        match (first, last, end) {
            (None, None, _) => Wanted::Whole,
            // the last bytes
            (None, Some(length), Some(end)) if length > 0 => Wanted::Part {
                first: size.saturating_sub(length),
                last: end,
            },
            (Some(first), None, Some(end)) if first <= end => Wanted::Part { first, last: end },
            (Some(first), Some(last), Some(end)) if first <= last && first <= end => Wanted::Part {
                first,
                last: last.min(end),
            },
            // `500-0` too: OCI's conformance suite wants 416 for it
            _ => Wanted::Nothing,
        }
    }
}

/// Digits, or nothing at all. A number that does not fit is beyond every end.
fn offset(text: &str) -> Result<Option<u64>, ()> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(());
    }
    Ok((!text.is_empty()).then(|| text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(first: u64, last: u64) -> Wanted {
        Wanted::Part { first, last }
    }

    #[test]
    fn ranges_are_answered_as_oci_conformance_and_clients_expect() {
        for (value, wanted) in [
            ("bytes=500-1499", part(500, 1499)),
            ("bytes=500-", part(500, 1999)),
            ("bytes=0-", part(0, 1999)),
            ("bytes=-500", part(1500, 1999)),
            ("bytes=-5000", part(0, 1999)),
            ("bytes=1000-5000", part(1000, 1999)),
            ("bytes=1999-1999", part(1999, 1999)),
            ("BYTES=0-0", part(0, 0)),
            ("bytes=0-99999999999999999999999", part(0, 1999)),
            ("bytes=2000-", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=5000-10000", Wanted::Nothing),
            ("bytes=500-0", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=0-9,50-99", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=1 -2", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(Wanted::parse(value, 2000), wanted, "{value}");
        }
    }

    #[test]
    fn of_nothing_no_part_can_be_had() {
        for value in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"] {
            assert_eq!(Wanted::parse(value, 0), Wanted::Nothing, "{value}");
        }
        assert_eq!(Wanted::parse("bytes=0-1,3-4", 0), Wanted::Whole);
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_never_beyond_the_end(
            value in "(bytes=)?[0-9]{0,21}-?[0-9]{0,21}|\\PC{0,30}", size in any::<u64>()
        ) {
            if let Wanted::Part { first, last } = Wanted::parse(&value, size) {
                prop_assert!(first <= last && last < size);
            }
        }
    }
}
