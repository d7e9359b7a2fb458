//! From names to repositories: `?ns=`, the host in the path, the bare path.

use image_layout::Digest;

use crate::client::{Answer, get};
use crate::server::{Served, serve};

fn digest(answer: &Answer) -> Option<Digest> {
    answer.header("docker-content-digest")?.parse().ok()
}

#[track_caller]
fn finds(served: &Served, path: &str, wanted: Digest) {
    let answer = get(served.at, path);
    assert_eq!(answer.status, 200, "{path}");
    assert_eq!(digest(&answer), Some(wanted), "{path}");
}

#[test]
fn equal_paths_of_two_hosts_never_shadow_each_other() {
    let served = serve();
    let (a, b) = (served.written.db_a, served.written.db_b);
    finds(&served, "/v2/shop/db/manifests/1?ns=a.test", a);
    finds(&served, "/v2/shop/db/manifests/1?ns=b.test", b);
    finds(&served, "/v2/shop/db/manifests/1?ns=B.TEST", b);
    finds(&served, "/v2/a.test/shop/db/manifests/1", a);
    finds(&served, "/v2/b.test/shop/db/manifests/1", b);
    // a mirror with the host in its path whose client sends ns as well
    finds(&served, "/v2/b.test/shop/db/manifests/1?ns=b.test", b);
}

#[test]
fn a_bare_path_of_several_hosts_is_an_error_that_names_them() {
    let served = serve();
    for path in ["/v2/shop/db/manifests/1", "/v2/shop/db/tags/list"] {
        let answer = get(served.at, path);
        assert_eq!((answer.status, answer.code()), (404, "NAME_UNKNOWN".into()));
        let message = answer.json()["errors"][0]["message"].to_string();
        assert!(
            message.contains("a.test/shop/db, b.test/shop/db"),
            "{message}"
        );
    }
    // what only one of them has is meant, and a digest means one thing
    let only = get(served.at, "/v2/shop/db/manifests/only-a");
    assert_eq!(only.status, 200);
    let b = served.written.db_b;
    finds(&served, &format!("/v2/shop/db/manifests/{b}"), b);
}

#[test]
fn a_chart_is_not_hidden_by_an_image_of_docker_hubs_with_its_path() {
    let served = serve();
    finds(
        &served,
        "/v2/hauler/up/manifests/1.0.0-up2",
        served.written.chart,
    );
    let image = "/v2/docker.io/hauler/up/manifests/1.0.0-up2";
    finds(&served, image, served.written.hub_up);
    let image = "/v2/hauler/up/manifests/1.0.0-up2?ns=docker.io";
    finds(&served, image, served.written.hub_up);
}

#[test]
fn docker_hub_has_several_names_and_short_ones() {
    let served = serve();
    let app = served.written.app;
    for path in [
        "/v2/library/app/manifests/1",
        "/v2/app/manifests/1",
        "/v2/docker.io/library/app/manifests/1",
        "/v2/docker.io/app/manifests/1",
        "/v2/index.docker.io/library/app/manifests/1",
        "/v2/library/app/manifests/1?ns=docker.io",
        "/v2/library/app/manifests/1?ns=index.docker.io",
        "/v2/library/app/manifests/1?ns=registry-1.docker.io",
        "/v2/library/app/manifests/1?ns=",
    ] {
        finds(&served, path, app);
    }
}

#[test]
fn the_namespace_is_echoed_in_our_words_and_only_if_it_chose() {
    let served = serve();
    let echoed = |path: &str| {
        let answer = get(served.at, path);
        answer.header("oci-namespace").map(str::to_owned)
    };
    let hub = Some("docker.io".to_owned());
    assert_eq!(
        echoed("/v2/library/app/manifests/1?ns=INDEX.docker.io"),
        hub
    );
    assert_eq!(echoed("/v2/library/app/tags/list?ns=docker.io"), hub);
    let app = served.written.app;
    assert_eq!(
        echoed(&format!("/v2/library/app/blobs/{app}?ns=docker.io")),
        hub
    );
    assert_eq!(
        echoed(&format!("/v2/library/app/referrers/{app}?ns=docker.io")),
        hub
    );
    assert_eq!(echoed("/v2/library/app/manifests/1"), None);
    assert_eq!(echoed("/v2/docker.io/library/app/manifests/1"), None);
}

#[test]
fn a_namespace_is_a_closed_world() {
    let served = serve();
    for ns in ["quay.io", "c.test", "..%2F..", "a.test%0d%0aX:%20y", "%00"] {
        for end in [
            "manifests/1".to_owned(),
            "tags/list".to_owned(),
            format!("blobs/{}", served.written.app),
        ] {
            let answer = get(served.at, &format!("/v2/library/app/{end}?ns={ns}"));
            assert_eq!((answer.status, answer.code()), (404, "NAME_UNKNOWN".into()));
            assert_eq!(answer.header("oci-namespace"), None);
            assert_eq!(answer.header("x"), None);
        }
    }
    // what another host has is not found under this one's name
    assert_eq!(
        get(served.at, "/v2/library/app/manifests/1?ns=a.test").status,
        404
    );
}

#[test]
fn a_host_with_a_port_is_found_by_colon_and_by_underscore() {
    let served = serve();
    let port = served.written.port;
    for path in [
        "/v2/with/port/manifests/1",
        "/v2/with/port/manifests/1?ns=h.test:5000",
        "/v2/with/port/manifests/1?ns=h.test%3A5000",
        "/v2/h.test:5000/with/port/manifests/1",
        "/v2/h.test_5000/with/port/manifests/1",
    ] {
        finds(&served, path, port);
    }
}

#[test]
fn a_repository_may_be_called_like_an_endpoint() {
    let served = serve();
    for path in [
        "/v2/a/blobs/b/manifests/1",
        "/v2/a.test/a/blobs/b/manifests/1",
    ] {
        assert_eq!(get(served.at, path).status, 200, "{path}");
    }
}

#[test]
fn a_chart_is_found_by_haulers_tag_and_by_helms() {
    let served = serve();
    let chart = served.written.chart;
    finds(&served, "/v2/hauler/up/manifests/1.0.0-up2", chart);
    finds(&served, "/v2/hauler/up/manifests/1.0.0_up2", chart);
    // and helm, which lists tags to choose a version, sees its own
    let tags = get(served.at, "/v2/hauler/up/tags/list").json();
    assert_eq!(tags["tags"], serde_json::json!(["1.0.0-up2", "1.0.0_up2"]));
}
