//! The registry as other machines reach it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use image_layout::Host;

/// Where the registry is and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Whether there is TLS.
    pub(crate) scheme: Scheme,
    /// `192.168.0.2:5000`.
    pub(crate) authority: Host,
    /// The certificate of the authority that signed the registry's, as PEM.
    pub(crate) ca_pem: Option<String>,
    /// Whether it wants a user's name and password.
    pub(crate) users: bool,
}

/// How the registry is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// Text that is no address of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidEndpoint {
    /// It has no scheme, or another one.
    #[error("an endpoint begins with http:// or https://")]
    Scheme,
    /// It has more than a host and a port.
    #[error("an endpoint is http://HOST:PORT or https://HOST:PORT, without a path or a user")]
    Host,
}

impl Endpoint {
    /// `http://192.168.0.2:5000`.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// Whether only the machine itself reaches it there.
    pub(crate) fn is_loopback(&self) -> bool {
        let name = host_of(self.authority.as_str());
        name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }
}

/// The host of `HOST`, `HOST:PORT`, `[IPV6]:PORT`.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => authority
            .split_once(':')
            .map_or(authority, |(host, _)| host),
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Endpoint, InvalidEndpoint> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidEndpoint::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(InvalidEndpoint::Scheme),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        Ok(Endpoint {
            scheme,
            authority: authority.parse().map_err(|_| InvalidEndpoint::Host)?,
            ca_pem: None,
            users: false,
        })
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_scheme_a_host_and_perhaps_a_port() {
        for (text, url) in [
            ("http://192.168.0.2:5000", "http://192.168.0.2:5000"),
            ("https://depot.lab.test/", "https://depot.lab.test"),
            ("HTTPS://Depot:5000", "https://depot:5000"),
            ("http://[fd00::1]:5000", "http://[fd00::1]:5000"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().url(), url);
        }
        for (text, why) in [
            ("192.168.0.2:5000", InvalidEndpoint::Scheme),
            ("ftp://192.168.0.2", InvalidEndpoint::Scheme),
            ("", InvalidEndpoint::Scheme),
            ("http://", InvalidEndpoint::Host),
            ("http://host:5000/v2", InvalidEndpoint::Host),
            ("http://user:secret@host", InvalidEndpoint::Host),
            ("http://host:99999", InvalidEndpoint::Host),
            ("http://a b", InvalidEndpoint::Host),
            ("http://host\"\n[x]", InvalidEndpoint::Host),
            ("http://host?ns=x", InvalidEndpoint::Host),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(why), "{text:?}");
        }
    }

    #[test]
    fn loopback_is_known_by_name_and_by_address() {
        let loopback = |text: &str| text.parse::<Endpoint>().unwrap().is_loopback();
        for text in [
            "http://localhost:5000",
            "http://127.0.0.9",
            "http://[::1]:1",
        ] {
            assert!(loopback(text), "{text}");
        }
        for text in ["http://192.168.0.2:5000", "http://localhost.lab.test"] {
            assert!(!loopback(text), "{text}");
        }
    }
}
