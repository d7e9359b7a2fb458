//! What is refused, to whom, and in which words.

use axum::http::Request;

use super::super::answers;
use super::*;

/// A request of `client`, over TLS or not.
fn request(client: &str, secure: bool) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.extensions.insert(client.parse::<IpAddr>().unwrap());
    parts.extensions.insert(Secure(secure));
    parts
}

const HERE: &str = "127.0.0.1";
const ELSEWHERE: &str = "192.0.2.7";

fn with_policy(policy: Policy) -> Access {
    let access = Access::default();
    access.set(policy);
    access
}

/// The status for the client, 200 where nothing is refused.
async fn status(access: &Access, client: &str, secure: bool) -> u16 {
    let refusal = access.refusal(&request(client, secure), true).await;
    refusal.map_or(200, |refusal| refusal.status().as_u16())
}

#[tokio::test]
async fn without_any_wish_everybody_is_answered_over_http() {
    let access = Access::default();
    assert!(!access.tls() && !access.needs_user() && access.ca_pem().is_none());
    for client in [HERE, ELSEWHERE, "::1", "2001:db8::1"] {
        assert_eq!(status(&access, client, false).await, 200);
    }
}

#[tokio::test]
async fn with_https_other_machines_are_told_to_use_it() {
    let access = with_policy(Policy {
        https_only: true,
        ..Policy::default()
    });
    for (client, secure, expected) in [
        (HERE, false, 200),
        ("::1", false, 200),
        ("::ffff:127.0.0.1", false, 200),
        (ELSEWHERE, true, 200),
        (ELSEWHERE, false, 403),
        ("2001:db8::1", false, 403),
        ("::ffff:192.0.2.7", false, 403),
    ] {
        assert_eq!(status(&access, client, secure).await, expected, "{client}");
    }
    let refusal = access.refusal(&request(ELSEWHERE, false), false).await;
    let refusal = refusal.unwrap();
    assert_eq!(refusal.headers()[header::CONNECTION], "close");
}

#[tokio::test]
async fn what_is_not_known_yet_is_answered_to_nobody() {
    let access = Access::unknown();
    for (client, secure) in [(HERE, false), (ELSEWHERE, false), (ELSEWHERE, true)] {
        let refusal = access.refusal(&request(client, secure), true).await;
        let refusal = refusal.unwrap();
        assert_eq!(refusal.status(), 503);
        assert_eq!(refusal.headers()[header::RETRY_AFTER], "10");
    }
}

#[tokio::test]
async fn a_closed_registry_still_answers_its_own_machine_as_far_as_users_may() {
    let closed = || Policy {
        https_only: true,
        closed: Some("why".to_owned()),
        ..Policy::default()
    };
    let access = with_policy(closed());
    assert_eq!(status(&access, HERE, false).await, 200);
    assert_eq!(status(&access, ELSEWHERE, true).await, 503);
    let access = with_policy(Policy {
        users: Some(Arc::new(Users::new(Vec::new(), None))),
        ..closed()
    });
    assert_eq!(status(&access, HERE, false).await, 401);
    assert_eq!(status(&access, ELSEWHERE, true).await, 503);
}

#[tokio::test]
async fn the_node_s_file_opens_closes_and_is_followed() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("access");
    make_directory(&directory).unwrap();
    let file = directory.join(image_layout::paths::node::ACCESS_FILE);
    let source = Source::Node(file.clone());
    let access = Arc::new(Access::from(&source).unwrap());
    assert_eq!(status(&access, HERE, false).await, 503, "there is no file");
    access.follow(source).unwrap();
    let until = async |expected: u16, secure: bool| {
        let reached = async {
            while status(&access, ELSEWHERE, secure).await != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let bound = Duration::from_secs(20);
        tokio::time::timeout(bound, reached)
            .await
            .expect("followed");
    };
    Material::default().write(&directory).unwrap();
    until(200, false).await;
    // a certificate is asked for and not there
    let https = Material {
        https_only: true,
        ..Material::default()
    };
    https.write(&directory).unwrap();
    until(503, true).await;
    let mut users = Material {
        users: Some(UsersMaterial {
            lines: Vec::new(),
            node: None,
        }),
        ..Material::default()
    };
    users.write(&directory).unwrap();
    until(401, false).await;
    // what can't be used, and no file at all, change nothing
    users
        .users
        .as_mut()
        .unwrap()
        .lines
        .push("alice:plain".to_owned());
    users.write(&directory).unwrap();
    std::fs::write(&file, "{").unwrap();
    std::fs::remove_file(&file).unwrap();
    Material::default().write(&directory.join("other")).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(status(&access, ELSEWHERE, false).await, 401);
    Material::default().write(&directory).unwrap();
    until(200, false).await;
}

#[tokio::test]
async fn a_directory_of_users_that_is_replaced_is_followed() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("live");
    let file = directory.join("users");
    std::fs::create_dir(&directory).unwrap();
    let line = |name: &str| {
        let hash = "$2y$05$abcdefghijklmnopqrstuuVWu8RjbNovPZWAMRdd7iqaaG0mI53Uu";
        format!("{name}:{hash}\n")
    };
    std::fs::write(&file, line("alice")).unwrap();
    let source = Source::Files(source::Files {
        users: Some(file.clone()),
        ..source::Files::default()
    });
    let access = Arc::new(Access::from(&source).unwrap());
    access.follow(source).unwrap();
    let knows = |name: &str| {
        let policy = access.policy();
        policy.users.as_ref().is_some_and(|users| users.has(name))
    };
    assert!(knows("alice"));
    // gone for a while, so that it can't be watched meanwhile
    std::fs::rename(&directory, place.path().join("old")).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(knows("alice"), "what held holds on");
    std::fs::create_dir(&directory).unwrap();
    for name in ["bob", "carol"] {
        std::fs::write(&file, line(name)).unwrap();
        let known = async {
            while !knows(name) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let bound = Duration::from_secs(20);
        tokio::time::timeout(bound, known).await.expect("followed");
    }
}

#[test]
fn waiting_is_told_in_whole_seconds_and_never_as_none() {
    let seconds = |wait| {
        let response = retry_after(answers::empty(StatusCode::OK), wait);
        response.headers()[header::RETRY_AFTER]
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(seconds(Duration::from_millis(1)), "1");
    assert_eq!(seconds(Duration::from_millis(1001)), "2");
    assert_eq!(seconds(Duration::from_secs(60)), "60");
    assert_eq!(seconds(Duration::ZERO), "1");
}
