//! `registries.yaml` by wharfie's rules (rancher/wharfie: pkg/registries) and what containerd then
//! does with it (k3s: pkg/agent/containerd).

use std::collections::BTreeMap;

use base64::Engine as _;
use serde::Deserialize;

/// The file. Keys that are not in it are ignored, as k3s ignores them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Registries {
    /// By registry, `docker.io`, or `*` for every other one.
    pub mirrors: BTreeMap<String, Mirror>,
    /// By the host and port of an endpoint, or `*`.
    pub configs: BTreeMap<String, Config>,
}

/// How an endpoint is spoken to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    /// As whom.
    pub auth: Option<Auth>,
}

/// A user of a registry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
}

/// Where the images of one registry are to be had.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Mirror {
    /// Addresses, asked in this order.
    #[serde(rename = "endpoint")]
    pub endpoints: Vec<String>,
}

/// Where requests for one registry go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://127.0.0.1:5000/v2`.
    pub base: String,
    /// `127.0.0.1:5000`.
    pub authority: String,
    /// What to say when it asks who is there: the header `Authorization`.
    pub authorization: Option<String>,
}

impl Registries {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Registries, String> {
        match text.trim().is_empty() {
            true => Ok(Registries::default()),
            false => serde_yaml::from_str(text).map_err(|error| error.to_string()),
        }
    }

    /// The endpoints for a registry: its own, else those of `*`.
    pub fn endpoints(&self, registry: &str) -> Result<Vec<Endpoint>, String> {
        let mirror = self.mirrors.get(registry).or_else(|| self.mirrors.get("*"));
        mirror
            .map_or(&[][..], |mirror| mirror.endpoints.as_slice())
            .iter()
            .map(|address| {
                let mut endpoint = endpoint(address)?;
                endpoint.authorization = self.authorization(&endpoint.authority);
                Ok(endpoint)
            })
            .collect()
    }

    fn authorization(&self, authority: &str) -> Option<String> {
        let config = self.configs.get(authority);
        let auth = config.or_else(|| self.configs.get("*"))?.auth.as_ref()?;
        let both = format!("{}:{}", auth.username, auth.password);
        let encoded = base64::engine::general_purpose::STANDARD.encode(both);
        Some(format!("Basic {encoded}"))
    }
}

/// Normalises an address: no scheme is https, except for the loopback with a port of its own; a
/// path other than `/v2` replaces it.
fn endpoint(address: &str) -> Result<Endpoint, String> {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None => {
            let authority = address.split('/').next().unwrap_or_default();
            let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
            let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
            let plain = local && !port.is_empty() && port != "443";
            (if plain { "http" } else { "https" }, address)
        }
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.is_empty() {
        return Err(format!("{address:?} has no host"));
    }
    let path = match path.trim_matches('/') {
        "" | "v2" => "v2",
        other => other,
    };
    Ok(Endpoint {
        base: format!("{scheme}://{authority}/{path}"),
        authority: authority.to_owned(),
        authorization: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_has_its_own_mirror_or_everybody_s() {
        let registries = Registries::parse(
            "mirrors:\n  docker.io:\n    endpoint: [\"http://127.0.0.1:5000\"]\n  \"*\":\n    \
             endpoint: [\"http://127.0.0.1:5001/v2\"]\nspeed: 3\n",
        )
        .unwrap();
        let base = |registry| registries.endpoints(registry).unwrap()[0].base.clone();
        assert_eq!(base("docker.io"), "http://127.0.0.1:5000/v2");
        assert_eq!(base("quay.io"), "http://127.0.0.1:5001/v2");
        assert_eq!(
            Registries::parse("").unwrap().endpoints("docker.io"),
            Ok(vec![])
        );
    }

    #[test]
    fn an_endpoint_has_the_user_of_its_own_address() {
        let registries = Registries::parse(
            "mirrors:\n  \"*\":\n    endpoint: [\"http://127.0.0.1:5000\", \"https://other.example\"]\n\
             configs:\n  \"127.0.0.1:5000\":\n    auth: {username: a, password: \"b:c\"}\n",
        )
        .unwrap();
        let endpoints = registries.endpoints("docker.io").unwrap();
        let said: Vec<_> = endpoints
            .iter()
            .map(|endpoint| endpoint.authorization.as_deref())
            .collect();
        assert_eq!(said, [Some("Basic YTpiOmM="), None]);
    }

    #[test]
    fn addresses_are_normalised_as_k3s_does() {
        for (address, base) in [
            ("localhost:5000", "http://localhost:5000/v2"),
            ("localhost:443", "https://localhost:443/v2"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/v2"),
            ("http://10.0.0.1:5000/", "http://10.0.0.1:5000/v2"),
            ("https://host/custom/path", "https://host/custom/path"),
        ] {
            assert_eq!(endpoint(address).unwrap().base, base, "{address}");
        }
        assert!(endpoint("http:///v2").is_err());
    }
}
