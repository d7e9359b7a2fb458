//! Who may read the registry, and how: HTTPS, and users with passwords.
//!
//! Both are off unless `registry.tls` or `registry.users` of `cluster.yaml`, or the arguments of
//! `agent serve`, ask for them. What is asked for and not to be had closes the registry: it never
//! falls back to answering everybody.
//!
//! | file | what |
//! |---|---|
//! | `material.rs` | what the node process hands over, and where |
//! | `source.rs` | from files to a [`Policy`], at start and whenever they change |
//! | `tls.rs` | the first byte, the handshake |
//! | `basic.rs` | the header `Authorization` |
//! | `users.rs` | passwords, and remembering those that were right |
//! | `failures.rs` | how often an address may be wrong |

mod basic;
mod failures;
mod material;
mod source;
mod tls;
mod users;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use rustls::ServerConfig;

pub(crate) use self::material::{Material, TlsMaterial, UsersMaterial, make_directory};
pub(super) use self::source::{AccessError, Files, Source};
pub(super) use self::tls::{Begins, begins, handshake};
use self::users::{Users, Verdict, Verifier};
use super::errors::{Code, refuse, retry_after};

/// Whether a request came over TLS; among a request's extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secure(pub(super) bool);

/// What is asked of clients at one time.
#[derive(Default)]
struct Policy {
    /// Whether other machines are answered over HTTPS alone.
    https_only: bool,
    /// The certificate, where there is one, and its authority.
    tls: Option<Arc<ServerConfig>>,
    ca_pem: Option<String>,
    /// Who may read; none: everybody.
    users: Option<Arc<Users>>,
    /// Why nobody else than this machine is answered, a sentence.
    closed: Option<String>,
    /// Whether it is not even known what is asked for; then nobody is answered.
    unknown: bool,
}

/// The policy that holds, and the memory of who was let in. Shared by all requests.
pub(super) struct Access {
    policy: RwLock<Arc<Policy>>,
    verifier: Arc<Verifier>,
}

impl std::fmt::Debug for Access {
    /// Nothing of it belongs into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Access")
    }
}

impl Default for Access {
    /// Everybody, over HTTP.
    fn default() -> Access {
        Access {
            policy: RwLock::default(),
            verifier: Arc::default(),
        }
    }
}

impl Access {
    fn policy(&self) -> Arc<Policy> {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&policy)
    }

    /// Puts another policy in force, for requests that come from now on.
    fn set(&self, policy: Policy) {
        self.verifier.forget_others(policy.users.as_deref());
        let mut held = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(policy);
    }

    /// Whether other machines are to use HTTPS.
    pub(super) fn tls(&self) -> bool {
        self.policy().https_only
    }

    /// The certificate of the authority, PEM, that clients check this registry by.
    pub(super) fn ca_pem(&self) -> Option<String> {
        self.policy().ca_pem.clone()
    }

    /// Whether clients need a name and a password.
    pub(super) fn needs_user(&self) -> bool {
        self.policy().users.is_some()
    }

    /// How connections that begin with TLS are answered; none: as HTTP, which tells them so.
    pub(super) fn server_config(&self) -> Option<Arc<ServerConfig>> {
        self.policy().tls.clone()
    }

    /// The answer to a request that may not be answered otherwise. `protocol` is whether it gets
    /// errors of the distribution protocol.
    pub(super) async fn refusal(&self, request: &Parts, protocol: bool) -> Option<Response> {
        let policy = self.policy();
        let client = request.extensions.get::<IpAddr>().copied();
        let here = client.is_some_and(|client| client.to_canonical().is_loopback());
        let secure = request.extensions.get::<Secure>().is_some_and(|it| it.0);
        if policy.unknown || (!here && policy.closed.is_some()) {
            let why = policy.closed.as_deref().unwrap_or(NOT_YET);
            return Some(unavailable(protocol, why, UNAVAILABLE_AGAIN));
        }
        if !here && !secure && policy.https_only {
            let why = "this registry answers other machines over HTTPS alone: use https:// with \
                       the same address and port";
            let denied = refuse(protocol, StatusCode::FORBIDDEN, Code::Denied, why);
            return Some(with(
                denied,
                header::CONNECTION,
                HeaderValue::from_static("close"),
            ));
        }
        let users = policy.users.as_ref()?;
        let client = client.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let credentials = basic::credentials(&request.headers);
        let verdict = self.verifier.check(users, client, credentials).await;
        match verdict {
            Verdict::Known => None,
            Verdict::Unknown => {
                let why = "this registry needs a name and a password";
                let refused = refuse(protocol, StatusCode::UNAUTHORIZED, Code::Unauthorized, why);
                let challenge = HeaderValue::from_static("Basic realm=\"haul\"");
                Some(with(refused, header::WWW_AUTHENTICATE, challenge))
            }
            Verdict::Limited(wait) => {
                let why = "too many wrong passwords came from this address; wait a while";
                let (status, code) = (StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests);
                Some(retry_after(refuse(protocol, status, code, why), wait))
            }
            Verdict::Busy => {
                let why = "too many passwords are being checked; try again";
                Some(unavailable(protocol, why, BUSY_AGAIN))
            }
        }
    }
}

/// Before the node process has said anything.
const NOT_YET: &str = "the node has not yet said who may read this registry; try again";
/// When to come back to a registry that is closed, and to one that is busy.
const UNAVAILABLE_AGAIN: Duration = Duration::from_secs(10);
const BUSY_AGAIN: Duration = Duration::from_secs(2);

fn unavailable(protocol: bool, why: &str, again: Duration) -> Response {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    retry_after(refuse(protocol, status, Code::Unavailable, why), again)
}

fn with(mut response: Response, name: header::HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}

#[cfg(test)]
mod tests;
