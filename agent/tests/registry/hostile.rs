//! Requests that no client sends. None gets a 5xx, none hangs, and the server lives on.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::client::{connect, get, parse, raw};
use crate::layout::{HUGE, LARGE};
use crate::server::serve;

/// A server that has not answered by then what needs no answer waits for more of it.
const SILENCE: Duration = Duration::from_millis(300);

/// Statuses of all answers in `bytes`.
fn statuses(bytes: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(bytes);
    text.split("HTTP/1.")
        .skip(1)
        .map(|rest| rest[2..5].parse().unwrap())
        .collect()
}

/// All that comes for some bytes. If an answer is due it is waited for as long as it takes, else for
/// a moment, as is whatever comes after it.
fn answers(server: SocketAddr, bytes: &[u8], due: bool) -> Vec<u8> {
    let mut stream = connect(server);
    // a server that refuses early may close while there is more to write
    let _ = stream.write_all(bytes);
    let mut came = Vec::new();
    let mut piece = [0; 4096];
    if due {
        let read = stream.read(&mut piece).unwrap();
        came.extend(&piece[..read]);
    }
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    while let Ok(read @ 1..) = stream.read(&mut piece) {
        came.extend(&piece[..read]);
    }
    came
}

#[test]
fn broken_requests_are_refused_without_a_server_error() {
    let served = serve();
    let long = "a".repeat(5000);
    let header = "x".repeat(40_000);
    let many = "X-Y: z\r\n".repeat(500);
    // what no answer is due to waits for more, which has its time-out, tested below, or is HTTP/2
    let requests: [(&str, Option<u16>); 32] = [
        ("\r\n\r\n", None),
        ("GET\r\n\r\n", Some(400)),
        ("GET / HTTP/9.9\r\n\r\n", Some(400)),
        ("\u{1}\u{2}\u{3}\r\n\r\n", Some(400)),
        ("GET /v2/ HTTP/1.1\r\n\r\n", Some(200)),
        ("GET /v2/ HTTP/1.0\r\n\r\n", Some(200)),
        (
            "GET http://other.test/v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
            Some(200),
        ),
        ("GET * HTTP/1.1\r\nHost: x\r\n\r\n", Some(404)),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", Some(405)),
        ("CONNECT a.test:443 HTTP/1.1\r\nHost: x\r\n\r\n", Some(405)),
        (
            "GET /v2/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
            Some(404),
        ),
        (
            "GET /v2/%2e%2e/%2e%2e/etc/passwd/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n",
            Some(400),
        ),
        (
            "GET /files/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: x\r\n\r\n",
            Some(404),
        ),
        ("GET /files/%00 HTTP/1.1\r\nHost: x\r\n\r\n", Some(404)),
        (
            "GET /v2/a%00b/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n",
            Some(404),
        ),
        (
            "GET /v2/%ff%fe/tags/list HTTP/1.1\r\nHost: x\r\n\r\n",
            Some(404),
        ),
        (
            "GET //v2//library//app//manifests//1 HTTP/1.1\r\nHost: x\r\n\r\n",
            Some(404),
        ),
        (
            &format!("GET /v2/{long}/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n"),
            Some(414),
        ),
        (
            &format!("GET /v2/library/app/manifests/{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
            Some(414),
        ),
        (
            &format!("GET /v2/library/app/tags/list?ns={long} HTTP/1.1\r\nHost: x\r\n\r\n"),
            Some(414),
        ),
        (
            &format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nX: {header}\r\n\r\n"),
            Some(431),
        ),
        (
            &format!("GET /v2/ HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
            Some(431),
        ),
        (
            "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /status HTTP/1.1\r\nHost: x\r\n\r\n",
            Some(405),
        ),
        (
            "GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            Some(400),
        ),
        (
            "GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            Some(400),
        ),
        (
            "GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nx",
            Some(413),
        ),
        (
            "GET /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            Some(413),
        ),
        ("GET /v2/ HTTP/1.1\r\nHost : x\r\n\r\n", Some(400)),
        ("GET /v2/ HTTP/1.1\r\n Folded: x\r\n\r\n", Some(400)),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
        (
            "\u{16}\u{3}\u{1}\u{0}\u{5}\u{1}\u{0}\u{0}\u{1}\u{3}",
            Some(400),
        ),
        (
            "GET /v2/library/app/manifests/1 HTTP/1.1\r\nHost: x\r\nRange: bytes=\u{7f}\r\n\r\n",
            Some(400),
        ),
    ];
    for (request, due) in requests {
        let shown: String = request.chars().take(60).collect();
        let answer = answers(served.at, request.as_bytes(), due.is_some());
        assert_eq!(statuses(&answer), Vec::from_iter(due), "{shown}");
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains("root:"), "{shown}");
    }
    assert_eq!(get(served.at, "/v2/").status, 200);
}

#[test]
fn a_request_with_two_lengths_is_the_last_of_its_connection() {
    let served = serve();
    let smuggled = "POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n";
    let answers = statuses(&raw(served.at, smuggled.as_bytes(), None));
    assert_eq!(answers, [405]);
}

#[test]
fn headers_that_are_too_large_are_refused() {
    let served = serve();
    let header = "x".repeat(40_000);
    let request = format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nX: {header}\r\n\r\n");
    assert_eq!(statuses(&raw(served.at, request.as_bytes(), None)), [431]);
    let request = format!(
        "GET /v2/{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "a".repeat(5000)
    );
    assert_eq!(statuses(&raw(served.at, request.as_bytes(), None)), [414]);
}

#[test]
fn a_half_sent_request_ends_after_its_time_and_holds_nobody_up() {
    let served = serve();
    let mut half = connect(served.at);
    half.write_all(b"GET /v2/ HTT").unwrap();
    let started = Instant::now();
    assert_eq!(get(served.at, "/v2/").status, 200);
    let mut bytes = Vec::new();
    half.read_to_end(&mut bytes).unwrap();
    let took = started.elapsed();
    assert!(took > Duration::from_secs(8), "{took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(statuses(&bytes).iter().all(|status| *status < 500));
}

#[test]
fn clients_that_leave_in_the_middle_leave_nothing_behind() {
    let served = serve();
    let path = format!("/v2/a.test/big/image/blobs/{}", served.written.large);
    let descriptors = || {
        let open = format!("/proc/{}/fd", served.server.pid());
        std::fs::read_dir(open).unwrap().count()
    };
    assert_eq!(get(served.at, &path).body.len(), LARGE);
    let before = descriptors();
    for _ in 0..100 {
        // as containerd's parallel fetch does: an open range of which it takes a piece
        let mut stream = connect(served.at);
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nRange: bytes=100-\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut piece = [0; 4096];
        stream.read_exact(&mut piece).unwrap();
        assert!(piece.starts_with(b"HTTP/1.1 206"));
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while descriptors() > before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(descriptors() <= before, "{} > {before}", descriptors());
    assert_eq!(get(served.at, "/v2/").status, 200);
}

#[test]
fn one_connection_serves_many_requests() {
    let served = serve();
    let mut stream = connect(served.at);
    for _ in 0..3 {
        let pipelined = "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\nHEAD /v2/ HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(pipelined.as_bytes()).unwrap();
    }
    let last = "GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(last.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(statuses(&bytes), [200; 7]);
}

#[test]
fn a_blob_that_gets_shorter_while_served_is_never_taken_for_complete() {
    let served = serve();
    let path = format!("/v2/a.test/huge/image/blobs/{}", served.written.huge);
    let file = served.dir.path().join(served.written.huge.blob_path());
    let mut stream = connect(served.at);
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut start = [0; 1024];
    stream.read_exact(&mut start).unwrap();
    std::fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(10)
        .unwrap();
    // what the kernel's buffers had taken before still comes; then the connection ends
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let answer = parse(&[&start[..], &rest].concat()).unwrap();
    assert_eq!(
        answer.header("content-length"),
        Some(HUGE.to_string().as_str())
    );
    assert!((answer.body.len() as u64) < HUGE);
    // and it is refused from then on, while the rest is served
    assert_eq!(get(served.at, &path).status, 500);
    assert_eq!(get(served.at, "/v2/library/app/manifests/1").status, 200);
}
