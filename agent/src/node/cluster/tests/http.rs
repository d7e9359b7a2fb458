use std::time::Duration;

use super::api::{Api, Authority};
use crate::node::cluster::http::{Basic, Client, HttpError, Origin};

const LIMIT: usize = 1000;

async fn get(client: &Client, url: &str) -> Result<(u16, String), HttpError> {
    let origin = Origin::parse(url)?;
    let client = client.clone().within(Duration::from_secs(2));
    let answer = client.get(&origin, "/ping", None, LIMIT).await?;
    Ok((answer.status, String::from_utf8(answer.body).unwrap()))
}

#[tokio::test]
async fn an_answer_comes_with_status_time_and_body() {
    let authority = Authority::new();
    let api = Api::start(&authority.server(), None, 0).await;
    api.says("/ping", 200, "pong");
    api.script.lock().unwrap().date = Some("Sun, 22 Nov 2026 14:10:00 GMT".to_owned());
    let client = Client::new(authority.pem.as_bytes(), None).unwrap();
    let basic = Basic {
        user: "node".into(),
        password: "secret".into(),
    };
    let origin = Origin::parse(&api.url()).unwrap();
    let answer = client
        .get(&origin, "/ping", Some(&basic), LIMIT)
        .await
        .unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"pong"[..]));
    let date = answer.date.unwrap().duration_since(std::time::UNIX_EPOCH);
    assert_eq!(date.unwrap().as_secs(), 1_795_356_600);
    // printf node:secret | base64
    let expected = Some("Basic bm9kZTpzZWNyZXQ=".to_owned());
    assert_eq!(api.was_asked("/ping"), [expected]);
    assert_eq!(get(&client, &api.url()).await.unwrap().1, "pong");
}

#[tokio::test]
async fn a_certificate_is_checked_in_everything_but_its_beginning() {
    let authority = Authority::new();
    let client = Client::new(authority.pem.as_bytes(), None).unwrap();
    for (name, years, accepted) in [
        ("127.0.0.1", (2020, 4000), true),
        // our clock is behind the server's
        ("127.0.0.1", (3000, 4000), true),
        ("127.0.0.1", (2020, 2021), false),
        ("192.0.2.1", (2020, 4000), false),
        ("192.0.2.1", (3000, 4000), false),
        ("localhost", (2020, 4000), false),
    ] {
        let api = Api::start(&authority.sign(name, years), None, 0).await;
        api.says("/ping", 200, "pong");
        let answer = get(&client, &api.url()).await;
        match accepted {
            true => assert_eq!(answer.unwrap().0, 200, "{name} {years:?}"),
            false => {
                let error = answer.unwrap_err();
                assert!(
                    matches!(error, HttpError::Certificate(_)) && !error.is_foreign(),
                    "{name} {years:?}: {error}"
                );
                assert_eq!(api.was_asked("/ping").len(), 0, "nothing is said to it");
            }
        }
    }
}

#[tokio::test]
async fn a_server_of_another_authority_is_told_from_all_others() {
    let (authority, other) = (Authority::new(), Authority::new());
    let client = Client::new(authority.pem.as_bytes(), None).unwrap();
    for years in [(2020, 4000), (3000, 4000)] {
        let api = Api::start(&other.sign("127.0.0.1", years), None, 0).await;
        let error = get(&client, &api.url()).await.unwrap_err();
        assert!(error.is_foreign(), "{error}");
    }
}

#[tokio::test]
async fn whoever_does_not_answer_is_described() {
    let authority = Authority::new();
    let client = Client::new(authority.pem.as_bytes(), None).unwrap();
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    let url = format!("https://{address}");
    // accepts (by its backlog) and says nothing
    let error = get(&client, &url).await.unwrap_err();
    assert!(matches!(error, HttpError::Timeout), "{error}");
    drop(free);
    let error = get(&client, &url).await.unwrap_err();
    assert!(matches!(error, HttpError::Refused), "{error}");
    for url in ["http://127.0.0.1:1", "127.0.0.1:1", "https://", "ping"] {
        let error = get(&client, url).await.unwrap_err();
        assert!(matches!(error, HttpError::Url(_)), "{url}: {error}");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_taken_in() {
    let authority = Authority::new();
    let api = Api::start(&authority.server(), None, 0).await;
    let client = Client::new(authority.pem.as_bytes(), None).unwrap();
    api.says("/ping", 200, "x".repeat(LIMIT));
    assert_eq!(get(&client, &api.url()).await.unwrap().1.len(), LIMIT);
    api.says("/ping", 200, "x".repeat(LIMIT + 1));
    let error = get(&client, &api.url()).await.unwrap_err();
    assert!(matches!(error, HttpError::TooLong(LIMIT)), "{error}");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_one() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let api = Api::start(&authority.server(), Some(&clients.pem), 0).await;
    api.says("/ping", 200, "pong");
    let own = clients.sign("node", (2020, 4000));
    let own = (own.certificate.as_bytes(), own.key.as_bytes());
    let client = Client::new(authority.pem.as_bytes(), Some(own)).unwrap();
    assert_eq!(get(&client, &api.url()).await.unwrap().0, 200);
    let client = Client::new(authority.pem.as_bytes(), None).unwrap();
    assert!(get(&client, &api.url()).await.is_err());
    assert!(Client::new(b"", None).is_err());
    assert!(Client::new(authority.pem.as_bytes(), Some((own.0, b""))).is_err());
}
