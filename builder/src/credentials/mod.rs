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
        })
    }

    /// The files that go onto a stick, by their path in HAUL's directory of secrets: for agents
    /// alone what an agent needs, without any key.
    pub fn for_stick(&self, agents_only: bool) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.lines();
        if agents_only {
            files.remove(secrets::SERVER_TOKEN);
        }
        for (name, contents) in &self.tls {
            if !agents_only || *name == secrets::SERVER_CA {
                files.insert(format!("{}/{name}", secrets::TLS), contents.clone());
            }
        }
        files
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
}
