//! Authorities, keys and the administrator's certificate, as k3s makes them for itself.
//!
//! - Five authorities of their own, self-signed, ECDSA P-256, one certificate a file, no bundle
//!   (k3s: pkg/daemons/control/deps `createSigningCertKey`, with its names).
//! - They begin in 2020: a leaf that k3s signs begins when its authority does (rancher:
//!   dynamiclistener `NewSignedCert`), so that a node whose clock lags behind the builder's takes
//!   them all the same. They end in 2049, the last year before X.509 writes its times otherwise.
//! - `service.key` is an ECDSA key in the form `EC PRIVATE KEY` (RFC 5915) with the curve named.
//!   The API server tells public keys from that file and knows no ECDSA key in PKCS #8 there
//!   (kubernetes: client-go util/keyutil `ParsePublicKeysPEM`); kubeadm writes the same form. The
//!   other keys are PKCS #8, which all their readers take.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::{Span, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, Error, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, date_time_ymd,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use yasna::models::ObjectIdentifier;

use super::Admin;
use super::error::CredentialsError;

/// First day of an authority.
const BEGIN: (i32, u8, u8) = (2020, 1, 1);
/// The day that an authority ends with.
const END: (i32, u8, u8) = (2049, 12, 31);
/// How long the administrator's certificate is good for.
const ADMIN_YEARS: i32 = 10;

/// Each authority's file name without its ending, and the name that k3s gives it before `-ca@`.
pub(super) const AUTHORITIES: [(&str, &str, &str); 5] = [
    ("server-ca.crt", "server-ca.key", "k3s-server"),
    ("client-ca.crt", "client-ca.key", "k3s-client"),
    (
        "request-header-ca.crt",
        "request-header-ca.key",
        "k3s-request-header",
    ),
    ("etcd/peer-ca.crt", "etcd/peer-ca.key", "etcd-peer"),
    ("etcd/server-ca.crt", "etcd/server-ca.key", "etcd-server"),
];
/// The key that signs the tokens of service accounts.
pub(super) const SERVICE_KEY: &str = "service.key";

/// Today, and never before the authorities begin: this machine's clock may be wrong too.
pub(super) fn now() -> Timestamp {
    let begin = Date::new(2020, 1, 1)
        .and_then(|date| date.to_zoned(TimeZone::UTC))
        .map(|time| time.timestamp());
    let now = Timestamp::now();
    begin.map_or(now, |begin| now.max(begin))
}

/// All authorities and the key of service accounts, by their name in k3s's `server/tls`.
pub(super) fn authorities(
    now: Timestamp,
) -> Result<BTreeMap<&'static str, Vec<u8>>, CredentialsError> {
    let mut files = BTreeMap::new();
    for (certificate, key, name) in AUTHORITIES {
        let (made, made_key) = authority(&format!("{name}-ca@{}", now.as_second()), None)
            .map_err(CredentialsError::Make)?;
        files.insert(certificate, made.into_bytes());
        files.insert(key, made_key.into_bytes());
    }
    files.insert(SERVICE_KEY, service_key()?.into_bytes());
    Ok(files)
}

/// The authority of the registries' certificates: certificate and key. It issues those of servers and
/// no other authority's; k3s knows nothing of it.
pub(super) fn registry_authority(now: Timestamp) -> Result<(Vec<u8>, Vec<u8>), CredentialsError> {
    let name = format!("haulboot-registry-ca@{}", now.as_second());
    let (certificate, key) = authority(&name, Some(0)).map_err(CredentialsError::Make)?;
    Ok((certificate.into_bytes(), key.into_bytes()))
}

