//! TLS on the port that HTTP has: the first byte decides.
//!
//! A TLS record of a handshake begins with 0x16 (RFC 8446, 5.1), which begins no method of HTTP.

use std::io::ErrorKind;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::super::limits;

/// First byte of a record with a handshake.
const HANDSHAKE: u8 = 0x16;

/// Why a certificate and its key are of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("the certificate is no PEM: {0}")]
    Certificate(rustls::pki_types::pem::Error),
    #[error("there is no certificate in it")]
    NoCertificate,
    #[error("the key is no PEM of a private key: {0}")]
    Key(rustls::pki_types::pem::Error),
    #[error("certificate and key: {0}")]
    Pair(#[from] rustls::Error),
}

/// How a server with this certificate, the first of a chain perhaps, and its key speaks TLS: 1.2
/// and 1.3, and HTTP/1.1 within, since no client of a registry wants another.
pub(super) fn server_config(certificate: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(TlsError::Certificate)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::registry) enum Begins {
    Tls,
    /// Or with something that HTTP's layer will refuse.
    Http,
    /// It ended, or nothing came in time.
    Nothing,
}

/// Waits for the first byte and leaves it where it is.
pub(in crate::registry) async fn begins(stream: &TcpStream) -> Begins {
    let mut first = [0];
    match timeout(limits::HEADER_TIME, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first == [HANDSHAKE] => Begins::Tls,
        Ok(Ok(1)) => Begins::Http,
        Ok(_) | Err(_) => Begins::Nothing,
    }
}

/// The handshake, within the time for headers.
pub(in crate::registry) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ServerConfig>,
    stream: S,
) -> std::io::Result<TlsStream<S>> {
    let accepted = TlsAcceptor::from(config).accept(stream);
    timeout(limits::HEADER_TIME, accepted)
        .await
        .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}
