//! Names and passwords.

use super::*;

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
