//! The registry's certificate, which each node issues for itself.
//!
//! It begins in 2020 and ends in 2049, as its authority does: neither a node nor a client in an air
//! gap has a clock to be trusted, and the key lives no longer than this boot. ECDSA P-256.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::registry::TlsMaterial;

/// What clients may call the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) dns: BTreeSet<String>,
    pub(super) addresses: BTreeSet<IpAddr>,
}

impl Names {
    /// Those that any node has, with its own name and `registry.address`, `HOST:PORT`.
    pub(super) fn of_node(host_name: &str, address: Option<&str>) -> Names {
        let loopback = [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ];
        let mut names = Names {
            dns: BTreeSet::from(["localhost".to_owned(), host_name.to_ascii_lowercase()]),
            addresses: BTreeSet::from(loopback),
        };
        if let Some(host) = address.map(host) {
            match host.parse() {
                Ok(address) => drop(names.addresses.insert(address)),
                Err(_) => drop(names.dns.insert(host.to_ascii_lowercase())),
            }
        }
        names
    }
}

/// The host of `HOST`, `HOST:PORT`, `[ADDRESS]:PORT` or an address of IPv6 by itself.
fn host(address: &str) -> &str {
    let address = address.trim();
    if address.parse::<Ipv6Addr>().is_ok() {
        return address;
    }
    let host = match address.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => address,
    };
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Issues a certificate for these names, with a key of its own.
///
/// # Errors
/// If certificate or key of the authority can't be used, or a name is no name for DNS.
pub(super) fn issue(ca: &str, ca_key: &str, names: &Names) -> Result<TlsMaterial, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(ca, KeyPair::from_pem(ca_key)?)?;
    let key = KeyPair::generate()?;
    let mut wanted = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "haulboot registry");
    wanted.distinguished_name = subject;
    wanted.not_before = date_time_ymd(2020, 1, 1);
    wanted.not_after = date_time_ymd(2049, 12, 31);
    wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    wanted.use_authority_key_identifier_extension = true;
    for name in &names.dns {
        let name = SanType::DnsName(name.as_str().try_into()?);
        wanted.subject_alt_names.push(name);
    }
    let addresses = names.addresses.iter().copied().map(SanType::IpAddress);
    wanted.subject_alt_names.extend(addresses);
    Ok(TlsMaterial {
        certificate: wanted.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
        authority: ca.to_owned(),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::process::Command;

    use rcgen::{BasicConstraints, IsCa};

    use super::*;

    /// An authority, certificate and key.
    pub(in crate::node::access) fn authority() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut wanted = CertificateParams::default();
        wanted.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        wanted.not_before = date_time_ymd(2020, 1, 1);
        wanted.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
        ];
        (wanted.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn the_address_of_the_configuration_is_a_name_or_an_address() {
        for (address, expected) in [
            ("registry.edge.example:5000", "registry.edge.example"),
            ("registry.edge.example", "registry.edge.example"),
            ("192.168.0.1:5000", "192.168.0.1"),
            ("[2001:db8::1]:5000", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(host(address), expected);
        }
        let names = Names::of_node("Node-1", Some("[2001:db8::1]:5000"));
        assert!(names.dns.contains("node-1") && names.dns.len() == 2);
        assert!(names.addresses.contains(&"2001:db8::1".parse().unwrap()));
    }

    /// Needs openssl.
    #[test]
    fn openssl_verifies_every_name_against_the_authority_at_any_time() {
        let (ca, ca_key) = authority();
        let mut names = Names::of_node("node-1", Some("registry.edge.example:5000"));
        names.addresses.insert("192.168.0.2".parse().unwrap());
        names.addresses.insert("fe80::1".parse().unwrap());
        let made = issue(&ca, &ca_key, &names).unwrap();
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        std::fs::write(path("ca.crt"), ca).unwrap();
        std::fs::write(path("leaf.crt"), &made.certificate).unwrap();
        std::fs::write(path("leaf.key"), &made.key).unwrap();
        let openssl = |arguments: &[&str]| {
            let output = Command::new("openssl")
                .args(arguments)
                .current_dir(place.path())
                .output()
                .expect("openssl is there");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            (output.status.success(), said)
        };
        // 2020-06-01 and 2049-06-01
        for time in ["1590969600", "2506464000"] {
            for (kind, name, good) in [
                ("-verify_hostname", "localhost", true),
                ("-verify_hostname", "node-1", true),
                ("-verify_hostname", "registry.edge.example", true),
                ("-verify_hostname", "other.example", false),
                ("-verify_ip", "127.0.0.1", true),
                ("-verify_ip", "::1", true),
                ("-verify_ip", "192.168.0.2", true),
                ("-verify_ip", "fe80::1", true),
                ("-verify_ip", "192.168.0.3", false),
            ] {
                let verify = [
                    "verify",
                    "-x509_strict",
                    "-purpose",
                    "sslserver",
                    "-attime",
                    time,
                    "-CAfile",
                    "ca.crt",
                    kind,
                    name,
                    "leaf.crt",
                ];
                assert_eq!(openssl(&verify).0, good, "{name} at {time}");
            }
        }
        let text = openssl(&["x509", "-in", "leaf.crt", "-noout", "-text"]).1;
        assert!(text.contains("prime256v1"), "{text}");
        let public = |arguments: &[&str]| openssl(arguments).1;
        assert_eq!(
            public(&["x509", "-in", "leaf.crt", "-noout", "-pubkey"]),
            public(&["pkey", "-in", "leaf.key", "-pubout"])
        );
    }

    #[test]
    fn an_authority_that_is_none_is_an_error() {
        let (ca, key) = authority();
        let names = Names::of_node("node-1", None);
        assert!(issue("", &key, &names).is_err());
        assert!(issue(&ca, "", &names).is_err());
    }
}
