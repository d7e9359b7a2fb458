use std::time::{Duration, SystemTime};

use image_layout::status::{Outcome, Stage};
use tokio::task::JoinHandle;

use super::api::{Api, Authority};
use super::pid1::{FakeMachine, Pid1};
use crate::node::cluster::server::{Pace, Server};

const TOKEN: &[u8] = b"K10abc::node:secret\n";
const FAST: Pace = Pace {
    retry: Duration::from_millis(20),
    progress: Duration::from_millis(50),
    notice: Duration::from_millis(300),
};

struct Waiting {
    pid1: Pid1,
    clock: std::sync::Arc<std::sync::Mutex<super::pid1::Noted>>,
    task: JoinHandle<()>,
}

impl Waiting {
    fn start(url: &str, authority: &Authority) -> Waiting {
        Waiting::with(url, authority, Some(TOKEN))
    }

    fn with(url: &str, authority: &Authority, token: Option<&[u8]>) -> Waiting {
        let (pid1, reports, _) = Pid1::new();
        let server = Server::new(url, authority.pem.as_bytes(), token).unwrap();
        let machine = FakeMachine::new(None, std::path::Path::new("/nonexistent"));
        let clock = machine.noted.clone();
        let task = tokio::spawn(async move { server.wait(&reports, &machine, FAST).await });
        Waiting { pid1, clock, task }
    }

    async fn ends(self) -> Option<u64> {
        let bound = Duration::from_secs(60);
        tokio::time::timeout(bound, self.task)
            .await
            .unwrap()
            .unwrap();
        self.clock.lock().unwrap().clock
    }
}

fn healthy(api: &Api) {
    api.says("/ping", 200, "pong");
    api.says("/v1-k3s/readyz", 200, "ok");
}

#[tokio::test]
async fn a_server_that_comes_late_is_waited_for_visibly() {
    let authority = Authority::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut waiting = Waiting::start(&format!("https://{address}"), &authority);
    let beginning = format!("waiting for the server {address} (connection refused), ");
    waiting.pid1.progress(&beginning).await;
    let notice = waiting.pid1.notice(&beginning).await;
    assert!(notice.ends_with(" s"), "{notice}");
    let api = Api::start(&authority.server(), None, address.port()).await;
    waiting.pid1.progress("(HTTP status 404)").await;
    healthy(&api);
    assert_eq!(waiting.ends().await, None, "the clock is left alone");
    let basic = Some("Basic bm9kZTpzZWNyZXQ=".to_owned());
    assert_eq!(api.was_asked("/v1-k3s/readyz"), [basic]);
    assert!(
        api.was_asked("/ping").iter().all(Option::is_none),
        "no token before it is needed"
    );
}

#[tokio::test]
async fn the_server_of_another_cluster_is_a_screen_and_never_gets_the_token() {
    let (authority, other) = (Authority::new(), Authority::new());
    let api = Api::start(&other.server(), None, 0).await;
    healthy(&api);
    let mut waiting = Waiting::start(&api.url(), &authority);
    let (outcome, detail, problem) = waiting.pid1.end(Stage::Cluster).await;
    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(
        detail,
        format!("{} belongs to another cluster", api.address)
    );
    assert!(problem.unwrap().mend.contains("--credentials"));
    assert_eq!(api.script.lock().unwrap().asked.len(), 0);
    // it keeps trying, and finds the right one there
    let port = api.address.port();
    drop(api);
    waiting.pid1.progress("connection refused").await;
    let api = Api::start(&authority.server(), None, port).await;
    healthy(&api);
    waiting.ends().await;
}

#[tokio::test]
async fn a_token_that_is_refused_twice_is_a_screen_and_tried_on() {
    for status in [401, 403] {
        let authority = Authority::new();
        let api = Api::start(&authority.server(), None, 0).await;
        healthy(&api);
        api.says("/v1-k3s/readyz", status, "Unauthorized");
        let mut waiting = Waiting::start(&api.url(), &authority);
        let (outcome, detail, _) = waiting.pid1.end(Stage::Cluster).await;
        assert_eq!(outcome, Outcome::Failed);
        assert_eq!(detail, "the server refuses this stick's token");
        assert!(api.was_asked("/v1-k3s/readyz").len() >= 2);
        healthy(&api);
        waiting.ends().await;
    }
}

#[tokio::test]
async fn with_a_token_of_the_users_own_the_sticks_is_not_tried() {
    let authority = Authority::new();
    let api = Api::start(&authority.server(), None, 0).await;
    healthy(&api);
    api.says("/v1-k3s/readyz", 401, "Unauthorized");
    Waiting::with(&api.url(), &authority, None).ends().await;
    assert!(api.was_asked("/v1-k3s/readyz").is_empty());
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_joined_all_the_same() {
    for status in [404, 500, 503] {
        let authority = Authority::new();
        let api = Api::start(&authority.server(), None, 0).await;
        healthy(&api);
        api.says("/v1-k3s/readyz", status, "");
        Waiting::start(&api.url(), &authority).ends().await;
    }
}

#[tokio::test]
async fn a_clock_that_is_behind_takes_the_servers_time_though_its_certificate_begins_later() {
    let authority = Authority::new();
    let later = SystemTime::now() + Duration::from_secs(3600);
    let earlier = SystemTime::now() - Duration::from_secs(3600);
    let little = SystemTime::now() + Duration::from_secs(2);
    for (date, taken) in [(later, true), (earlier, false), (little, false)] {
        let pair = authority.sign("127.0.0.1", (3000, 4000));
        let api = Api::start(&pair, None, 0).await;
        healthy(&api);
        api.script.lock().unwrap().date = Some(httpdate::fmt_http_date(date));
        let mut waiting = Waiting::start(&api.url(), &authority);
        if taken {
            let notice = waiting.pid1.notice("clock set to ").await;
            assert!(notice.contains("the server's time; it was "), "{notice}");
        }
        let since = date.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(waiting.ends().await, taken.then_some(since.as_secs()));
    }
}

#[tokio::test]
async fn what_can_not_be_used_at_all_is_told_before_any_wait() {
    let authority = Authority::new();
    let detail = |url: &str, authority: &str, token: &[u8]| {
        let server = Server::new(url, authority.as_bytes(), Some(token));
        server.map(|_| ()).unwrap_err().detail
    };
    let url = "https://127.0.0.1:6443";
    assert_eq!(
        detail(url, "", TOKEN),
        "secrets/tls/server-ca.crt can't be used"
    );
    assert_eq!(
        detail(url, &authority.pem, b"secret"),
        "secrets/agent-token can't be used"
    );
    assert_eq!(
        detail("192.168.0.2", &authority.pem, TOKEN),
        "192.168.0.2 is no https address"
    );
}