/// `below`: how many authorities may stand below it, where that is bounded.
fn authority(name: &str, below: Option<u8>) -> Result<(String, String), Error> {
    let key = KeyPair::generate()?;
    let mut wanted = CertificateParams::default();
    wanted.distinguished_name = subject(name, None);
    wanted.not_before = date_time_ymd(BEGIN.0, BEGIN.1, BEGIN.2);
    wanted.not_after = date_time_ymd(END.0, END.1, END.2);
    wanted.is_ca = IsCa::Ca(match below {
        None => BasicConstraints::Unconstrained,
        Some(below) => BasicConstraints::Constrained(below),
    });
    wanted.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    Ok((wanted.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn subject(name: &str, group: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if let Some(group) = group {
        subject.push(DnType::OrganizationName, group);
    }
    subject.push(DnType::CommonName, name);
    subject
}

/// A certificate that makes its owner the cluster's administrator, signed by the authority of
/// clients. It begins when that does.
pub(super) fn admin(ca: &[u8], ca_key: &[u8], now: Timestamp) -> Result<Admin, Error> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Error::CouldNotParseCertificate);
    let issuer = Issuer::from_ca_cert_pem(text(ca)?, KeyPair::from_pem(text(ca_key)?)?)?;
    let key = KeyPair::generate()?;
    let last = ends(now);
    let mut wanted = CertificateParams::default();
    // k3s: pkg/daemons/control/deps `genClientCerts`
    wanted.distinguished_name = subject("system:admin", Some("system:masters"));
    wanted.not_before = date_time_ymd(BEGIN.0, BEGIN.1, BEGIN.2);
    wanted.not_after = date_time_ymd(last.0, last.1, last.2);
    wanted.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    wanted.use_authority_key_identifier_extension = true;
    Ok(Admin {
        certificate: wanted.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
    })
}

/// The day on which a certificate made now ends: never after its authority.
fn ends(now: Timestamp) -> (i32, u8, u8) {
    let today = now.to_zoned(TimeZone::UTC).date();
    let last = today
        .checked_add(Span::new().years(ADMIN_YEARS))
        .map_or(END, |date| {
            let small = |part: i8| u8::try_from(part).unwrap_or(1);
            (
                i32::from(date.year()),
                small(date.month()),
                small(date.day()),
            )
        });
    last.min(END)
}

fn service_key() -> Result<String, CredentialsError> {
    let key = KeyPair::generate().map_err(CredentialsError::Make)?;
    let scalar = yasna::parse_der(key.serialized_der(), |reader| {
        // PKCS #8 (RFC 5208) around RFC 5915
        reader.read_sequence(|reader| {
            reader.next().read_u8()?;
            reader.next().read_der()?;
            let inner = reader.next().read_bytes()?;
            yasna::parse_der(&inner, |reader| {
                reader.read_sequence(|reader| {
                    reader.next().read_u8()?;
                    let scalar = reader.next().read_bytes()?;
                    reader.next().read_der()?;
                    Ok(scalar)
                })
            })
        })
    })
    .map_err(|_| CredentialsError::Make(Error::CouldNotParseKeyPair))?;
    let point = key.der_bytes();
    let der = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(1);
            writer.next().write_bytes(&scalar);
            writer
                .next()
                .write_tagged(yasna::Tag::context(0), |w| w.write_oid(&prime256v1()));
            writer.next().write_tagged(yasna::Tag::context(1), |w| {
                w.write_bitvec_bytes(point, point.len() * 8);
            });
        })
    });
    let unix = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Ok(pem::encode_config(
        &pem::Pem::new("EC PRIVATE KEY", der),
        unix,
    ))
}

/// What is wrong with a certificate and the key beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PairDefect {
    /// The certificate is none, or several.
    Certificate,
    /// It is none of an authority.
    NoAuthority,
    /// The key is none that can be read.
    Key,
    /// They don't belong together.
    Mismatch,
}

/// Looks at an authority's certificate and key.
pub(super) fn pair_defect(certificate: &[u8], key: &[u8]) -> Option<PairDefect> {
    let Some(der) = single_certificate(certificate) else {
        return Some(PairDefect::Certificate);
    };
    let Ok((_, parsed)) = X509Certificate::from_der(&der) else {
        return Some(PairDefect::Certificate);
    };
    if !parsed.is_ca() {
        return Some(PairDefect::NoAuthority);
    }
    key_defect(&parsed, key)
}

fn key_defect(certificate: &X509Certificate<'_>, key: &[u8]) -> Option<PairDefect> {
    let key = std::str::from_utf8(key)
        .ok()
        .and_then(|text| KeyPair::from_pem(text).ok());
    match key {
        None => Some(PairDefect::Key),
        Some(key) => (key.subject_public_key_info() != certificate.public_key().raw)
            .then_some(PairDefect::Mismatch),
    }
}

/// Why a certificate and key can't be the administrator's; none if they can. `ca` is the
/// authority of clients.
pub(super) fn admin_defect(admin: &Admin, ca: &[u8], now: Timestamp) -> Option<&'static str> {
    let (Some(der), Some(ca)) = (
        single_certificate(admin.certificate.as_bytes()),
        single_certificate(ca),
    ) else {
        return Some("its client certificate can't be read");
    };
    let (Ok((_, certificate)), Ok((_, ca))) = (
        X509Certificate::from_der(&der),
        X509Certificate::from_der(&ca),
    ) else {
        return Some("its client certificate can't be read");
    };
    if key_defect(&certificate, admin.key.as_bytes()).is_some() {
        return Some("its client key does not belong to its client certificate");
    }
    if certificate.verify_signature(Some(ca.public_key())).is_err() {
        return Some("its client certificate is not signed by tls/client-ca.crt");
    }
    (certificate.validity().not_after.timestamp() < now.as_second())
        .then_some("its client certificate has ended")
}

