//! As much of HTTP/1.1 as the probe speaks: one request a connection, bodies with a length.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;

/// The largest head in bytes.
const HEAD_BYTES: usize = 16 << 10;
/// The largest body that is kept in memory: a layer of a test's image.
const BODY_BYTES: u64 = 256 << 20;
/// How long a connection may stand still.
const PATIENCE: Duration = Duration::from_secs(20);
const HEADERS: usize = 48;

/// A request as it came in.
#[derive(Debug, Default)]
pub struct Request {
    /// `GET`.
    pub method: String,
    /// `/version`, without the query.
    pub path: String,
    headers: Vec<(String, String)>,
    /// Empty for most.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// 200.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// What came with it.
    pub body: Vec<u8>,
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

impl Request {
    /// Reads one from a connection.
    pub fn read(stream: &mut impl Read) -> Result<Request> {
        let (head, rest) = read_head(stream)?;
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        parsed.parse(&head).context("parsing a request")?;
        let target = parsed.path.unwrap_or_default();
        let mut request = Request {
            method: parsed.method.unwrap_or_default().to_owned(),
            path: target.split('?').next().unwrap_or_default().to_owned(),
            headers: owned(parsed.headers),
            body: Vec::new(),
        };
        let length = request
            .header("content-length")
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        request.body = read_body(stream, rest, Some(length))?;
        Ok(request)
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// User and password of Basic authentication.
    pub fn basic(&self) -> Option<(String, String)> {
        let encoded = self.header("authorization")?.strip_prefix("Basic ")?;
        let plain = base64::engine::general_purpose::STANDARD
            .decode(encoded.trim())
            .ok()?;
        let (user, password) = String::from_utf8(plain).ok()?.split_once(':').map(own)?;
        Some((user, password))
    }
}

fn own((user, password): (&str, &str)) -> (String, String) {
    (user.to_owned(), password.to_owned())
}

impl Response {
    /// An answer with a body of some type.
    pub fn new(status: u16, media: &str, body: impl Into<Vec<u8>>) -> Response {
        Response {
            status,
            headers: vec![("Content-Type".to_owned(), media.to_owned())],
            body: body.into(),
        }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Writes it, and says that the connection ends with it.
    pub fn write(&self, stream: &mut impl Write, with_body: bool) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (key, value) in &self.headers {
            head.push_str(&format!("{key}: {value}\r\n"));
        }
        let now = httpdate::fmt_http_date(std::time::SystemTime::now());
        head.push_str(&format!(
            "Date: {now}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.body.len()
        ));
        stream.write_all(head.as_bytes())?;
        if with_body {
            stream.write_all(&self.body)?;
        }
        stream.flush()
    }
}

/// The words that go with a status; Go's clients show them.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

/// Opens a connection with bounds on every wait.
pub fn connect(authority: &str) -> Result<TcpStream> {
    let address = authority
        .to_socket_addrs()
        .with_context(|| format!("looking up {authority}"))?
        .next()
        .with_context(|| format!("{authority} has no address"))?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("dial tcp {address}"))?;
    bound(&stream)?;
    Ok(stream)
}

/// Bounds every wait on a connection.
pub fn bound(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(())
}

/// Sends a request without a body over an open connection and reads the answer.
pub fn ask(
    stream: &mut (impl Read + Write),
    method: &str,
    authority: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Response> {
    send(stream, method, authority, path, headers, &[])
}

/// Sends a request over an open connection and reads the answer.
pub fn send(
    stream: &mut (impl Read + Write),
    method: &str,
    authority: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response> {
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: k3s-probe\r\n\
         Connection: close\r\n"
    );
    for (key, value) in headers {
        head.push_str(&format!("{key}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let asking = || format!("asking for {path}");
    stream.write_all(head.as_bytes()).with_context(asking)?;
    stream.write_all(body).with_context(asking)?;
    stream.flush()?;

    let (head, rest) = read_head(stream)?;
    let mut parsed = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut parsed);
    response.parse(&head).context("parsing an answer")?;
    let status = response.code.unwrap_or(0);
    let headers = owned(response.headers);
    if find(&headers, "transfer-encoding").is_some() {
        bail!("the answer for {path} has no length");
    }
    let length = match method {
        "HEAD" => Some(0),
        _ => find(&headers, "content-length").and_then(|length| length.parse().ok()),
    };
    let body = read_body(stream, rest, length)?;
    Ok(Response {
        status,
        headers,
        body,
    })
}

fn owned(headers: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|h| {
            (
                h.name.to_owned(),
                String::from_utf8_lossy(h.value).into_owned(),
            )
        })
        .collect()
}

/// Everything up to the empty line, and what was read after it.
fn read_head(stream: &mut impl Read) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            return Ok((read, rest));
        }
        if read.len() > HEAD_BYTES {
            bail!("the head is longer than {HEAD_BYTES} bytes");
        }
        match stream.read(&mut piece) {
            Ok(0) => bail!("EOF"),
            Ok(n) => read.extend(piece.iter().take(n)),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("reading a head"),
        }
    }
}

fn read_body(stream: &mut impl Read, begun: Vec<u8>, length: Option<u64>) -> Result<Vec<u8>> {
    let mut body = begun;
    let limit = length.unwrap_or(BODY_BYTES);
    if limit > BODY_BYTES {
        bail!("a body of {limit} bytes is too long");
    }
    let missing = limit.saturating_sub(body.len() as u64);
    let outcome = stream.take(missing).read_to_end(&mut body);
    // a peer that ends TLS without saying so is an error only if something is missing
    if length.is_some_and(|length| (body.len() as u64) < length) || length.is_none() {
        outcome.context("reading a body")?;
    }
    if length.is_some_and(|length| body.len() as u64 != length) {
        bail!("a body of {limit} bytes ends after {}", body.len());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_with_its_user_and_its_body() {
        let mut text: &[u8] = b"PUT /a?b=c HTTP/1.1\r\nAuthorization: Basic bm9kZTphOmI=\r\n\
            Content-Length: 3\r\nK3s-Node-Name: n1\r\n\r\nxyz";
        let request = Request::read(&mut text).unwrap();
        assert_eq!(request.path, "/a");
        assert_eq!(request.basic(), Some(("node".to_owned(), "a:b".to_owned())));
        assert_eq!(request.header("k3s-node-name"), Some("n1"));
        assert_eq!(request.body, b"xyz");
    }

    #[test]
    fn a_body_that_ends_early_is_an_error() {
        let mut text: &[u8] = b"PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\nxyz";
        assert!(Request::read(&mut text).is_err());
    }
}
