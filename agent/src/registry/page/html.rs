//! What every page has: head, style, the frame around its contents.

use std::fmt::{self, Write as _};
use std::sync::LazyLock;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image_layout::Digest;

use super::super::answers;

const STYLE: &str = include_str!("style.css");

/// Nothing is loaded from anywhere and nothing runs; the one style is known by its hash.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let Digest::Sha256(hash) = Digest::sha256_of(STYLE.as_bytes()) else {
        return None;
    };
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        STANDARD.encode(hash)
    );
    HeaderValue::try_from(policy).ok()
});

/// Text that stands in HTML as itself, in elements and in quoted attributes. Characters that would
/// change the direction of what follows, or hide, are shown by their numbers.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' => f.write_char(c)?,
                c if image_layout::text::is_harmless(c) => f.write_char(c)?,
                c => write!(f, "{}", c.escape_unicode())?,
            }
        }
        Ok(())
    }
}

/// Bytes as people write them.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut size = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while size >= 1024.0 && unit + 1 < UNITS.len() {
            size /= 1024.0;
            unit += 1;
        }
        let unit = UNITS.get(unit).copied().unwrap_or_default();
        write!(f, "{size:.1} {unit}")
    }
}

/// Lines to copy. They scroll by themselves, so that a keyboard must reach them.
pub(super) fn lines(lines: &str) -> String {
    format!(
        "<pre tabindex=\"0\"><code>{}</code></pre>\n",
        Escaped(lines.trim_end())
    )
}

/// A page: the title of its tab, what stands in its header below the name, and its main part.
pub(super) fn page(title: &str, head: &str, body: &str) -> Response {
    let mut page = String::with_capacity(STYLE.len() + head.len() + body.len() + 2048);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the contents</a>\n<div class=\"wrap\">\n\
         <header>\n<div class=\"brand\">{MARK}<span>Haulboot registry</span></div>\n{head}</header>\n\
         <main id=\"main\">\n{body}</main>\n<footer>Haulboot {}. \
         Everything here comes from this machine; nothing is loaded from elsewhere.</footer>\n\
         </div>\n</body>\n</html>\n",
        Escaped(title),
        env!("CARGO_PKG_VERSION"),
    );
    let media_type = "text/html; charset=utf-8";
    let mut response = answers::whole(StatusCode::OK, media_type, page.into_bytes());
    let headers = response.headers_mut();
    if let Some(policy) = POLICY.clone() {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Boxes on a barrow.
const MARK: &str = "<svg viewBox=\"0 0 24 24\" fill=\"none\" stroke=\"currentColor\" \
stroke-width=\"1.8\" stroke-linejoin=\"round\" aria-hidden=\"true\"><path d=\"M2 4h3l2 12h13\"/>\
<path d=\"M8.5 6h5v7h-4zM13.500 8.500h6V13h-6z\"/><circle cx=\"9\" cy=\"19.500\" r=\"1.500\"/>\
<circle cx=\"18\" cy=\"19.500\" r=\"1.500\"/></svg>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_haul_becomes_markup() {
        assert_eq!(
            Escaped("<a href='x' b=\"y\">&\u{202e}").to_string(),
            "&lt;a href=&#39;x&#39; b=&quot;y&quot;&gt;&amp;\\u{202e}"
        );
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(Size(0).to_string(), "0 B");
        assert_eq!(Size(1023).to_string(), "1023 B");
        assert_eq!(Size(1536).to_string(), "1.5 KiB");
        assert_eq!(Size(5 << 40).to_string(), "5.0 TiB");
    }

    #[test]
    fn the_style_is_the_one_that_the_policy_names_and_ends_no_element() {
        let response = page("t", "", "");
        let policy = &response.headers()[header::CONTENT_SECURITY_POLICY];
        let policy = policy.to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(!STYLE.contains('<'));
    }
}
