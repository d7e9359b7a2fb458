//! A client for large answers: it reads them into memory that it uses again, and does nothing
//! else with them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer's headers.
const HEADERS: usize = 16 << 10;

/// A connection to a server.
pub(super) struct Client {
    stream: TcpStream,
    server: SocketAddr,
    buffer: Vec<u8>,
}

/// An answer whose body is read by [`Client::take`].
pub(super) struct Body {
    /// Bytes that are still to come.
    pub(super) left: u64,
}

impl Client {
    /// Connects; at most `buffer` bytes are read at once.
    ///
    /// # Errors
    /// When nobody listens.
    pub(super) fn connect(server: SocketAddr, buffer: usize) -> Result<Client> {
        let stream = TcpStream::connect(server).with_context(|| format!("reaching {server}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        Ok(Client {
            stream,
            server,
            buffer: vec![0; buffer.max(HEADERS)],
        })
    }

    /// Has the kernel keep at most so many bytes that were not read yet.
    ///
    /// # Errors
    /// When it refuses.
    pub(super) fn keep_little(&mut self, bytes: usize) -> Result<()> {
        rustix::net::sockopt::set_socket_recv_buffer_size(&self.stream, bytes)?;
        Ok(())
    }

    /// Asks for a path and reads the headers.
    ///
    /// # Errors
    /// When the answer is no 200 with `Content-Length`.
    pub(super) fn get(&mut self, path: &str) -> Result<Body> {
        let server = self.server;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n\r\n");
        let sent = self.stream.write_all(request.as_bytes());
        sent.with_context(|| format!("{path}: asking for it"))?;
        let mut filled = 0;
        loop {
            let room = self.buffer.get_mut(filled..HEADERS).unwrap_or_default();
            let read = self
                .stream
                .read(room)
                .with_context(|| format!("{path}: reading headers"))?;
            ensure!(read > 0, "{path}: the server ended within headers");
            filled += read;
            let got = self.buffer.get(..filled).unwrap_or_default();
            if let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") {
                let headers = String::from_utf8_lossy(got.get(..end).unwrap_or_default());
                let length = content_length(&headers).with_context(|| path.to_owned())?;
                let early = (filled - end - 4) as u64;
                let left = length
                    .checked_sub(early)
                    .ok_or_else(|| anyhow!("{path}: more than was announced"))?;
                return Ok(Body { left });
            }
        }
    }

    /// Reads some of a body; returns how many bytes, 0 at its end.
    ///
    /// # Errors
    /// When the server ends before it.
    pub(super) fn take(&mut self, body: &mut Body) -> Result<u64> {
        let most = usize::try_from(body.left).unwrap_or(usize::MAX);
        let most = most.min(self.buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let room = self.buffer.get_mut(..most).unwrap_or_default();
        let read = self.stream.read(room);
        let read = read.with_context(|| format!("{} bytes before the end", body.left))? as u64;
        ensure!(read > 0, "the server ended {} bytes too early", body.left);
        body.left -= read;
        Ok(read)
    }

    /// Asks for a path and reads all of it; returns how many bytes the body had after the first
    /// packet.
    ///
    /// # Errors
    /// As for [`Client::get`] and [`Client::take`].
    pub(super) fn whole(&mut self, path: &str) -> Result<u64> {
        let mut body = self.get(path)?;
        let mut bytes = 0;
        loop {
            match self.take(&mut body)? {
                0 => return Ok(bytes),
                read => bytes += read,
            }
        }
    }
}

fn content_length(headers: &str) -> Result<u64> {
    let mut lines = headers.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.split(' ').nth(1);
    ensure!(status == Some("200"), "the server answers {first:?}");
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = length.ok_or_else(|| anyhow!("no Content-Length"))?;
    Ok(length.trim().parse()?)
}

/// Reads a path again and again on so many connections; returns bytes of all, and seconds.
///
/// # Errors
/// When one of them fails.
pub(super) fn stream(
    server: SocketAddr,
    path: &str,
    connections: usize,
    duration: Duration,
) -> Result<(u64, f64)> {
    const BUFFER: usize = 1 << 20;
    let started = Instant::now();
    let read = |_| -> Result<u64> {
        let mut bytes = 0;
        let mut client = Client::connect(server, BUFFER)?;
        loop {
            let mut body = client.get(path)?;
            loop {
                let read = client.take(&mut body)?;
                bytes += read;
                if started.elapsed() >= duration {
                    return Ok(bytes);
                }
                if read == 0 {
                    break;
                }
            }
        }
    };
    let bytes = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..connections)
            .map(|number| scope.spawn(move || read(number)))
            .collect();
        readers
            .into_iter()
            .map(|reader| {
                reader
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("a reader panicked")))
            })
            .sum::<Result<u64>>()
    })?;
    Ok((bytes, started.elapsed().as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_200_with_a_length_is_an_answer() {
        let length = |headers: &str| content_length(headers).ok();
        assert_eq!(
            length("HTTP/1.1 200 OK\r\nX: 1\r\ncontent-length: 12"),
            Some(12)
        );
        assert_eq!(length("HTTP/1.1 404 Not Found\r\nContent-Length: 12"), None);
        assert_eq!(
            length("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked"),
            None
        );
    }
}