/// The certificate of a file that holds one and nothing else.
fn single_certificate(file: &[u8]) -> Option<Vec<u8>> {
    let mut found = pem::parse_many(file).ok()?;
    let first = found.pop()?;
    (found.is_empty() && first.tag() == "CERTIFICATE").then(|| first.into_contents())
}

/// Whether a file holds a private key of service accounts in a form that the API server reads.
pub(super) fn is_service_key(file: &[u8]) -> bool {
    let Ok(found) = pem::parse_many(file) else {
        return false;
    };
    match found.as_slice() {
        [key] if key.tag() == "EC PRIVATE KEY" => is_p256_key(key.contents()),
        [key] if key.tag() == "RSA PRIVATE KEY" => is_rsa_key(key.contents()),
        _ => false,
    }
}

/// RFC 5915 with the curve named.
fn is_p256_key(der: &[u8]) -> bool {
    yasna::parse_der(der, |reader| {
        reader.read_sequence(|reader| {
            let version = reader.next().read_u8()?;
            let scalar = reader.next().read_bytes()?;
            let curve = reader
                .next()
                .read_tagged(yasna::Tag::context(0), |reader| reader.read_oid())?;
            reader.read_optional(|reader| {
                reader.read_tagged(yasna::Tag::context(1), |reader| reader.read_bitvec_bytes())
            })?;
            Ok(version == 1 && scalar.len() == 32 && curve == prime256v1())
        })
    })
    .unwrap_or(false)
}

/// PKCS #1 (RFC 8017, A.1.2) of two primes: the version and eight numbers.
fn is_rsa_key(der: &[u8]) -> bool {
    const NUMBERS: usize = 8;
    const INTEGER: u8 = 2;
    yasna::parse_der(der, |reader| {
        reader.read_sequence(|reader| {
            let mut good = reader.next().read_u8()? == 0;
            for _ in 0..NUMBERS {
                good &= reader.next().read_der()?.first() == Some(&INTEGER);
            }
            Ok(good)
        })
    })
    .unwrap_or(false)
}

