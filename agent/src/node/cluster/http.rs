//! A small HTTPS client: one request a connection, everything bounded.
//!
//! It trusts the roots it is given and nothing else; a node has no others.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, DATE, HOST, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::early_clock::EarlyClock;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a whole request may take.
const REQUEST: Duration = Duration::from_secs(15);
/// Bytes of an answer's head.
const HEAD_BYTES: usize = 32 << 10;

/// Whom to ask: `https://192.168.0.2:6443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    host: String,
    port: u16,
}

impl Origin {
    /// From a URL; its path is not looked at.
    pub(super) fn parse(url: &str) -> Result<Origin, HttpError> {
        let wrong = || HttpError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("https") {
            return Err(wrong());
        }
        Ok(Origin {
            host: uri.host().ok_or_else(wrong)?.to_owned(),
            port: uri.port_u16().unwrap_or(443),
        })
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Who asks, where the server wants to know.
#[derive(Clone)]
pub(super) struct Basic {
    /// User.
    pub(super) user: String,
    /// Password.
    pub(super) password: String,
}

/// What a server answered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Status, `200`.
    pub(super) status: u16,
    /// The server's time, if it says.
    pub(super) date: Option<SystemTime>,
    /// What it says.
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// Not an address of this kind.
    #[error("{0} is no https address")]
    Url(String),
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No way to the machine.
    #[error("no route")]
    NoRoute,
    /// It took too long.
    #[error("no answer")]
    Timeout,
    /// Another fault of the connection.
    #[error("{0}")]
    Connection(#[source] io::Error),
    /// The certificate does not prove what it has to.
    #[error("its certificate is not accepted: {0}")]
    Certificate(CertificateError),
    /// TLS, but for the certificate.
    #[error("{0}")]
    Tls(#[source] rustls::Error),
    /// It speaks, and not HTTP.
    #[error("{0}")]
    Http(#[source] hyper::Error),
    /// The answer is too long.
    #[error("its answer is longer than {0} bytes")]
    TooLong(usize),
    /// The request can't be written.
    #[error("the request can't be written: {0}")]
    Request(#[source] hyper::http::Error),
}

impl HttpError {
    /// Whether the server's certificate comes from another authority than ours.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(
            self,
            HttpError::Certificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature
            )
        )
    }
}

/// Roots or a client's certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum PemError {
    /// No certificates, or none that can be read.
    #[error("the file holds no certificate that can be used: {0}")]
    Certificate(String),
    /// No key, or none that can be read.
    #[error("the file holds no key that can be used: {0}")]
    Key(String),
    /// Both of them, and they don't fit.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

/// Speaks to servers whose certificates come from given authorities.
#[derive(Clone)]
pub(super) struct Client {
    tls: TlsConnector,
    request: Duration,
}

impl Client {
    /// `roots` are certificates in PEM; `own` are certificate and key in PEM, for servers that ask
    /// for one.
    pub(super) fn new(roots: &[u8], own: Option<(&[u8], &[u8])>) -> Result<Client, PemError> {
        let mut store = RootCertStore::empty();
        for root in certificates(roots)? {
            store.add(root)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
                .build()
                .map_err(|error| PemError::Certificate(error.to_string()))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(EarlyClock::over(verifier)));
        let config = match own {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|error| PemError::Key(error.to_string()))?;
                config.with_client_auth_cert(certificates(chain)?, key)?
            }
        };
        Ok(Client {
            tls: TlsConnector::from(Arc::new(config)),
            request: REQUEST,
        })
    }

    /// The same with another bound on the time of a whole request.
    #[cfg(test)]
    pub(super) fn within(self, request: Duration) -> Client {
        Client { request, ..self }
    }

    /// Asks for `path`. The answer's body has at most `limit` bytes.
    pub(super) async fn get(
        &self,
        origin: &Origin,
        path: &str,
        basic: Option<&Basic>,
        limit: usize,
    ) -> Result<Answer, HttpError> {
        let exchange = self.exchange(origin, path, basic, limit);
        let timed = tokio::time::timeout(self.request, exchange).await;
        timed.map_err(|_| HttpError::Timeout)?
    }

    async fn exchange(
        &self,
        origin: &Origin,
        path: &str,
        basic: Option<&Basic>,
        limit: usize,
    ) -> Result<Answer, HttpError> {
        let bare = origin.host.trim_matches(['[', ']']);
        let name = match bare.parse::<IpAddr>() {
            Ok(address) => ServerName::from(address),
            Err(_) => ServerName::try_from(bare.to_owned())
                .map_err(|_| HttpError::Url(origin.to_string()))?,
        };
        let connect = TcpStream::connect((bare, origin.port));
        let stream = tokio::time::timeout(CONNECT, connect)
            .await
            .map_err(|_| HttpError::Timeout)?
            .map_err(classify)?;
        let stream = self.tls.connect(name, stream).await.map_err(classify)?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES);
        let (mut sender, connection) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(http)?;
        let mut request = Request::get(path)
            .header(HOST, origin.to_string())
            .header(CONNECTION, "close");
        if let Some(basic) = basic {
            request = request.header(AUTHORIZATION, authorization(basic)?);
        }
        let request = request
            .body(Empty::<bytes::Bytes>::new())
            .map_err(HttpError::Request)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(http)?;
            let (head, body) = response.into_parts();
            let date = head.headers.get(DATE).and_then(|date| date.to_str().ok());
            let body = Limited::new(body, limit).collect().await;
            let body = body.map_err(|error| too_long(error, limit))?;
            Ok(Answer {
                status: head.status.as_u16(),
                date: date.and_then(|date| httpdate::parse_http_date(date).ok()),
                body: body.to_bytes().into(),
            })
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // the connection is done with before its last bytes are looked at
            ended = connection => {
                ended.map_err(http)?;
                answer.await
            }
        }
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let wrong = |why: String| PemError::Certificate(why);
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| wrong(error.to_string()))?;
    match read.is_empty() {
        true => Err(wrong("it is empty".to_owned())),
        false => Ok(read),
    }
}

fn authorization(basic: &Basic) -> Result<HeaderValue, HttpError> {
    let pair = format!("{}:{}", basic.user, basic.password);
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::try_from(format!("Basic {encoded}"))
        .map_err(|error| HttpError::Request(error.into()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A connection's fault; rustls hides its own in an [`io::Error`].
fn classify(error: io::Error) -> HttpError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(error)) => {
            return HttpError::Certificate(error.clone());
        }
        Some(other) => return HttpError::Tls(other.clone()),
        None => {}
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => HttpError::Refused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => HttpError::NoRoute,
        io::ErrorKind::TimedOut => HttpError::Timeout,
        _ => HttpError::Connection(error),
    }
}

fn http(error: hyper::Error) -> HttpError {
    HttpError::Http(error)
}

fn too_long(error: Box<dyn std::error::Error + Send + Sync>, limit: usize) -> HttpError {
    match error.downcast::<hyper::Error>() {
        Ok(error) => HttpError::Http(*error),
        Err(other) if other.is::<LengthLimitError>() => HttpError::TooLong(limit),
        Err(other) => HttpError::Connection(io::Error::other(other)),
    }
}
