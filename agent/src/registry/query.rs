//! The part of a request's target after the question mark.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// How many parameters are looked at. Clients send at most a handful.
const PARAMETERS: usize = 32;

/// The parameters that this registry knows, decoded once. What is not UTF-8 is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// `ns`: the registry that a mirror is asked for; the first one counts.
    pub(super) ns: Option<String>,
    /// `n`: how many entries a list may have.
    pub(super) n: Option<Result<usize, NotANumber>>,
    /// `last`: the entry after which a list goes on.
    pub(super) last: Option<String>,
    /// `artifactType`: each one is wanted.
    pub(super) artifact_types: Vec<String>,
    /// `format`.
    pub(super) format: Option<String>,
    /// `page`: which part of a page for people; what is no number is left out.
    pub(super) page: Option<usize>,
}

/// `n` is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotANumber;

impl Query {
    /// Reads a query string.
    pub(super) fn parse(raw: &str) -> Query {
        let mut query = Query::default();
        for pair in raw.split('&').take(PARAMETERS) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(key), Some(value)) = (decode(key), decode(value)) else {
                continue;
            };
            match key.as_str() {
                "ns" => {
                    query.ns.get_or_insert(value);
                }
                "n" => {
                    query.n.get_or_insert_with(|| number(&value));
                }
                "last" => {
                    query.last.get_or_insert(value);
                }
                // a form that was left empty wants all
                "artifactType" if value.is_empty() => {}
                "artifactType" => query.artifact_types.push(value),
                "page" => {
                    query.page = query.page.or(number(&value).ok());
                }
                "format" => {
                    query.format.get_or_insert(value);
                }
                _ => {}
            }
        }
        query
    }
}

/// No parameter has a space, but media types have plus signs, which people do not encode: a plus
/// is a plus.
fn decode(text: &str) -> Option<String> {
    percent_decode_str(text)
        .decode_utf8()
        .ok()
        .map(Cow::into_owned)
}

fn number(text: &str) -> Result<usize, NotANumber> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NotANumber);
    }
    // more than fits is more than there is
    Ok(text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_parameters_are_read_and_others_ignored() {
        let query = Query::parse(
            "ns=quay.io&x=1&n=5&last=a%2Fb&artifactType=a%2Fb%2Bjson&artifactType=c/d+e",
        );
        assert_eq!(query.ns.as_deref(), Some("quay.io"));
        assert_eq!(query.n, Some(Ok(5)));
        assert_eq!(query.last.as_deref(), Some("a/b"));
        assert_eq!(query.artifact_types, ["a/b+json", "c/d+e"]);
        assert!(Query::parse("artifactType=").artifact_types.is_empty());
    }

    #[test]
    fn numbers_are_digits_and_nothing_else() {
        let n = |raw: &str| Query::parse(raw).n;
        assert_eq!(n("n=0"), Some(Ok(0)));
        assert_eq!(n("n=99999999999999999999999"), Some(Ok(usize::MAX)));
        for bad in ["n=", "n=-1", "n=%2B1", "n=1e3", "n=abc", "n"] {
            assert_eq!(n(bad), Some(Err(NotANumber)), "{bad}");
        }
        assert_eq!(n(""), None);
    }

    proptest! {
        #[test]
        fn no_query_panics(raw in "[a-zA-Z0-9&=%+;/\\PC]{0,200}") {
            let query = Query::parse(&raw);
            prop_assert!(query.artifact_types.len() <= PARAMETERS);
        }
    }
}