fn prime256v1() -> ObjectIdentifier {
    ObjectIdentifier::from_slice(&[1, 2, 840, 10045, 3, 1, 7])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> BTreeMap<&'static str, Vec<u8>> {
        authorities(now()).unwrap()
    }

    fn parsed(file: &[u8]) -> Vec<u8> {
        single_certificate(file).unwrap()
    }

    #[test]
    fn every_file_that_k3s_looks_for_is_made() {
        let names: Vec<&str> = made().into_keys().collect();
        let mut wanted = image_layout::paths::secrets::TLS_FILES.to_vec();
        wanted.sort_unstable();
        assert_eq!(names, wanted);
    }

    #[test]
    fn authorities_are_named_as_k3s_names_them_and_valid_from_2020_to_2049() {
        let files = made();
        for (certificate, key, name) in AUTHORITIES {
            assert_eq!(pair_defect(&files[certificate], &files[key]), None);
            let der = parsed(&files[certificate]);
            let (_, ca) = X509Certificate::from_der(&der).unwrap();
            let said = ca.subject().to_string();
            assert!(said.starts_with(&format!("CN={name}-ca@1")), "{said}");
            assert_eq!(ca.validity().not_before.timestamp(), 1_577_836_800);
            assert_eq!(ca.validity().not_after.timestamp(), 2_524_521_600);
            assert!(ca.verify_signature(None).is_ok());
            let usage = ca.key_usage().unwrap().unwrap().value;
            assert!(usage.key_cert_sign() && usage.digital_signature());
            assert!(files[certificate].ends_with(b"-----END CERTIFICATE-----\n"));
        }
    }

    #[test]
    fn the_administrator_is_in_the_group_that_may_everything_for_ten_years() {
        let files = made();
        let now = now();
        let admin = admin(&files["client-ca.crt"], &files["client-ca.key"], now).unwrap();
        assert_eq!(admin_defect(&admin, &files["client-ca.crt"], now), None);
        let der = parsed(admin.certificate.as_bytes());
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(
            certificate.subject().to_string(),
            "O=system:masters, CN=system:admin"
        );
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        let validity = certificate.validity();
        assert_eq!(validity.not_before.timestamp(), 1_577_836_800);
        let years = (validity.not_after.timestamp() - now.as_second()) / (365 * 86_400);
        assert_eq!(years, 10);

        let later = Timestamp::from_second(validity.not_after.timestamp() + 1).unwrap();
        let ended = admin_defect(&admin, &files["client-ca.crt"], later);
        assert_eq!(ended, Some("its client certificate has ended"));
        let stranger = admin_defect(&admin, &files["server-ca.crt"], now).unwrap();
        assert!(stranger.contains("not signed by"), "{stranger}");
        let other = Admin {
            key: String::from_utf8(files["client-ca.key"].clone()).unwrap(),
            ..admin
        };
        let said = admin_defect(&other, &files["client-ca.crt"], now).unwrap();
        assert!(said.contains("client key does not belong"), "{said}");
    }

    #[test]
    fn a_certificate_made_late_ends_with_its_authority() {
        let late = Timestamp::from_second(2_400_000_000).unwrap();
        assert_eq!(ends(late), END);
        let leap = Timestamp::from_second(1_709_164_800).unwrap();
        assert_eq!(ends(leap), (2034, 2, 28), "there is no 29 February 2034");
    }

    #[test]
    fn what_is_wrong_with_a_pair_is_told() {
        let files = made();
        let (server, client) = (&files["server-ca.crt"], &files["client-ca.key"]);
        assert_eq!(pair_defect(server, client), Some(PairDefect::Mismatch));
        assert_eq!(pair_defect(server, b"key"), Some(PairDefect::Key));
        assert_eq!(pair_defect(client, client), Some(PairDefect::Certificate));
        let two = [server.as_slice(), &files["client-ca.crt"]].concat();
        assert_eq!(pair_defect(&two, client), Some(PairDefect::Certificate));
        let admin = admin(&files["client-ca.crt"], client, now()).unwrap();
        assert_eq!(
            pair_defect(admin.certificate.as_bytes(), admin.key.as_bytes()),
            Some(PairDefect::NoAuthority)
        );
    }

    #[test]
    fn the_key_of_service_accounts_is_of_the_form_that_the_api_server_reads() {
        let files = made();
        assert!(is_service_key(&files[SERVICE_KEY]));
        assert!(!is_service_key(&files["server-ca.key"]));
        let key = pem::parse(&files[SERVICE_KEY]).unwrap().into_contents();
        // RFC 5915: version 1, 32 bytes, [0] the curve, [1] the point
        assert_eq!(key[..7], [0x30, 0x77, 2, 1, 1, 4, 32]);
        assert_eq!(
            key[39..51],
            [0xa0, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]
        );
        assert_eq!(key[51..57], [0xa1, 0x44, 3, 0x42, 0, 4]);
        assert_eq!(key.len(), 57 + 64);
    }

    #[test]
    fn a_damaged_key_of_service_accounts_is_noticed() {
        let files = made();
        let good = files[SERVICE_KEY].as_slice();
        assert!(!is_service_key(&[good, good].concat()), "two keys");
        let der = pem::parse(good).unwrap().into_contents();
        let key = |tag: &str, der: Vec<u8>| {
            is_service_key(pem::encode(&pem::Pem::new(tag, der)).as_bytes())
        };
        assert!(key("EC PRIVATE KEY", der.clone()));
        assert!(!key("RSA PRIVATE KEY", der.clone()));
        assert!(!key("EC PRIVATE KEY", der[..der.len() - 1].to_vec()));
        assert!(!key("EC PRIVATE KEY", [der.as_slice(), &[0]].concat()));
        for (place, what) in [(4, "the version"), (50, "the curve")] {
            let mut other = der.clone();
            other[place] ^= 2;
            assert!(!key("EC PRIVATE KEY", other), "{what}");
        }
        let rsa = |version: u8, numbers: usize| {
            yasna::construct_der(|writer| {
                writer.write_sequence(|writer| {
                    writer.next().write_u8(version);
                    for number in 0..numbers {
                        writer.next().write_u32(70_000 + number as u32);
                    }
                });
            })
        };
        assert!(key("RSA PRIVATE KEY", rsa(0, 8)));
        assert!(!key("RSA PRIVATE KEY", rsa(1, 8)));
        assert!(!key("RSA PRIVATE KEY", rsa(0, 7)));
        assert!(!key("EC PRIVATE KEY", rsa(0, 8)));
    }
}
