//! HTTPS and users: over real TLS, with a rustls client, openssl and curl.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use image_layout::Digest;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::{Answer, connect, parse, raw, request};
use crate::layout;
use crate::server::{Served, command, serve, serve_with};

/// Of libxcrypt, for the password `geheim`.
const ALICE: &str = "alice:$2y$05$abcdefghijklmnopqrstuuVWu8RjbNovPZWAMRdd7iqaaG0mI53Uu\n";

/// An authority, and a certificate of it for this machine.
struct Authority {
    place: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut wanted = CertificateParams::default();
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // not the name of what it issues, or that would be taken for self-signed
        let name = &mut wanted.distinguished_name;
        name.push(rcgen::DnType::CommonName, "authority");
        let place = tempfile::tempdir().unwrap();
        let certificate = wanted.self_signed(&key).unwrap();
        fs::write(place.path().join("ca.crt"), certificate.pem()).unwrap();
        let issuer = Issuer::new(wanted, key);
        let authority = Authority { place, issuer };
        authority.issue();
        authority
    }

    /// Replaces the server's certificate and key as programs do that renew them.
    fn issue(&self) {
        let key = KeyPair::generate().unwrap();
        let mut wanted = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        for address in ["127.0.0.1", "192.0.2.1"] {
            let address = SanType::IpAddress(address.parse().unwrap());
            wanted.subject_alt_names.push(address);
        }
        let certificate = wanted.signed_by(&key, &self.issuer).unwrap();
        self.replace("key", &key.serialize_pem());
        self.replace("crt", &certificate.pem());
    }

    fn replace(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.place.path().join(name).to_str().unwrap().to_owned()
    }

    fn arguments(&self) -> [String; 4] {
        [
            "--tls-cert",
            &self.path("crt"),
            "--tls-key",
            &self.path("key"),
        ]
        .map(str::to_owned)
    }

    /// Serves with this certificate and further arguments.
    fn serve(&self, more: &[&str]) -> Served {
        let own = self.arguments();
        let all: Vec<&str> = own
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        serve_with(&all)
    }

    /// A connection that trusts this authority alone.
    fn connect(
        &self,
        server: SocketAddr,
        versions: &[&'static rustls::SupportedProtocolVersion],
        alpn: &[&str],
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        let pem = fs::read(self.path("ca.crt")).unwrap();
        roots
            .add(CertificateDer::from_pem_slice(&pem).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(client, connect(server))
    }

    fn get(&self, server: SocketAddr, target: &str) -> Answer {
        let stream = self.connect(server, rustls::ALL_VERSIONS, &["http/1.1"]);
        over(stream, target, "")
    }
}

/// Asks over a connection, with further lines of the header.
fn over(mut stream: impl Read + Write, target: &str, lines: &str) -> Answer {
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{lines}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    parse(&bytes).unwrap()
}

fn run(program: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error} (its package is needed)"));
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn basic(user: &str) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(user);
    format!("Basic {encoded}")
}

fn ask(server: SocketAddr, target: &str, authorization: &str) -> Answer {
    request(server, "GET", target, &[("Authorization", authorization)])
}

/// A registry for alice.
fn serve_users() -> (Served, tempfile::TempDir) {
    let place = tempfile::tempdir().unwrap();
    let users = place.path().join("users");
    fs::write(&users, format!("# comment\n\n{ALICE}")).unwrap();
    (serve_with(&["--users", users.to_str().unwrap()]), place)
}

#[test]
fn a_registry_with_a_certificate_speaks_tls_1_2_and_1_3_and_http_to_its_own_machine() {
    let authority = Authority::new();
    let served = authority.serve(&[]);
    assert!(
        served
            .server
            .said
            .starts_with("listening on https://127.0.0.1:")
    );
    let path = format!("/v2/a.test/big/image/blobs/{}", served.written.large);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = authority.connect(served.at, &[version], &["http/1.1"]);
        let answer = over(stream, &path, "");
        assert_eq!(answer.status, 200);
        assert_eq!(Digest::sha256_of(&answer.body), served.written.large);
    }
    let plain = request(served.at, "GET", &path, &[]);
    assert_eq!(Digest::sha256_of(&plain.body), served.written.large);
}

