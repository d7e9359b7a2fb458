//! What makes a cluster one cluster: authorities, tokens, the secret of node passwords, and the
//! administrator's certificate.
//!
//! They are made when the image is, so that a node needs nobody who hands them to it, and so that
//! every stick of a cluster fits every other. [`Credentials::make`] makes them; [`open`] finds
//! those of an image again, checks them, or makes new ones; [`Placed::save`] puts them in place.

mod error;
mod kubeconfig;
mod pki;
mod store;
mod token;

use std::collections::BTreeMap;
use std::path::PathBuf;

use image_layout::paths::secrets;

pub use error::CredentialsError;
pub use kubeconfig::{Server, kubeconfig_text, with_server};
pub use store::{Origin, Placed, beside, kubeconfig_beside, open};

/// Everything secret of a cluster.
///
/// What is in it agrees with itself: keys with their certificates, tokens with the authority.
#[derive(Clone)]
pub struct Credentials {
    /// Files by their name inside [`secrets::TLS`].
    tls: BTreeMap<&'static str, Vec<u8>>,
    server_token: String,
    agent_token: String,
    cluster_secret: String,
    admin: Admin,
    /// The authority of the registries' certificates, if some image asked for it yet.
    registry: Option<RegistryAuthority>,
}

/// An authority's certificate and key, both PEM.
#[derive(Clone)]
struct RegistryAuthority {
    certificate: Vec<u8>,
    key: Vec<u8>,
    /// Whether it is in the directory already.
    kept: bool,
}

/// Whom an image is for, which decides about the secrets on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Machines of any role.
    Servers,
    /// Agents alone.
    Agents,
    /// Registries: there is no k3s on it.
    Registries,
}

/// The administrator's certificate and key, both PEM.
#[derive(Clone)]
struct Admin {
    certificate: String,
    key: String,
}

impl std::fmt::Debug for Credentials {
    /// Nothing of it belongs into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// Makes those of a new cluster.
    ///
    /// # Errors
    /// If this machine has no randomness to give.
    pub fn make() -> Result<Credentials, CredentialsError> {
        let now = pki::now();
        let tls = pki::authorities(now)?;
        let file = |name: &str| tls.get(name).map(Vec::as_slice).unwrap_or_default();
        let admin = pki::admin(file("client-ca.crt"), file("client-ca.key"), now)
            .map_err(CredentialsError::Make)?;
        let server_ca = file(secrets::SERVER_CA);
        Ok(Credentials {
            server_token: token::render(server_ca, token::SERVER, &token::random()?),
            agent_token: token::render(server_ca, token::AGENT, &token::random()?),
            cluster_secret: token::random()?,
            tls,
            admin,
            registry: None,
        })
    }

    /// Makes the authority of the registries' certificates, unless it was made once before.
    ///
    /// # Errors
    /// If this machine has no randomness to give.
    pub fn want_registry_authority(&mut self) -> Result<(), CredentialsError> {
        if self.registry.is_none() {
            let (certificate, key) = pki::registry_authority(pki::now())?;
            self.registry = Some(RegistryAuthority {
                certificate,
                key,
                kept: false,
            });
        }
        Ok(())
    }

    /// The files that go onto a stick, by their path in HAUL's directory of secrets: for agents
    /// alone what an agent needs, without any key of the cluster's; for registries nothing of
    /// k3s's. The registry's authority goes onto each where `https` is wanted: a node issues its own
    /// certificate.
    pub fn for_stick(&self, whom: For, https: bool) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.lines();
        if whom != For::Servers {
            files.remove(secrets::SERVER_TOKEN);
        }
        if whom == For::Registries {
            files.remove(secrets::AGENT_TOKEN);
        }
        for (name, contents) in &self.tls {
            let wanted = match whom {
                For::Servers => true,
                For::Agents => *name == secrets::SERVER_CA,
                For::Registries => false,
            };
            if wanted {
                files.insert(format!("{}/{name}", secrets::TLS), contents.clone());
            }
        }
        if https {
            files.extend(self.registry_files());
        }
        files
    }

    /// The registry's authority, by path. The certificate comes last: it says that the key is there.
    fn registry_files(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        let path = |name| format!("{}/{name}", secrets::TLS);
        self.registry.iter().flat_map(move |authority| {
            [
                (path(secrets::REGISTRY_CA_KEY), authority.key.clone()),
                (path(secrets::REGISTRY_CA), authority.certificate.clone()),
            ]
        })
    }

    /// The files that are one line.
    fn lines(&self) -> BTreeMap<String, Vec<u8>> {
        [
            (secrets::SERVER_TOKEN, &self.server_token),
            (secrets::AGENT_TOKEN, &self.agent_token),
            (secrets::CLUSTER_SECRET, &self.cluster_secret),
        ]
        .into_iter()
        .map(|(name, line)| (name.to_owned(), format!("{line}\n").into_bytes()))
        .collect()
    }

    /// The administrator's kubeconfig for a cluster called `name`.
    pub fn kubeconfig(&self, name: &str, server: &Server) -> String {
        let server_ca = self.tls.get(secrets::SERVER_CA);
        kubeconfig::render(
            name,
            server,
            server_ca.map(Vec::as_slice).unwrap_or_default(),
            &self.admin,
        )
    }
}

/// Where credentials are, and what a person should know of them.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The directory.
    pub directory: PathBuf,
    /// Whether they were there before.
    pub origin: Origin,
    /// The kubeconfig to use.
    pub kubeconfig: PathBuf,
    /// The address in it.
    pub server: Server,
    /// The certificate of the registries' authority, if the image has one.
    pub registry_ca: Option<PathBuf>,
}
