//! Requests that two servers could read differently. This one reads each as one request or none,
//! and ends the connection where it can't know what follows (RFC 9112, section 11.2).

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::client::{connect, get, raw};
use crate::server::serve;

/// What must never be taken for a request; its answer would say [`SMUGGLED_ANSWER`].
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
const SMUGGLED_ANSWER: &str = "nothing is here";

fn statuses(bytes: &[u8]) -> Vec<u16> {
    String::from_utf8_lossy(bytes)
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|rest| rest[..3].parse().unwrap())
        .collect()
}

/// Sends and waits for the server to close, which it must soon.
fn refused(at: std::net::SocketAddr, request: &str) -> Vec<u16> {
    let started = Instant::now();
    let answer = raw(at, request.as_bytes(), None);
    assert!(started.elapsed() < Duration::from_secs(20), "{request:?}");
    let text = String::from_utf8_lossy(&answer);
    assert!(!text.contains(SMUGGLED_ANSWER), "{request:?}: {text}");
    statuses(&answer)
}

#[test]
fn two_readings_of_a_length_are_one_answer_at_most_and_the_end() {
    let served = serve();
    let lines = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding : chunked\r\nContent-Length: 4",
        "Transfer-Encoding\r\n: chunked\r\nContent-Length: 4",
        "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 4",
        "X: y\r\n\tContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4, 5",
        "Content-Length: +4",
        "Content-Length: 0x4",
        "Content-Length: 4 4",
        "Content-Length: -1",
        "Content-Length: 18446744073709551617",
        "Content-Length : 4",
        "Content-Length: ",
        "X\0: y",
        "X: y\0z",
        "X: y\rContent-Length: 4",
        ": y",
        "no colon",
    ];
    for line in lines {
        for method in ["GET", "POST"] {
            let request =
                format!("{method} /v2/ HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n0\r\n\r\n{SMUGGLED}");
            let answers = refused(served.at, &request);
            assert!(answers.len() <= 1, "{request:?}: {answers:?}");
            let all = answers.iter().all(|status| (400..500).contains(status));
            assert!(all, "{request:?}: {answers:?}");
        }
    }
    assert_eq!(get(served.at, "/v2/").status, 200);
}

#[test]
fn what_follows_a_refused_body_is_not_read_as_a_request() {
    let served = serve();
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let length = SMUGGLED.len();
        let request = format!(
            "{method} /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n\
             {SMUGGLED}{SMUGGLED}"
        );
        assert_eq!(refused(served.at, &request), [405], "{method}");
    }
}

#[test]
fn a_get_may_have_a_small_body_that_is_no_request_and_no_larger_one() {
    let served = serve();
    let length = SMUGGLED.len();
    let request = format!(
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{SMUGGLED}"
    );
    assert_eq!(refused(served.at, &request), [200]);
    for length in [8193, 1 << 20, u64::MAX] {
        // refused before any of it comes
        let request = format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        let answers = refused(served.at, &request);
        assert!(
            matches!(answers[..], [413] | [431]),
            "{length}: {answers:?}"
        );
    }
}

#[test]
fn odd_forms_that_mean_one_thing_are_answered() {
    let served = serve();
    for request in [
        "GET /v2/ HTTP/1.1\nHost: x\nConnection: close\n\n",
        "GET http://other.test/v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /v2/ HTTP/1.0\r\n\r\n",
        "\r\nGET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: close, Upgrade\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
    ] {
        let answer = raw(served.at, request.as_bytes(), None);
        let text = String::from_utf8_lossy(&answer);
        assert!(
            text.starts_with("HTTP/1.1 200") || text.starts_with("HTTP/1.0 200"),
            "{request:?}: {text}"
        );
    }
}

#[test]
fn http2_is_not_spoken() {
    let served = serve();
    let answers = refused(served.at, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(answers.iter().all(|status| (400..500).contains(status)));
}

#[test]
fn methods_of_every_kind_are_405_with_allow_and_the_connection_ends() {
    let served = serve();
    for method in [
        "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "Head", "GETX",
    ] {
        let request = format!("{method} /v2/ HTTP/1.1\r\nHost: x\r\n\r\n{SMUGGLED}");
        let answer = raw(served.at, request.as_bytes(), None);
        assert_eq!(statuses(&answer), [405], "{method}");
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        assert!(text.contains("\r\nallow: get, head\r\n"), "{text}");
        assert!(text.contains("\r\nconnection: close\r\n"), "{text}");
    }
}

#[test]
fn sixteen_kib_of_headers_are_taken_and_more_are_not() {
    let served = serve();
    let with = |header: String| {
        format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n")
    };
    let filler = |bytes: usize| with(format!("X: {}\r\n", "x".repeat(bytes)));
    assert_eq!(refused(served.at, &filler(12 << 10)), [200]);
    let answers = refused(served.at, &filler(17 << 10));
    assert!(matches!(answers[..], [] | [431]), "{answers:?}");
    let answers = refused(served.at, &with("X: y\r\n".repeat(200)));
    assert!(matches!(answers[..], [] | [431]), "{answers:?}");
}

#[test]
fn a_flood_of_headers_ends_early_and_takes_no_memory() {
    let served = serve();
    let before = served.server.memory();
    for start in ["GET /", "GET / HTTP/1.1\r\nX: ", "GET / HTTP/1.1\r\n", ""] {
        let mut stream = connect(served.at);
        stream.write_all(start.as_bytes()).unwrap();
        let flood = match start.ends_with('\n') {
            true => "A: b\r\n".repeat(10_000),
            false => "a".repeat(60_000),
        };
        let mut sent = 0;
        // the server stops reading and closes: writing fails
        while sent < 64 << 20 && stream.write_all(flood.as_bytes()).is_ok() {
            sent += flood.len();
        }
        assert!(sent < 64 << 20, "{start:?}");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(statuses(&answer).iter().all(|status| *status < 500));
    }
    let grown = served.server.memory().saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB");
    assert_eq!(get(served.at, "/v2/").status, 200);
}

#[test]
fn many_half_sent_requests_hold_nobody_up() {
    let served = serve();
    let halves: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = connect(served.at);
            stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost:").unwrap();
            stream
        })
        .collect();
    let started = Instant::now();
    assert_eq!(get(served.at, "/v2/library/app/manifests/1").status, 200);
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(halves);
}

#[test]
fn no_spelling_of_a_path_leads_out_of_the_haul() {
    let served = serve();
    let climbs = [
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "%2E%2E%2F",
        ".%2e/",
        "..%5c",
        "..\\",
        "%252e%252e%252f",
        "%c0%ae%c0%ae/",
        "%e0%80%ae%e0%80%ae/",
        "..%00/",
        "..;/",
        "./../",
        "//../",
        "..%0d%0a/",
    ];
    for climb in climbs {
        for (before, after) in [
            ("/", "etc/passwd"),
            ("/files/", "etc/passwd"),
            ("/logs/", "etc/passwd"),
            ("/v2/", "etc/passwd/manifests/1"),
            ("/v2/library/app/manifests/", "etc/passwd"),
            ("/v2/library/app/blobs/", "etc/passwd"),
            ("/v2/library/app/blobs/sha256:", "etc/passwd"),
            ("/mirrors/", "etc/passwd"),
        ] {
            let path = format!("{before}{}{after}", climb.repeat(6));
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answer = raw(served.at, request.as_bytes(), None);
            let text = String::from_utf8_lossy(&answer);
            assert!(!text.contains("root:"), "{path}");
            let answers = statuses(&answer);
            assert!(matches!(answers[..], [400 | 404]), "{path}: {answers:?}");
        }
    }
}