/// Needs openssl and curl.
#[test]
fn openssl_and_curl_verify_the_certificate_and_speak_http_1_1() {
    let authority = Authority::new();
    let served = authority.serve(&[]);
    let (at, ca) = (served.at.to_string(), authority.path("ca.crt"));
    let s_client = |alpn: &str| {
        let arguments = [
            "s_client",
            "-connect",
            &at,
            "-CAfile",
            &ca,
            "-verify_return_error",
            "-verify_ip",
            "127.0.0.1",
            "-alpn",
            alpn,
        ];
        let output = run("openssl", &arguments, b"");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), said)
    };
    let (good, said) = s_client("h2,http/1.1");
    assert!(good, "{said}");
    assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    assert!(said.contains("Verify return code: 0"), "{said}");
    assert!(!s_client("h2").0, "no HTTP/2 is offered");

    let curl = |host: &str, ca: Option<&str>| {
        let url = format!("https://{host}:{}/v2/", served.at.port());
        let resolve = format!("{host}:{}:127.0.0.1", served.at.port());
        let mut arguments = vec!["-sS", "--resolve", &resolve, "-o", "/dev/null"];
        arguments.extend(["-w", "%{http_code} %{http_version}", &url]);
        arguments.extend(ca.map(|ca| ["--cacert", ca]).into_iter().flatten());
        let output = run("curl", &arguments, b"");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), said)
    };
    assert_eq!(curl("localhost", Some(&ca)), (true, "200 1.1".to_owned()));
    assert!(!curl("other.example", Some(&ca)).0, "another name");
    assert!(!curl("localhost", None).0, "an authority nobody knows");
}

/// containerd tries HTTPS on a port of HTTP, and goes on with HTTP where the answer is HTTP.
#[test]
fn a_client_that_begins_tls_without_any_gets_an_answer_of_http() {
    let served = serve();
    let hello = [&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3][..], &[7; 194]].concat();
    let answer = raw(served.at, &hello, None);
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
}

#[test]
fn what_begins_like_tls_and_is_none_ends_its_connection_alone() {
    let authority = Authority::new();
    let served = authority.serve(&[]);
    for bytes in [
        &b"\x16"[..],
        b"\x16\x03\x01\x00\x05hello",
        &[0x16; 70_000],
        b"\x16\x03\x01\xff\xffGET / HTTP/1.1\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x01\x00",
        b"\x80\x2e\x01\x00\x02",
    ] {
        let answer = raw(served.at, bytes, Some(Duration::from_millis(300)));
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{bytes:?}");
    }
    assert_eq!(authority.get(served.at, "/v2/").status, 200);
}

#[test]
fn a_handshake_that_does_not_go_on_ends_after_its_time_and_holds_nobody_up() {
    let authority = Authority::new();
    let served = authority.serve(&[]);
    let started = Instant::now();
    let mut silent = connect(served.at);
    let mut half = connect(served.at);
    half.write_all(&[0x16, 3, 1, 0, 200, 1]).unwrap();
    // a byte now and then does not help
    let mut slow = connect(served.at);
    let drip = std::thread::spawn(move || {
        slow.write_all(&[0x16, 3, 1, 0, 200]).unwrap();
        while slow.write_all(&[1]).is_ok() && started.elapsed() < Duration::from_secs(25) {
            std::thread::sleep(Duration::from_millis(500));
        }
        started.elapsed()
    });
    assert_eq!(authority.get(served.at, "/v2/").status, 200);
    let within = Duration::from_secs(8)..Duration::from_secs(20);
    for stream in [&mut silent, &mut half] {
        let _ = stream.read_to_end(&mut Vec::new());
        let took = started.elapsed();
        assert!(within.contains(&took), "{took:?}");
    }
    let took = drip.join().unwrap();
    assert!(within.contains(&took), "{took:?}");
}

