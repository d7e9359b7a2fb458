//! A server that speaks TLS as k3s's does, and says what a test wants.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, DATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A certificate and its key, both in PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// An authority that signs certificates.
pub(super) struct Authority {
    pub(super) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Authority {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for `name`, good from a first of January to another.
    pub(super) fn sign(&self, name: &str, years: (i32, i32)) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        Pair {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    pub(super) fn server(&self) -> Pair {
        self.sign("127.0.0.1", (2020, 4000))
    }
}

/// What is answered to a path: status and body.
#[derive(Clone, Default)]
pub(super) struct Script {
    pub(super) answers: HashMap<String, (u16, String)>,
    pub(super) date: Option<String>,
    /// Paths that were asked for, with the Authorization header.
    pub(super) asked: Vec<(String, Option<String>)>,
}

/// A running server; ends with its last handle.
pub(super) struct Api {
    pub(super) address: SocketAddr,
    pub(super) script: Arc<Mutex<Script>>,
    task: JoinHandle<()>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Api {
    /// Listens on a free port of 127.0.0.1, or on the one given.
    pub(super) async fn start(pair: &Pair, clients: Option<&str>, port: u16) -> Api {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                for root in CertificateDer::pem_slice_iter(authority.as_bytes()) {
                    roots.add(root.unwrap()).unwrap();
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes());
        let chain = chain.collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let config = config.with_single_cert(chain, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(Script::default()));
        let shared = script.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, script) = (acceptor.clone(), shared.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let answer = service_fn(|request| {
                        let answer = answer(&request, &script);
                        async { Ok::<_, hyper::http::Error>(answer) }
                    });
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), answer)
                        .await;
                });
            }
        });
        Api {
            address,
            script,
            task,
        }
    }

    /// Stops listening; gives the port.
    pub(super) async fn stop(&mut self) -> u16 {
        self.task.abort();
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
        self.address.port()
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(super) fn says(&self, path: &str, status: u16, body: impl Into<String>) {
        let mut script = self.script.lock().unwrap();
        script
            .answers
            .insert(path.to_owned(), (status, body.into()));
    }

    pub(super) fn was_asked(&self, path: &str) -> Vec<Option<String>> {
        let script = self.script.lock().unwrap();
        let asked = script.asked.iter().filter(|(asked, _)| asked == path);
        asked
            .map(|(_, authorization)| authorization.clone())
            .collect()
    }
}

fn answer(request: &Request<Incoming>, script: &Mutex<Script>) -> Response<Full<Bytes>> {
    let mut script = script.lock().unwrap();
    let path = request.uri().path().to_owned();
    let authorization = request.headers().get(AUTHORIZATION);
    let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
    script.asked.push((path.clone(), authorization));
    let nothing = (404, "404 page not found".to_owned());
    let (status, body) = script.answers.get(&path).cloned().unwrap_or(nothing);
    let mut response = Response::builder().status(status);
    if let Some(date) = &script.date {
        response = response.header(DATE, date);
    }
    response.body(Full::new(Bytes::from(body))).unwrap()
}
