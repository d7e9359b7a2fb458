//! Taking connections, within limits.
//!
//! HTTP and TLS share the port; see [`super::access`].
//!
//! `axum::serve` has no time-out for headers, so the loop is ours over hyper's HTTP/1.1. HTTP/2 is
//! not offered: neither containerd nor containers/image uses it towards a registry.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower_service::Service as _;

use super::access::{self, Access, Begins, Secure};
use super::address::Local;
use super::errors::Code;
use super::patience::{Answering, Patient};
use super::request_log::{Entry, LineLimit, Logged};
use super::slots::{Crowd, Slot, Slots};
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
    let slots = Slots::default();
    let addresses = PerAddress::default();
    let refusals = Refusals::default();
    let lines = Arc::new(LineLimit::default());
    loop {
        let accepted = tokio::select! {
            _ = end.changed() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let local = stream.local_addr().ok();
        let Some(place) = addresses.enter(client, local) else {
            if let Some(suppressed) = lines.take(Instant::now()) {
                let client = client.ip();
                tracing::warn!(%client, suppressed, "too many connections of one address; refused one");
            }
            refusals.refuse(stream);
            continue;
        };
        let Some(slot) = slots.enter(client) else {
            if let Some(suppressed) = lines.take(Instant::now()) {
                tracing::warn!(suppressed, "too many connections wait; refused one");
            }
            refusals.refuse(stream);
            continue;
        };
        let connection = Connection {
            router: router.clone(),
            access: Arc::clone(&access),
            lines: Arc::clone(&lines),
            client: client.ip().to_canonical(),
            local,
            end: end.clone(),
            crowd: slots.crowd(),
            _place: place,
        };
        tokio::spawn(connection.wait_and_serve(slot, stream));
    }
    drop(listener);
    let finished = slots.all();
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
    crowd: Crowd,
    _place: Place,
}

impl Connection {
    async fn wait_and_serve(mut self, slot: Slot, stream: TcpStream) {
        let _slot = match slot {
            Slot::Now(slot) => slot,
            Slot::Later(queued) => tokio::select! {
                turn = queued.turn() => match turn {
                    Some(slot) => slot,
                    // it keeps its place meanwhile: as many may wait as before
                    None => return refuse(stream).await,
                },
                _ = self.end.changed() => return,
            },
        };
        self.serve(stream).await;
    }

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
            Ok(mut stream) => {
                // what the handshake read was no request's beginning
                stream.get_mut().0.headers_are_over();
                self.http(stream, answering, Secure(true)).await;
            }
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
        let (crowd, course) = (self.crowd.clone(), Arc::new(Course::default()));
        let own_course = Arc::clone(&course);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (router, lines) = (router.clone(), Arc::clone(&lines));
            if let Some(local) = local {
                request.extensions_mut().insert(Local(local));
            }
            request.extensions_mut().insert(secure);
            let answer = answer(router, lines, client, answering.clone(), request);
            own_course.asked.store(true, Ordering::Relaxed);
            let (crowd, course) = (crowd.clone(), Arc::clone(&own_course));
            async move {
                let mut answer = answer.await;
                course.answered.store(true, Ordering::Relaxed);
                if let Ok(answer) = &mut answer
                    && crowd.is_there()
                {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(header::CONNECTION, close);
                }
                answer
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::IDLE_TIME)
            .max_buf_size(limits::HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = ends_for_others(&mut self.crowd, &course) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
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

/// What has become of a connection so far.
#[derive(Debug, Default)]
struct Course {
    asked: AtomicBool,
    answered: AtomicBool,
}

/// Waits until a connection holds a turn that somebody waits for and makes nothing of it: it was
/// answered, or has asked nothing for the time that headers may take. One whose first request is
/// being answered would be cut off; it ends with that.
async fn ends_for_others(crowd: &mut Crowd, course: &Course) {
    let silent = tokio::time::sleep(limits::HEADER_TIME);
    tokio::pin!(silent);
    loop {
        crowd.comes().await;
        if course.answered.load(Ordering::Relaxed) {
            return;
        }
        tokio::select! {
            () = crowd.changes() => {}
            () = silent.as_mut(), if !silent.is_elapsed() => {}
        }
        let asked = course.asked.load(Ordering::Relaxed);
        if silent.is_elapsed() && !asked && crowd.is_there() {
            return;
        }
    }
}

/// Connections that are not taken, and are told so.
#[derive(Debug)]
struct Refusals(Arc<Semaphore>);

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals(Arc::new(Semaphore::new(limits::REFUSALS)))
    }
}