#[test]
fn another_certificate_is_taken_up_while_a_download_goes_on() {
    let authority = Authority::new();
    let served = authority.serve(&[]);
    let leaf = || {
        let mut stream = authority.connect(served.at, rustls::ALL_VERSIONS, &[]);
        stream.conn.complete_io(&mut stream.sock).unwrap();
        stream.conn.peer_certificates().unwrap()[0].to_vec()
    };
    let before = leaf();
    let mut download = authority.connect(served.at, rustls::ALL_VERSIONS, &[]);
    let request = format!(
        "GET /v2/a.test/big/image/blobs/{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        served.written.large
    );
    download.write_all(request.as_bytes()).unwrap();
    let mut start = [0; 1024];
    download.read_exact(&mut start).unwrap();
    authority.issue();
    let bound = Instant::now() + Duration::from_secs(20);
    while leaf() == before {
        assert!(Instant::now() < bound, "the new certificate is not used");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut rest = Vec::new();
    download.read_to_end(&mut rest).unwrap();
    let answer = parse(&[&start[..], &rest].concat()).unwrap();
    assert_eq!(Digest::sha256_of(&answer.body), served.written.large);
    // half a change leaves what was
    authority.replace("key", "no key");
    authority.replace("crt", "no certificate");
    std::thread::sleep(Duration::from_millis(100));
    assert_ne!(leaf(), before);
}

/// Needs root, for a network of its own, and iproute2 and curl.
#[test]
fn another_machine_is_told_to_use_https_and_gets_no_answer_without() {
    let authority = Authority::new();
    let place = tempfile::tempdir().unwrap();
    layout::write(place.path());
    let script = r#"
        ip link set lo up
        ip address add 192.0.2.1/32 dev lo
        "$AGENT" serve "$HAUL" --listen 192.0.2.1:5000 --tls-cert "$CRT" --tls-key "$KEY" > "$HAUL/said" &
        agent=$!
        trap 'kill $agent' EXIT
        for i in $(seq 200); do grep -q listening "$HAUL/said" && break; sleep 0.05; done
        ask() { curl -sS --cacert "$CA" -w ' %{http_code}\n' "$@"; }
        ask http://192.0.2.1:5000/v2/
        ask http://192.0.2.1:5000/status
        ask -I -o /dev/null http://192.0.2.1:5000/v2/library/app/manifests/1
        ask -o /dev/null https://192.0.2.1:5000/v2/library/app/manifests/1
    "#;
    let output = Command::new("unshare")
        .args(["--net", "sh", "-ec", script])
        .env("AGENT", env!("CARGO_BIN_EXE_agent"))
        .env("HAUL", place.path())
        .env("CRT", authority.path("crt"))
        .env("KEY", authority.path("key"))
        .env("CA", authority.path("ca.crt"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors} (root, iproute2, curl)");
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].contains("\"DENIED\"") && lines[0].contains("use https://"),
        "{said}"
    );
    assert!(lines[0].ends_with(" 403"), "{said}");
    assert!(lines[1].contains("use https://"), "{said}");
    let codes: Vec<&str> = lines[2..].iter().map(|line| line.trim()).collect();
    assert_eq!(codes, ["403", "403", "200"], "{said}");
}

