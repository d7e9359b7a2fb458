//! HTTP by hand.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No answer takes longer; a server that says nothing fails the test.
const BOUND: Duration = Duration::from_secs(30);

/// An answer, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is there twice");
        value
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of an error's body.
    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["code"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

pub(crate) fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.set_write_timeout(Some(BOUND)).unwrap();
    stream
}

/// Sends bytes as they are and reads until the server closes, or, if it need not, until it has
/// been silent for a while.
pub(crate) fn raw(server: SocketAddr, bytes: &[u8], silence: Option<Duration>) -> Vec<u8> {
    let mut stream = connect(server);
    stream.set_read_timeout(silence.or(Some(BOUND))).unwrap();
    // a server that refuses early may close while there is more to write
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) if silence.is_some() && error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => panic!("{error}"),
    }
    answer
}

/// Takes one answer apart; `None` if the server closed without one.
pub(crate) fn parse(bytes: &[u8]) -> Option<Answer> {
    if bytes.is_empty() {
        return None;
    }
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    Some(Answer {
        status: status.parse().unwrap(),
        headers: lines
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap();
                (name.to_ascii_lowercase(), value.to_owned())
            })
            .collect(),
        body: bytes[end + 4..].to_vec(),
    })
}

pub(crate) fn request(
    server: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: haul.test\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("Connection: close\r\n\r\n");
    let mut stream = connect(server);
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let answer = parse(&bytes).expect("an answer");
    check_always(method, &answer);
    answer
}

/// What holds for every answer, whatever was asked.
fn check_always(method: &str, answer: &Answer) {
    assert_eq!(answer.header("transfer-encoding"), None, "never chunked");
    assert_eq!(answer.header("content-encoding"), None, "never encoded");
    assert_eq!(answer.header("server"), None);
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let length = answer.header("content-length");
    if answer.status == 304 || method == "HEAD" {
        assert!(answer.body.is_empty());
    } else {
        assert_eq!(length, Some(answer.body.len().to_string().as_str()));
    }
}

pub(crate) fn get(server: SocketAddr, target: &str) -> Answer {
    request(server, "GET", target, &[])
}

pub(crate) fn head(server: SocketAddr, target: &str) -> Answer {
    request(server, "HEAD", target, &[])
}
