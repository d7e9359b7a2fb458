//! `Authorization: Basic`, RFC 7617.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Padding is left out by some clients.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A name and a password, neither checked.
pub(super) struct Credentials {
    pub(super) name: String,
    pub(super) password: Vec<u8>,
}

/// What a request brings; none where that is nothing, or nothing that can be read as such.
pub(super) fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let value = all.next()?.as_bytes();
    // of two nobody knows which one counts
    if all.next().is_some() {
        return None;
    }
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = value.split_at(space);
    if !scheme.eq_ignore_ascii_case(b"Basic") {
        return None;
    }
    let decoded = BASE64.decode(rest.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (name, password) = decoded.split_at(colon);
    // containers/image without a user sends this; it is no guess
    if name.is_empty() {
        return None;
    }
    Some(Credentials {
        name: String::from_utf8(name.to_vec()).ok()?,
        password: password.get(1..)?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(values: &[&str]) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_str(value).unwrap();
            headers.append(header::AUTHORIZATION, value);
        }
        let found = credentials(&headers)?;
        Some((found.name, String::from_utf8(found.password).unwrap()))
    }

    #[test]
    fn name_and_password_are_parted_by_the_first_colon() {
        let is = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        assert_eq!(read(&["Basic YTpiOmM="]), is("a", "b:c"));
        assert_eq!(read(&["bAsIc   YTpiOmM"]), is("a", "b:c"));
        assert_eq!(read(&["Basic YTo="]), is("a", ""));
    }

    #[test]
    fn what_is_no_such_header_brings_nothing() {
        for value in [
            "",
            "Basic",
            "Basic ",
            "Basic !",
            "Basic YQ==",
            "Bearer YTpi",
            "Basic Og==",
            "Basic OmI=",
            "BasicYTpi",
            "YTpi",
            "Basic /zph",
            "Basic YTpi YTpi",
        ] {
            assert_eq!(read(&[value]), None, "{value:?}");
        }
        assert_eq!(read(&["Basic YTpi", "Basic YTpi"]), None);
    }
}