/// The node's registry process, in its sandbox and a network of its own: nobody is answered before
/// the node process has said what is asked of clients, and what it says later counts at once.
///
/// Needs root, and util-linux, iproute2 and curl.
#[test]
fn in_its_sandbox_the_registry_follows_what_the_node_process_hands_over() {
    let authority = Authority::new();
    let haul = tempfile::tempdir().unwrap();
    layout::write(haul.path());
    let read = |name: &str| fs::read_to_string(authority.path(name)).unwrap();
    let open = serde_json::json!({
        "https_only": false, "tls": null, "users": null, "closed": null,
    });
    let tls = serde_json::json!({
        "certificate": read("crt"), "key": read("key"), "authority": read("ca.crt"),
    });
    let node = Digest::sha256_of(b"n0de").hex();
    let users = serde_json::json!({"lines": [ALICE.trim()], "node": node});
    let closed = serde_json::json!({
        "https_only": true, "tls": tls, "users": users, "closed": null,
    });
    fs::write(authority.path("open"), open.to_string()).unwrap();
    fs::write(authority.path("closed"), closed.to_string()).unwrap();
    let script = r#"
        mount -t tmpfs tmpfs /run
        mkdir -p /run/haulboot/haul/haul /run/haulboot/logs
        mount --bind "$HAUL" /run/haulboot/haul/haul
        echo '{}' > /run/haulboot/status.json
        ip link set lo up
        ip address add 192.0.2.1/32 dev lo
        "$AGENT" registry 2> log &
        agent=$!
        trap 'kill $agent' EXIT
        code() { curl -s --cacert ca.crt -o answer -w '%{http_code}' "$@" || true; }
        # until it answers like this
        until_is() {
            wanted=$1; shift
            for i in $(seq 400); do
                [ "$(code "$@")" = "$wanted" ] && { echo "$wanted $*"; return; }
                sleep 0.05
            done
            echo "not $wanted: $*: $(code "$@")"; cat log; exit 1
        }
        put() {
            install -g 2000005000 -m 640 "$1" /run/haulboot/access/access.json.new
            mv /run/haulboot/access/access.json.new /run/haulboot/access/access.json
        }
        here=http://127.0.0.1:5000/v2/ there=http://192.0.2.1:5000/v2/
        until_is 503 $here
        until_is 503 $there
        [ "$(stat -c '%a %u %g' /run/haulboot/access)" = '750 0 2000005000' ]
        put open
        until_is 200 $there
        until_is 200 $here
        put closed
        until_is 403 $there
        until_is 401 $here
        until_is 200 -u haulboot-node:n0de $here
        until_is 401 https://192.0.2.1:5000/v2/
        until_is 200 -u alice:geheim https://192.0.2.1:5000/v2/
        # what can't be read changes nothing
        echo '{' > broken
        put broken
        sleep 0.3
        until_is 403 $there
        put open
        until_is 200 $there
        grep -q '^Uid:.2000005000.2000005000.2000005000.2000005000$' /proc/$agent/status
        grep -q '^NoNewPrivs:.1$' /proc/$agent/status
        for set in Inh Prm Eff Bnd Amb; do
            grep -q "^Cap$set:.0000000000000000$" /proc/$agent/status
        done
        grep -q '^Seccomp:.2$' /proc/$agent/status
        grep -q '^Max data size  *805306368  *805306368 ' /proc/$agent/limits
        grep -q '^Max open files  *1920  *1920 ' /proc/$agent/limits
        echo done
    "#;
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--propagation", "private", "sh", "-ec"])
        .arg(script)
        .current_dir(authority.place.path())
        .env("AGENT", env!("CARGO_BIN_EXE_agent"))
        .env("HAUL", haul.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(said.ends_with("done\n"), "{said}{errors} (root is needed)");
}

#[test]
fn every_path_asks_for_a_user_and_in_the_words_of_its_protocol() {
    let (served, _place) = serve_users();
    let blob = format!("/v2/a.test/big/image/blobs/{}", served.written.large);
    for target in [
        "/",
        "/status",
        "/files/",
        "/files/x",
        "/logs/",
        "/mirrors/k3s",
        "/v2",
        "/v2/",
        "/v2/_catalog",
        "/v2/library/app/tags/list",
        "/v2/library/app/manifests/1",
        "/v2/no/such/manifests/1",
        "/nothing",
        "/favicon.ico",
        "/v2/..%2f..%2fstatus",
        "//v2/",
        &blob,
    ] {
        for method in ["GET", "HEAD", "PUT", "OPTIONS"] {
            let answer = request(served.at, method, target, &[]);
            assert_eq!(answer.status, 401, "{method} {target}");
            assert_eq!(
                answer.header("www-authenticate"),
                Some("Basic realm=\"haul\"")
            );
            if target.starts_with("/v2") && method != "HEAD" {
                assert_eq!(answer.code(), "UNAUTHORIZED", "{method} {target}");
            }
        }
        let known = ask(served.at, target, &basic("alice:geheim"));
        assert_ne!(known.status, 401, "{target}");
    }
    // and never without users
    let open = serve();
    for target in ["/v2/", "/v2/no/such/manifests/1", &blob, "/nothing"] {
        let answer = ask(open.at, target, &basic("mallory:guess"));
        assert_ne!(answer.status, 401, "{target}");
        assert_eq!(answer.header("www-authenticate"), None);
    }
}

#[test]
fn only_a_whole_and_right_header_lets_in() {
    let (served, _place) = serve_users();
    let good = basic("alice:geheim");
    assert_eq!(ask(served.at, "/v2/", &good).status, 200);
    for wrong in [
        "",
        "Basic",
        "Basic !!!!",
        "Bearer YWxpY2U6Z2VoZWlt",
        "Basic YWxpY2U=",
        "basic",
        "Digest username=\"alice\"",
    ] {
        assert_eq!(ask(served.at, "/v2/", wrong).status, 401, "{wrong}");
    }
    let twice = [("Authorization", good.as_str()), ("Authorization", &good)];
    assert_eq!(request(served.at, "GET", "/v2/", &twice).status, 401);
    for user in [
        "alice:Geheim",
        "alice:",
        "bob:geheim",
        "haulboot-node:",
        ":geheim",
        "ALICE:geheim",
    ] {
        assert_eq!(ask(served.at, "/v2/", &basic(user)).status, 401, "{user}");
    }
    // in the target it counts for nothing
    assert_eq!(
        request(served.at, "GET", "/v2/?user=alice:geheim", &[]).status,
        401
    );
}

#[test]
fn a_password_of_10_mb_is_refused_before_anybody_looks_at_it() {
    let (served, _place) = serve_users();
    let started = Instant::now();
    let request = format!(
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n",
        basic(&format!("alice:{}", "x".repeat(10 << 20)))
    );
    let answer = raw(served.at, request.as_bytes(), None);
    // a server that has said so closes with bytes unread, and the answer may be lost on its way
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(ask(served.at, "/v2/", &basic("alice:geheim")).status, 200);
}

#[test]
fn guessing_is_stopped_after_ten_failures_with_the_time_to_wait() {
    let (served, _place) = serve_users();
    let (other, _other_place) = serve_users();
    for _ in 0..10 {
        assert_eq!(ask(served.at, "/v2/", &basic("alice:guess")).status, 401);
    }
    for (target, user) in [("/v2/", "alice:guess"), ("/status", "alice:geheim")] {
        let answer = ask(served.at, target, &basic(user));
        assert_eq!(answer.status, 429, "{user}");
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    }
    let answer = ask(served.at, "/v2/", &basic("alice:guess"));
    assert_eq!(answer.code(), "TOOMANYREQUESTS");
    // asking without a user is no guess: containers/image sends an empty one then
    for _ in 0..20 {
        assert_eq!(ask(other.at, "/v2/", &basic(":")).status, 401);
    }
    let known = ask(other.at, "/v2/", &basic("alice:geheim"));
    assert_eq!(known.status, 200);
    assert_eq!(request(served.at, "GET", "/v2/", &[]).status, 401);
}

#[test]
fn a_password_is_checked_slowly_once_and_then_remembered() {
    let place = tempfile::tempdir().unwrap();
    let users = place.path().join("users");
    let hash = bcrypt::hash("geheim", 11).unwrap();
    fs::write(&users, format!("alice:{hash}\n")).unwrap();
    let served = serve_with(&["--users", users.to_str().unwrap()]);
    let took = || {
        let started = Instant::now();
        assert_eq!(ask(served.at, "/v2/", &basic("alice:geheim")).status, 200);
        started.elapsed()
    };
    let first = took();
    let later = (0..50).map(|_| took()).sum::<Duration>() / 50;
    assert!(later * 5 < first, "first {first:?}, then {later:?}");
}

#[test]
fn a_changed_file_of_users_counts_from_then_on() {
    let (served, place) = serve_users();
    let good = basic("alice:geheim");
    assert_eq!(ask(served.at, "/v2/", &good).status, 200);
    let bob = ALICE.replace("alice", "bob");
    fs::write(place.path().join("new"), bob).unwrap();
    fs::rename(place.path().join("new"), place.path().join("users")).unwrap();
    let bound = Instant::now() + Duration::from_secs(20);
    // bcrypt is not asked meanwhile: what is remembered is forgotten with the line
    while ask(served.at, "/v2/", &good).status == 200 {
        assert!(Instant::now() < bound, "the new file is not used");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(ask(served.at, "/v2/", &basic("bob:geheim")).status, 200);
}

#[test]
fn users_and_https_go_together() {
    let authority = Authority::new();
    fs::write(authority.path("users"), ALICE).unwrap();
    let served = authority.serve(&["--users", &authority.path("users")]);
    let ask = |lines: &str| {
        let stream = authority.connect(served.at, rustls::ALL_VERSIONS, &[]);
        over(stream, "/v2/", lines)
    };
    assert_eq!(ask("").status, 401);
    let line = format!("Authorization: {}\r\n", basic("alice:geheim"));
    assert_eq!(ask(&line).status, 200);
    // this machine may use HTTP, and needs a user all the same
    assert_eq!(request(served.at, "GET", "/v2/", &[]).status, 401);
}

/// Exit code and standard error.
fn refused(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(dir).args(arguments).output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn what_can_not_be_used_is_refused_at_the_start_with_a_remedy() {
    let place = tempfile::tempdir().unwrap();
    layout::write(place.path());
    let (one, other) = (Authority::new(), Authority::new());
    let usage = refused(place.path(), &["--tls-cert", &one.path("crt")]);
    assert_eq!(usage.0, Some(2), "{}", usage.1);
    let file = |name: &str, text: &str| {
        fs::write(one.path(name), text).unwrap();
        one.path(name)
    };
    let (crt, key) = (one.path("crt"), one.path("key"));
    let plain = file("plain", &format!("{ALICE}bob:geheim\n"));
    let empty = file("empty", "# nobody\n");
    for (arguments, part) in [
        (
            vec!["--tls-cert", &crt, "--tls-key", &other.path("key")],
            "certificate and key",
        ),
        (
            vec!["--tls-cert", &key, "--tls-key", &key],
            "no certificate",
        ),
        (
            vec!["--tls-cert", &crt, "--tls-key", &crt],
            "the key is no PEM",
        ),
        (
            vec!["--tls-cert", "/nowhere", "--tls-key", &key],
            "reading /nowhere",
        ),
        (vec!["--users", &plain], "line 2: the password of bob"),
        (vec!["--users", &empty], "has no user"),
    ] {
        let (code, said) = refused(place.path(), &arguments);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(part) && said.contains("help:"), "{said}");
        assert!(!said.contains("geheim"), "{said}");
    }
}
