//! Names of images: registry host, repository, tag and digest.
//!
//! Grammar: OCI distribution-spec "Pulling manifests"; defaults and normalisation as Docker and
//! containerd apply them (distribution/reference: `ParseNormalizedNamed`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The host that short names mean.
pub const DOCKER_HUB: &str = "docker.io";

/// A name that can't be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no image name: {why}")]
pub struct InvalidReference {
    /// The name as given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $why:literal, $valid:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as a string.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidReference;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match $valid(text) {
                    Some(name) => Ok($name(name)),
                    None => Err(InvalidReference { text: text.to_owned(), why: $why }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidReference;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// A registry's host, `HOST` or `HOST:PORT`, in lower case. `index.docker.io` and
    /// `registry-1.docker.io` are `docker.io`.
    Host,
    "a host has letters, digits, dots and dashes, and perhaps a port",
    valid_host
);
name_type!(
    /// A repository within a registry: `library/nginx`.
    Repository,
    "a repository has lower-case letters and digits, separated by . _ - or /",
    valid_repository
);
name_type!(
    /// A tag: `1.16.0`.
    Tag,
    "a tag has at most 128 letters, digits, dots, dashes and underscores",
    valid_tag
);

impl Host {
    /// `docker.io`.
    pub fn docker_hub() -> Host {
        Host(DOCKER_HUB.to_owned())
    }

    /// Whether it is an address of IPv6, which stands in brackets: `[fd00::2]:5000`.
    pub fn is_ipv6(&self) -> bool {
        self.0.starts_with('[')
    }

    /// `localhost`.
    pub fn localhost() -> Host {
        Host("localhost".to_owned())
    }
}

fn valid_host(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let (name, port) = match lower.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (None, after)
        }
        None => match lower.split_once(':') {
            Some((name, _)) => (Some(name), &lower[name.len()..]),
            None => (Some(lower.as_str()), ""),
        },
    };
    if !port.is_empty() {
        port.strip_prefix(':')?.parse::<u16>().ok()?;
    }
    if let Some(name) = name {
        let label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return None;
        }
    }
    Some(match lower.as_str() {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        _ => lower,
    })
}

fn valid_repository(text: &str) -> Option<String> {
    // [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*, joined by slashes
    let component = |part: &str| {
        let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let (Some(first), Some(last)) = (part.bytes().next(), part.bytes().next_back()) else {
            return false;
        };
        alnum(first)
            && alnum(last)
            && part
                .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                .filter(|separator| !separator.is_empty())
                .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
    };
    (text.len() <= 255 && text.split('/').all(component)).then(|| text.to_owned())
}

fn valid_tag(text: &str) -> Option<String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let valid = text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    valid.then(|| text.to_owned())
}

/// The name of an image with its host, as `io.containerd.image.name` carries it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Registry; Docker Hub where the name gave none.
    pub host: Host,
    /// Repository; `library/` is put before single names of Docker Hub.
    pub repository: Repository,
    /// Tag, if the name gave one. None is made up.
    pub tag: Option<Tag>,
    /// Digest, if the name gave one.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Whether the first component of a name is a host: it has a dot or a port, or is `localhost`.
    pub fn is_host(component: &str) -> bool {
        component.contains(['.', ':']) || component == "localhost"
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |why| InvalidReference {
            text: text.to_owned(),
            why,
        };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (
                name,
                Some(
                    digest
                        .parse()
                        .map_err(|_| invalid("its digest is malformed"))?,
                ),
            ),
            None => (text, None),
        };
        let after_slash = name.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match name[after_slash..].rfind(':') {
            Some(colon) => {
                let colon = after_slash + colon;
                (&name[..colon], Some(name[colon + 1..].parse()?))
            }
            None => (name, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((first, rest)) if Reference::is_host(first) => (first.parse()?, rest),
            _ => (Host::docker_hub(), name),
        };
        let repository = if host.as_str() == DOCKER_HUB && !path.contains('/') {
            format!("library/{path}").parse()?
        } else {
            path.parse()?
        };
        Ok(Reference {
            host,
            repository,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_completed_as_docker_completes_them() {
        for (given, full) in [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.16.0", "docker.io/library/nginx:1.16.0"),
            (
                "rancher/mirrored-pause:3.6",
                "docker.io/rancher/mirrored-pause:3.6",
            ),
            (
                "index.docker.io/library/hello:1",
                "docker.io/library/hello:1",
            ),
            ("localhost/app:1", "localhost/app:1"),
            ("127.0.0.1:5055/a/b:2", "127.0.0.1:5055/a/b:2"),
            (
                "Registry.Lab.Test/my.org/app:1",
                "registry.lab.test/my.org/app:1",
            ),
            ("[::1]:5000/app:1", "[::1]:5000/app:1"),
        ] {
            assert_eq!(
                given.parse::<Reference>().unwrap().to_string(),
                full,
                "{given}"
            );
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "/",
            "a//b",
            "UPPER/case",
            "a/../b",
            "a:b:c/d",
            "a@sha256:12",
            "a/b:",
            "-a",
            "a_",
            "a...b",
            "a/b c",
            "a/b\r\nX: y",
            "host.test:99999/a",
            "host.test/",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn separators_follow_the_specification() {
        for good in ["a", "a.b", "a_b", "a__b", "a---b", "a/b-c/d.e_f"] {
            assert!(good.parse::<Repository>().is_ok(), "{good}");
        }
        for bad in ["a___b", "a..b", "a._b", ".a", "a/", "a/.b"] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics_and_what_parses_prints_as_it_parses(text in "\\PC{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
            }
        }
    }
}
