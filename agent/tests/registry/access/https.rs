//! HTTPS: certificates, who may do without, and what follows a change.

use super::*;

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
