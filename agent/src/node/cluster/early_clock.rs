//! Certificates seen by a clock that is behind.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

/// The longest chain of certificates whose beginnings are looked at.
const CHAIN: usize = 4;

/// Verifies everything as usual, but for one thing: a certificate that is not valid *yet* is
/// verified as of the moment from which it is.
///
/// A board without a battery starts at the image's build time; its server, whose clock is right,
/// may have a certificate of today. The agent takes the server's time, and to believe it, it must
/// verify the certificate first. Nothing is lost by that: the issuer, the name, the signature and
/// the end of validity are verified, and whoever holds a certificate of the cluster's authority
/// that begins later holds one that is as good as any then. Expired ones are refused. Therefore it
/// is used for every request, and none depends on whether the clock could be set.
#[derive(Debug)]
pub(super) struct EarlyClock(Arc<WebPkiServerVerifier>);

impl EarlyClock {
    /// Verifies by `inner`.
    pub(super) fn over(inner: Arc<WebPkiServerVerifier>) -> EarlyClock {
        EarlyClock(inner)
    }
}

impl ServerCertVerifier for EarlyClock {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify = |now| {
            self.0
                .verify_server_cert(end_entity, intermediates, name, ocsp, now)
        };
        let mut verdict = verify(now);
        for _ in 0..CHAIN {
            match verdict {
                Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before,
                    ..
                })) => verdict = verify(not_before),
                verdict => return verdict,
            }
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