impl Refusals {
    /// Refuses beside what else is done; too many at once are closed without a word.
    fn refuse(&self, stream: TcpStream) {
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
async fn refuse(mut stream: TcpStream) {
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
    fn enter(&self, client: SocketAddr, local: Option<SocketAddr>) -> Option<Place> {
        let key = key(client.ip(), local.map(|local| local.ip()));
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

/// Whom a connection counts for: nobody on loopback, else its machine. Whoever is in this end's own
/// /64 is a neighbour with an address of its own.
fn key(address: IpAddr, local: Option<IpAddr>) -> Option<IpAddr> {
    let address = address.to_canonical();
    let machine = match network(address) {
        network if local.map(self::network) == Some(network) => address,
        network => network,
    };
    (!address.is_loopback()).then_some(machine)
}

/// What is one machine's: its address, or the /64 of IPv6, which is what one has at least where
/// addresses are given out. On a cable (link-local and unique local addresses) a /64 is everybody.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if address.is_unicast_link_local() || address.is_unique_local() => {
            address.into()
        }
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(network.into())
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[test]
    fn one_address_can_not_take_all_connections_and_gives_them_back() {
        let addresses = PerAddress::default();
        let client: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
        let neighbour: SocketAddr = "[2001:db8::2]:1".parse().unwrap();
        let other: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let places: Vec<_> = (0..limits::CONNECTIONS_PER_ADDRESS)
            .map(|_| addresses.enter(client, None).unwrap())
            .collect();
        assert!(addresses.enter(client, None).is_none());
        assert!(addresses.enter(neighbour, None).is_none());
        assert!(addresses.enter(other, None).is_some());
        assert!(
            addresses
                .enter("127.0.0.1:1".parse().unwrap(), None)
                .is_some()
        );
        drop(places);
        assert!(addresses.enter(client, None).is_some());
        assert!(addresses.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn neighbours_of_ipv6_count_for_themselves_and_guests_for_their_network() {
        let of = |client: &str| key(client.parse().unwrap(), "2001:db8::5".parse().ok()).unwrap();
        assert_ne!(of("2001:db8::1"), of("2001:db8::2"));
        assert_eq!(of("2001:db8:1::1"), of("2001:db8:1::2"));
        assert_ne!(of("fe80::1"), of("fe80::2"));
        assert_ne!(of("fd00::1"), of("fd00::2"));
    }

    /// A registry without contents; ends when what is returned with its address is dropped.
    async fn served() -> (SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let status = super::super::status::StatusSource::Own(Box::default());
        let registry = Arc::new(Registry::empty(status, String::new()));
        let (end, ended) = watch::channel(false);
        tokio::spawn(serve(listener, registry, ended));
        (address, end)
    }

    /// Asks once, and leaves the connection as it is.
    async fn ask(stream: &mut TcpStream) -> String {
        let request = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"{}") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn connections_that_idle_make_room_for_those_that_wait() {
        let (address, _end) = served().await;
        let mut idle = Vec::new();
        for _ in 0..limits::CONNECTIONS + limits::NODE_CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let answer = ask(&mut stream).await;
            assert!(!answer.contains("connection: close"), "{answer}");
            idle.push(stream);
        }
        // far below what an idle connection may take
        let soon = limits::IDLE_TIME / 4;
        let mut last = TcpStream::connect(address).await.unwrap();
        tokio::time::timeout(soon, ask(&mut last)).await.unwrap();
    }

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

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_ends_its_own_connection_and_nothing_else() {
        let (address, _end) = served().await;
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
    }

    #[test]
    fn an_ipv4_address_is_the_same_through_an_ipv6_socket() {
        let mapped = key("::ffff:192.0.2.1".parse().unwrap(), None);
        assert_eq!(mapped, key("192.0.2.1".parse().unwrap(), None));
        assert_eq!(key("::ffff:127.0.0.1".parse().unwrap(), None), None);
    }
}
