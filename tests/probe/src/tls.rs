//! Certificates: the CAs that lie in `server/tls`, leaves of them, and TLS on both sides.

use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine as _;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme, StreamOwned,
};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How long a leaf is valid (k3s: a year).
const LEAF_DAYS: i64 = 365;

/// A connection to a server.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A CA with its key.
pub struct Ca {
    /// The file's text.
    pub pem: String,
    /// When it begins.
    pub not_before: OffsetDateTime,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca")
            .field("not_before", &self.not_before)
            .finish_non_exhaustive()
    }
}

/// A certificate with its key, as files have them.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate and then its CA's.
    pub certificate: String,
    /// `EC PRIVATE KEY`, as k3s writes keys.
    pub key: String,
}

/// Whom a leaf is for.
#[derive(Debug)]
pub enum For<'a> {
    /// A server that is reached by these names and addresses.
    Server(&'a [String]),
    /// A client of this organisation.
    Client(&'a str),
}

impl Ca {
    /// Reads `NAME.crt` and `NAME.key`, and checks that they belong together.
    pub fn read(tls: &Path, name: &str) -> Result<Ca> {
        let read = |suffix| {
            let path = tls.join(format!("{name}.{suffix}"));
            std::fs::read_to_string(&path).with_context(|| format!("open {}", path.display()))
        };
        Ca::new(&read("crt")?, &read("key")?)
            .with_context(|| format!("{name} in {}", tls.display()))
    }

    /// Takes a certificate and a key as PEM.
    pub fn new(pem: &str, key: &str) -> Result<Ca> {
        let key = KeyPair::from_pem(key).context("reading the key")?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| anyhow!("reading the certificate: {error}"))?;
        let (_, parsed) = X509Certificate::from_der(&der).context("reading the certificate")?;
        ensure!(
            parsed.public_key().raw == key.subject_public_key_info(),
            "tls: private key does not match public key"
        );
        ensure!(parsed.is_ca(), "the certificate is none of a CA");
        Ok(Ca {
            pem: pem.to_owned(),
            not_before: parsed.validity().not_before.to_datetime(),
            issuer: Issuer::from_ca_cert_pem(pem, key).context("reading the CA")?,
        })
    }

    /// Makes a CA, as k3s does for one that is not there; PEM of certificate and key.
    pub fn make(name: &str, not_before: OffsetDateTime) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
        ];
        params.not_before = not_before;
        params.not_after = not_before + Duration::days(3650);
        let pem = params.self_signed(&key)?.pem();
        Ok((pem, key.serialize_pem()))
    }

    /// Makes a leaf that begins when the CA begins.
    pub fn leaf(&self, name: &str, whom: &For<'_>) -> Result<Pair> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        match whom {
            For::Server(names) => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                for name in *names {
                    params.subject_alt_names.push(match name.parse::<IpAddr>() {
                        Ok(address) => SanType::IpAddress(address),
                        Err(_) => SanType::DnsName(name.as_str().try_into()?),
                    });
                }
            }
            For::Client(organisation) => {
                params
                    .distinguished_name
                    .push(DnType::OrganizationName, *organisation);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
        }
        params.not_before = self.not_before;
        params.not_after =
            OffsetDateTime::now_utc().max(self.not_before) + Duration::days(LEAF_DAYS);
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok(Pair {
            certificate: format!("{}{}", leaf.pem(), self.pem),
            key: sec1(&key)?,
        })
    }
}

/// The key in the form that k3s writes: SEC 1 with the curve's name (RFC 5915). The parts are taken
/// out of PKCS #8, whose layout is fixed for P-256 (RFC 5958).
fn sec1(key: &KeyPair) -> Result<String> {
    let pkcs8 = key.serialize_der();
    let secret = pkcs8.get(36..68).context("the key is none of P-256")?;
    let public = key.public_key_raw();
    ensure!(public.len() == 65, "the key is none of P-256");
    let mut der = vec![0x30, 0x77, 2, 1, 1, 4, 32];
    der.extend(secret);
    der.extend([0xa0, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
    der.extend([0xa1, 68, 3, 66, 0]);
    der.extend(public);
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = "-----BEGIN EC PRIVATE KEY-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END EC PRIVATE KEY-----\n");
    Ok(pem)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(pem: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(pem)? {
        roots.add(certificate).context("adding a CA")?;
    }
    Ok(roots)
}

fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let chain = chain.map_err(|error| anyhow!("reading certificates: {error}"))?;
    ensure!(!chain.is_empty(), "there is no certificate in it");
    Ok(chain)
}

fn key(pem: &str) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| anyhow!("reading a key: {error}"))
}

/// Checks that a file holds a private key.
pub fn check_key(pem: &str) -> Result<()> {
    key(pem).map(drop)
}

/// What a server serves with: clients may come without a certificate, or with one of `clients`.
pub fn server(pair: &Pair, clients: &str) -> Result<Arc<ServerConfig>> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(clients)?), provider())
            .allow_unauthenticated()
            .build()
            .context("the clients' CA")?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(&pair.certificate)?, key(&pair.key)?)
        .context("x509: the server's certificate")?;
    Ok(Arc::new(config))
}

/// Connects to a server whose certificate must be of `ca`, or of anybody's without one.
pub fn connect(authority: &str, ca: Option<&str>, client: Option<&Pair>) -> Result<Stream> {
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match ca {
        Some(ca) => builder.with_root_certificates(roots(ca)?),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody)),
    };
    let config = match client {
        Some(pair) => builder.with_client_auth_cert(chain(&pair.certificate)?, key(&pair.key)?)?,
        None => builder.with_no_client_auth(),
    };
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned())?;
    let tcp = crate::http::connect(authority)?;
    Ok(StreamOwned::new(
        ClientConnection::new(Arc::new(config), name)?,
        tcp,
    ))
}

/// Common name and organisations of a client's certificate.
pub fn subject(der: &[u8]) -> Option<(String, Vec<String>)> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let organisations = subject.iter_organization().filter_map(|o| o.as_str().ok());
    Some((name, organisations.map(str::to_owned).collect()))
}

/// Asks nobody: for fetching the CA, which the token then vouches for.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
