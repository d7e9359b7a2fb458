//! Taking connections, within limits.
//!
//! HTTP and TLS share the port; see [`super::access`].
//!
//! `axum::serve` has no time-out for headers, so the loop is ours over hyper's HTTP/1.1. HTTP/2 is
//! not offered: neither containerd nor containers/image uses it towards a registry.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower_service::Service as _;

use super::access::{self, Access, Begins, Secure};
use super::address::Local;
use super::patience::{Answering, Patient};
use super::request_log::{Entry, LineLimit, Logged};
use super::state::Registry;
use super::{handler, limits};

/// How long to wait when the kernel can't give a connection: for descriptors or memory, of whose
/// return nothing tells.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `end` says so or is gone; then lets connections finish what they are at, for
/// [`limits::GRACE_TIME`] at most.
pub(super) async fn serve(
    listener: TcpListener,
    registry: Arc<Registry>,
    mut end: watch::Receiver<bool>,
) {
    let access = Arc::clone(&registry.access);
    let router = Router::new().fallback(handler::handle).with_state(registry);
    let slots = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let addresses = PerAddress::default();
    let lines = Arc::new(LineLimit::default());
    loop {
        // a slot first: beyond the limit clients wait in the kernel's queue
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
            Some((slot, listener.accept().await))
        };
        let accepted = tokio::select! {
            _ = end.changed() => break,
            accepted = accepted => accepted,
        };
        let (slot, stream, client) = match accepted {
            Some((slot, Ok((stream, client)))) => (slot, stream, client),
            Some((_, Err(error))) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            None => break,
        };
        let Some(place) = addresses.enter(client) else {
            tracing::warn!(%client, "too many connections of one address; closed one");
            continue;
        };
        let connection = Connection {
            router: router.clone(),
            access: Arc::clone(&access),
            lines: Arc::clone(&lines),
            client: client.ip().to_canonical(),
            local: stream.local_addr().ok(),
            end: end.clone(),
            _slot: slot,
            _place: place,
        };
        tokio::spawn(connection.serve(stream));
    }
    drop(listener);
    let all = u32::try_from(limits::CONNECTIONS).unwrap_or(u32::MAX);
    let finished = slots.acquire_many(all);
    // whoever is not done by now is cut off by the end of the process
    let _ = tokio::time::timeout(limits::GRACE_TIME, finished).await;
}

struct Connection {
    router: Router,
    access: Arc<Access>,
    lines: Arc<LineLimit>,
    client: IpAddr,
    local: Option<SocketAddr>,
    end: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
    _place: Place,
}

impl Connection {
    async fn serve(mut self, stream: TcpStream) {
        // answers are written whole; waiting for more only delays their ends
        let _ = stream.set_nodelay(true);
        // without TLS nothing is waited for here: HTTP's layer refuses a handshake in words
        let config = match self.access.server_config() {
            None => None,
            Some(config) => {
                let begins = tokio::select! {
                    begins = access::begins(&stream) => begins,
                    _ = self.end.changed() => return,
                };
                match begins {
                    Begins::Nothing => return,
                    Begins::Http => None,
                    Begins::Tls => Some(config),
                }
            }
        };
        let answering = Answering::default();
        let stream = Patient::new(
            stream,
            answering.clone(),
            limits::HEADER_TIME,
            limits::STALL_TIME,
        );
        let Some(config) = config else {
            return self.http(stream, answering, Secure(false)).await;
        };
        match access::handshake(config, stream).await {
            Ok(stream) => self.http(stream, answering, Secure(true)).await,
            Err(error) => {
                tracing::debug!(client = %self.client, %error, "a TLS handshake failed");
            }
        }
    }

    async fn http<S>(&mut self, stream: S, answering: Answering, secure: Secure)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (router, lines, client) = (self.router.clone(), Arc::clone(&self.lines), self.client);
        let local = self.local;
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (router, lines) = (router.clone(), Arc::clone(&lines));
            if let Some(local) = local {
                request.extensions_mut().insert(Local(local));
            }
            request.extensions_mut().insert(secure);
            answer(router, lines, client, answering.clone(), request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::IDLE_TIME)
            .max_buf_size(limits::HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            _ = self.end.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(client = %self.client, %error, "a connection ended");
        }
    }
}

async fn answer(
    mut router: Router,
    lines: Arc<LineLimit>,
    client: IpAddr,
    answering: Answering,
    request: Request<Incoming>,
) -> Result<Response<Logged>, std::convert::Infallible> {
    let guard = answering.begin();
    let entry = Entry::begin(&request, client);
    let mut request = request.map(Body::new);
    // who asks decides about logs, and about what is answered at all
    request.extensions_mut().insert(client);
    let response = router.call(request).await?;
    let status = response.status().as_u16();
    Ok(response.map(|body| entry.answered(status, body, lines, guard)))
}

/// How many connections each address has.
#[derive(Clone, Debug, Default)]
struct PerAddress {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One counted connection; leaves when dropped.
#[derive(Debug)]
struct Place {
    addresses: PerAddress,
    key: Option<IpAddr>,
}

impl PerAddress {
    fn enter(&self, client: SocketAddr) -> Option<Place> {
        let key = key(client.ip());
        if let Some(key) = key {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(key).or_default();
            if *count >= limits::CONNECTIONS_PER_ADDRESS {
                return None;
            }
            *count += 1;
        }
        let addresses = self.clone();
        Some(Place { addresses, key })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut counts = self
            .addresses
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }
}

/// Whom a connection counts for: nobody on loopback, else its machine.
fn key(address: IpAddr) -> Option<IpAddr> {
    let network = network(address);
    (!address.to_canonical().is_loopback()).then_some(network)
}

/// What is one machine's: its address, or the /64 of IPv6, which is what one has at least.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(network.into())
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_can_not_take_all_connections_and_gives_them_back() {
        let addresses = PerAddress::default();
        let client: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
        let neighbour: SocketAddr = "[2001:db8::2]:1".parse().unwrap();
        let other: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let places: Vec<_> = (0..limits::CONNECTIONS_PER_ADDRESS)
            .map(|_| addresses.enter(client).unwrap())
            .collect();
        assert!(addresses.enter(client).is_none());
        assert!(addresses.enter(neighbour).is_none());
        assert!(addresses.enter(other).is_some());
        assert!(addresses.enter("127.0.0.1:1".parse().unwrap()).is_some());
        drop(places);
        assert!(addresses.enter(client).is_some());
        assert!(addresses.counts.lock().unwrap().is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_ends_its_own_connection_and_nothing_else() {
        use super::super::status::StatusSource;
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let status = StatusSource::Own(Box::default());
        let registry = Arc::new(Registry::empty(status, String::new()));
        let (end, ended) = watch::channel(false);
        let server = tokio::spawn(serve(listener, registry, ended));
        let get = async |path: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // a connection that ends by a panic may be reset
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8(answer).unwrap()
        };
        for _ in 0..3 {
            assert_eq!(get("/panic").await, "");
            assert!(get("/v2/").await.starts_with("HTTP/1.1 200"));
        }
        end.send(true).unwrap();
        server.await.unwrap();
    }

    #[test]
    fn an_ipv4_address_is_the_same_through_an_ipv6_socket() {
        let mapped = key("::ffff:192.0.2.1".parse().unwrap());
        assert_eq!(mapped, key("192.0.2.1".parse().unwrap()));
        assert_eq!(key("::ffff:127.0.0.1".parse().unwrap()), None);
    }
}
