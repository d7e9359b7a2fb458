//! Conditional requests (RFC 9110, section 13), over entity tags alone.
//!
//! What is served is named by its digest and has no date that means anything: conditions on dates
//! are ignored, as the standard allows where there is no `Last-Modified`.

use axum::http::{HeaderMap, HeaderName, header};

/// What a request's conditions lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Answer as if there were none.
    Proceed,
    /// The client has it already: 304.
    NotModified,
    /// The client wants another state of it: 412.
    Failed,
}

/// Weighs `If-Match` and `If-None-Match` for a representation whose strong tag is `etag`, with its
/// quotes.
pub(super) fn weigh(headers: &HeaderMap, etag: &str) -> Condition {
    if headers.contains_key(header::IF_MATCH) && !lists(headers, header::IF_MATCH, etag, false) {
        return Condition::Failed;
    }
    if lists(headers, header::IF_NONE_MATCH, etag, true) {
        return Condition::NotModified;
    }
    Condition::Proceed
}

/// Whether `If-Range`, if there is one, lets `Range` count. A date never does.
pub(super) fn range_counts(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get(header::IF_RANGE)
        .is_none_or(|value| value.as_bytes() == etag.as_bytes())
}

/// Whether one of the header's tags is `etag`, or is `*`. Tags are quoted digests, in which no
/// comma can stand.
fn lists(headers: &HeaderMap, name: HeaderName, etag: &str, weak_counts: bool) -> bool {
    let same = |tag: &str| {
        let tag = tag.trim();
        let strong = match tag.strip_prefix("W/") {
            Some(weak) if weak_counts => weak,
            _ => tag,
        };
        strong == etag || tag == "*"
    };
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(same))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn weighed(name: HeaderName, value: &'static str) -> Condition {
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        weigh(&headers, "\"sha256:aa\"")
    }

    #[test]
    fn conditions_compare_entity_tags() {
        use Condition::{Failed, NotModified, Proceed};
        for (value, expected) in [
            ("\"sha256:aa\"", NotModified),
            ("W/\"sha256:aa\"", NotModified),
            ("\"x\", \"sha256:aa\"", NotModified),
            ("*", NotModified),
            ("\"sha256:bb\"", Proceed),
            ("sha256:aa", Proceed),
            ("", Proceed),
        ] {
            assert_eq!(weighed(header::IF_NONE_MATCH, value), expected, "{value}");
        }
        for (value, expected) in [
            ("\"sha256:aa\"", Proceed),
            ("*", Proceed),
            ("W/\"sha256:aa\"", Failed),
            ("\"sha256:bb\"", Failed),
        ] {
            assert_eq!(weighed(header::IF_MATCH, value), expected, "{value}");
        }
    }

    #[test]
    fn a_range_counts_only_for_the_same_representation() {
        let counts = |value: &'static str| {
            let headers =
                HeaderMap::from_iter([(header::IF_RANGE, HeaderValue::from_static(value))]);
            range_counts(&headers, "\"sha256:aa\"")
        };
        assert!(counts("\"sha256:aa\""));
        assert!(!counts("W/\"sha256:aa\""));
        assert!(!counts("\"sha256:bb\""));
        assert!(!counts("Wed, 21 Oct 2015 07:28:00 GMT"));
        assert!(range_counts(&HeaderMap::new(), "\"sha256:aa\""));
    }
}
