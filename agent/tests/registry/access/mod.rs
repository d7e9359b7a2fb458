//! HTTPS and users: over real TLS, with a rustls client, openssl and curl.

mod https;
mod users;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use image_layout::Digest;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::{Answer, connect, parse, raw, request};
use crate::layout;
use crate::server::{Served, command, serve, serve_with};

/// Of libxcrypt, for the password `geheim`.
const ALICE: &str = "alice:$2y$05$abcdefghijklmnopqrstuuVWu8RjbNovPZWAMRdd7iqaaG0mI53Uu\n";

/// An authority, and a certificate of it for this machine.
struct Authority {
    place: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut wanted = CertificateParams::default();
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // not the name of what it issues, or that would be taken for self-signed
        let name = &mut wanted.distinguished_name;
        name.push(rcgen::DnType::CommonName, "authority");
        let place = tempfile::tempdir().unwrap();
        let certificate = wanted.self_signed(&key).unwrap();
        fs::write(place.path().join("ca.crt"), certificate.pem()).unwrap();
        let issuer = Issuer::new(wanted, key);
        let authority = Authority { place, issuer };
        authority.issue();
        authority
    }

    /// Replaces the server's certificate and key as programs do that renew them.
    fn issue(&self) {
        let key = KeyPair::generate().unwrap();
        let mut wanted = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        for address in ["127.0.0.1", "192.0.2.1"] {
            let address = SanType::IpAddress(address.parse().unwrap());
            wanted.subject_alt_names.push(address);
        }
        let certificate = wanted.signed_by(&key, &self.issuer).unwrap();
        self.replace("key", &key.serialize_pem());
        self.replace("crt", &certificate.pem());
    }

    fn replace(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.place.path().join(name).to_str().unwrap().to_owned()
    }

    fn arguments(&self) -> [String; 4] {
        [
            "--tls-cert",
            &self.path("crt"),
            "--tls-key",
            &self.path("key"),
        ]
        .map(str::to_owned)
    }

    /// Serves with this certificate and further arguments.
    fn serve(&self, more: &[&str]) -> Served {
        let own = self.arguments();
        let all: Vec<&str> = own
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        serve_with(&all)
    }

    /// A connection that trusts this authority alone.
    fn connect(
        &self,
        server: SocketAddr,
        versions: &[&'static rustls::SupportedProtocolVersion],
        alpn: &[&str],
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        let pem = fs::read(self.path("ca.crt")).unwrap();
        roots
            .add(CertificateDer::from_pem_slice(&pem).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(client, connect(server))
    }

    fn get(&self, server: SocketAddr, target: &str) -> Answer {
        let stream = self.connect(server, rustls::ALL_VERSIONS, &["http/1.1"]);
        over(stream, target, "")
    }
}

/// Asks over a connection, with further lines of the header.
fn over(mut stream: impl Read + Write, target: &str, lines: &str) -> Answer {
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{lines}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    parse(&bytes).unwrap()
}

fn run(program: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error} (its package is needed)"));
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn basic(user: &str) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(user);
    format!("Basic {encoded}")
}

fn ask(server: SocketAddr, target: &str, authorization: &str) -> Answer {
    request(server, "GET", target, &[("Authorization", authorization)])
}

/// A registry for alice.
fn serve_users() -> (Served, tempfile::TempDir) {
    let place = tempfile::tempdir().unwrap();
    let users = place.path().join("users");
    fs::write(&users, format!("# comment\n\n{ALICE}")).unwrap();
    (serve_with(&["--users", users.to_str().unwrap()]), place)
}
