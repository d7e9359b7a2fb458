//! Where other machines reach this registry, for lines that they copy.

use std::net::SocketAddr;

use axum::http::header;
use axum::http::request::Parts;
use image_layout::Host;
use image_layout::status::Status;

use super::state::Registry;
use crate::mirrors::{Endpoint, Scheme};

/// This end of a connection; among a request's extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local(pub(super) SocketAddr);

/// The address in `cluster.yaml`; else the one that the client used, if that is a host with perhaps
/// a port and nothing else; else this end of the connection.
pub(super) fn endpoint(registry: &Registry, request: &Parts, status: Option<&Status>) -> Endpoint {
    let configured = status
        .and_then(|status| status.node.as_ref())
        .and_then(|node| node.registry_address.parse::<Host>().ok());
    let used = || {
        let host = request.headers.get(header::HOST)?;
        host.to_str().ok()?.parse::<Host>().ok()
    };
    let local = || {
        let Local(address) = request.extensions.get::<Local>()?;
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        address.to_string().parse::<Host>().ok()
    };
    let authority = configured.or_else(used).or_else(local);
    let (scheme, ca_pem, users) = access(registry);
    Endpoint {
        scheme,
        authority: authority.unwrap_or_else(Host::localhost),
        ca_pem,
        users,
    }
}

/// What the registry asks of other machines.
fn access(registry: &Registry) -> (Scheme, Option<String>, bool) {
    let access = &registry.access;
    match access.tls() {
        true => (Scheme::Https, access.ca_pem(), access.needs_user()),
        false => (Scheme::Http, None, access.needs_user()),
    }
}
