//! HTTP by hand, so that a client can do what libraries do not: ask without end, read a part, leave.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::serve::{BASIC, Server};

/// No read or write takes longer.
const BOUND: Duration = Duration::from_secs(30);

/// Speaks to one server; every request has a connection of its own.
#[derive(Debug)]
pub struct Raw {
    server: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    authorization: Option<String>,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// An answer whose body is still to be read. Dropped, it closes the connection.
pub struct Answer {
    /// Status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    stream: BufReader<Box<dyn Stream>>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.status, self.headers)
    }
}

impl Raw {
    /// A client that knows the server's authority and its user.
    ///
    /// # Errors
    /// When the authority's certificate can't be read.
    pub fn of(server: &Server) -> Result<Raw> {
        let config = |ca| -> Result<_> {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(&fs::read(ca)?)?)?;
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
            Ok(Arc::new(config))
        };
        let users = server.transport.users;
        Ok(Raw {
            server: server.address,
            tls: server.ca().map(config).transpose()?,
            authorization: users.then(|| format!("Basic {BASIC}")),
        })
    }

    /// The same client without a name and a password.
    pub fn stranger(&self) -> Raw {
        Raw {
            server: self.server,
            tls: self.tls.clone(),
            authorization: None,
        }
    }

    fn connect(&self) -> Result<Box<dyn Stream>> {
        let stream = TcpStream::connect_timeout(&self.server, BOUND)?;
        stream.set_read_timeout(Some(BOUND))?;
        stream.set_write_timeout(Some(BOUND))?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let name = ServerName::from(self.server.ip());
                let connection = ClientConnection::new(Arc::clone(config), name)?;
                Box::new(StreamOwned::new(connection, stream))
            }
        })
    }

    /// Sends a request and reads the head of its answer.
    ///
    /// # Errors
    /// When the connection fails, or what comes is no HTTP.
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let mut stream = self.connect()?;
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.server);
        let authorization = self.authorization.as_deref();
        let authorization = authorization.map(|value| ("Authorization", value));
        for (name, value) in headers.iter().copied().chain(authorization) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes())?;
        let mut stream = BufReader::new(stream);
        let mut line = || -> Result<String> {
            let mut line = String::new();
            stream.read_line(&mut line).context("reading a head")?;
            ensure!(line.ends_with("\r\n"), "a head breaks off: {line:?}");
            Ok(line.trim_end().to_owned())
        };
        let first = line()?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(": ")
                .ok_or_else(|| anyhow!("no header: {line:?}"))?;
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        Ok(Answer {
            status: status.ok_or_else(|| anyhow!("no status: {first:?}"))?,
            headers,
            stream,
        })
    }
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(known, _)| known == name)?;
        Some(value)
    }

    /// Bytes of the body, as its head says.
    ///
    /// # Errors
    /// When it doesn't say.
    pub fn length(&self) -> Result<usize> {
        let length = self.header("content-length");
        let length = length.ok_or_else(|| anyhow!("no length: {self:?}"))?;
        Ok(length.parse()?)
    }

    /// Reads so many bytes of the body, leaves the rest, and closes the connection.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn read(mut self, bytes: usize) -> Result<Vec<u8>> {
        let mut body = vec![0; bytes];
        self.stream
            .read_exact(&mut body)
            .context("reading a body")?;
        Ok(body)
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// When it ends early.
    pub fn whole(self) -> Result<Vec<u8>> {
        let length = self.length()?;
        self.read(length)
    }
}
