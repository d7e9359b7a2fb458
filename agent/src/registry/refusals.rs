//! Connections that there is no room for.

use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::access::{self, Begins};
use super::errors::Code;
use super::limits;

/// Connections that are not taken, and are told so.
#[derive(Debug)]
pub(super) struct Refusals(Arc<Semaphore>);

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals(Arc::new(Semaphore::new(limits::REFUSALS)))
    }
}

impl Refusals {
    /// Refuses beside what else is done; too many at once are closed without a word.
    pub(super) fn refuse(&self, stream: TcpStream) {
        if let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() {
            tokio::spawn(async move {
                let _permit = permit;
                refuse(stream).await;
            });
        }
    }
}

/// Says that there is no room to whoever asks something, and closes. Not before: a client takes what
/// comes unasked for a broken connection.
pub(super) async fn refuse(mut stream: TcpStream) {
    let said = async {
        // who begins with TLS would take it for a broken handshake
        if !matches!(access::begins(&stream).await, Begins::Http) {
            return Ok(0);
        }
        stream.write_all(&busy()).await?;
        stream.shutdown().await?;
        // what was sent and is not read would take the answer back
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // whoever does not take it has learned as much as from no answer
    let _ = tokio::time::timeout(limits::REFUSAL_TIME, said).await;
}

/// An answer to whatever a client wants.
fn busy() -> Vec<u8> {
    let why = "too many connections; ask again soon";
    let error = serde_json::json!({"errors": [{"code": Code::Unavailable, "message": why}]});
    let body = error.to_string();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nretry-after: {}\r\nconnection: close\r\n\r\n{body}",
        body.len(),
        limits::REFUSED_AGAIN.as_secs(),
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn who_finds_no_room_is_told_so_whatever_was_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        client.write_all(&[b'x'; 100_000]).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let refusals = Refusals::default();
        refusals.refuse(stream);
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(head.contains("retry-after: 5\r\n"), "{head}");
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len())),
            "{head}"
        );
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["errors"][0]["code"], "UNAVAILABLE");
    }
}
