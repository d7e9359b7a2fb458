//! Taking connections, within limits.
//!
//! HTTP and TLS share the port; see [`super::access`].
//!
//! `axum::serve` has no time-out for headers, so the loop is ours over hyper's HTTP/1.1. HTTP/2 is
//! not offered: neither containerd nor containers/image uses it towards a registry.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower_service::Service as _;

use super::access::{self, Access, Begins, Secure};
use super::address::Local;
use super::machines::{PerAddress, Place};
use super::patience::{Answering, Patient};
use super::refusals::{Refusals, refuse};
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
        let course = Arc::new(Course {
            began: tokio::time::Instant::now(),
            answering: Answering::default(),
            answered: AtomicBool::new(false),
        });
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
        let stream = Patient::new(
            stream,
            course.answering.clone(),
            limits::HEADER_TIME,
            limits::STALL_TIME,
        );
        let Some(config) = config else {
            return self.http(stream, course, Secure(false)).await;
        };
        match access::handshake(config, stream).await {
            Ok(mut stream) => {
                // what the handshake read was no request's beginning
                stream.get_mut().0.headers_are_over();
                self.http(stream, course, Secure(true)).await;
            }
            Err(error) => {
                tracing::debug!(client = %self.client, %error, "a TLS handshake failed");
            }
        }
    }

    async fn http<S>(&mut self, stream: S, course: Arc<Course>, secure: Secure)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (router, lines, client) = (self.router.clone(), Arc::clone(&self.lines), self.client);
        let local = self.local;
        let (crowd, own_course) = (self.crowd.clone(), Arc::clone(&course));
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (router, lines) = (router.clone(), Arc::clone(&lines));
            if let Some(local) = local {
                request.extensions_mut().insert(Local(local));
            }
            request.extensions_mut().insert(secure);
            let answering = own_course.answering.clone();
            let answer = answer(router, lines, client, answering, request);
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
#[derive(Debug)]
struct Course {
    began: tokio::time::Instant,
    answering: Answering,
    /// Whether an answer has begun.
    answered: AtomicBool,
}

/// Waits until a connection holds a turn that somebody waits for and makes nothing of it: it was
/// answered, or has asked nothing for the time that headers may take. One whose first request is
/// being answered would be cut off; it ends with that.
async fn ends_for_others(crowd: &mut Crowd, course: &Course) {
    let silent = tokio::time::sleep_until(course.began + limits::HEADER_TIME);
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
        let asked = course.answering.is() || course.answered.load(Ordering::Relaxed);
        if silent.is_elapsed() && !asked && crowd.is_there() {
            return;
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

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
}
