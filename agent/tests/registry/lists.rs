//! Tags and repositories in pages: OCI distribution-spec "Listing Tags".

use serde_json::json;

use crate::client::get;
use crate::server::serve;

const TAGS: &str = "/v2/library/app/tags/list";

#[test]
fn tags_are_sorted_by_their_bytes_and_under_the_name_that_was_asked() {
    let served = serve();
    let answer = get(served.at, TAGS);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.json(),
        json!({"name": "library/app", "tags": ["1", "B", "a", "c", "d"]})
    );
    assert_eq!(answer.header("link"), None);
    let answer = get(served.at, "/v2/docker.io/library/app/tags/list");
    assert_eq!(answer.json()["name"], "docker.io/library/app");
}

#[test]
fn a_page_has_n_tags_after_last_and_a_link_only_if_there_are_more() {
    let served = serve();
    for (query, tags, link) in [
        ("?n=2", json!(["1", "B"]), Some("?n=2&last=B")),
        ("?n=2&last=B", json!(["a", "c"]), Some("?n=2&last=c")),
        ("?n=2&last=c", json!(["d"]), None),
        ("?n=5", json!(["1", "B", "a", "c", "d"]), None),
        (
            "?n=99999999999999999999",
            json!(["1", "B", "a", "c", "d"]),
            None,
        ),
        ("?n=0", json!([]), None),
        ("?last=a", json!(["c", "d"]), None),
        ("?last=zzz&n=3", json!([]), None),
        // what is no tag is a place in the order all the same
        ("?last=b", json!(["c", "d"]), None),
    ] {
        let answer = get(served.at, &format!("{TAGS}{query}"));
        assert_eq!(answer.json()["tags"], tags, "{query}");
        let expected = link.map(|link| format!("<{TAGS}{link}>; rel=\"next\""));
        assert_eq!(answer.header("link"), expected.as_deref(), "{query}");
    }
}

#[test]
fn a_link_keeps_the_namespace() {
    let served = serve();
    let answer = get(served.at, &format!("{TAGS}?n=1&ns=docker.io"));
    assert_eq!(
        answer.header("link"),
        Some("</v2/library/app/tags/list?n=1&last=1&ns=docker.io>; rel=\"next\"")
    );
}

#[test]
fn n_that_is_no_number_is_a_mistake_of_the_client() {
    let served = serve();
    for n in ["-1", "x", "", "1.5"] {
        for path in [TAGS, "/v2/_catalog"] {
            let answer = get(served.at, &format!("{path}?n={n}"));
            assert_eq!(answer.status, 400);
            assert_eq!(answer.code(), "PAGINATION_NUMBER_INVALID");
        }
    }
}

#[test]
fn every_name_of_the_catalog_pulls_as_it_is() {
    let served = serve();
    let mut names: Vec<String> = Vec::new();
    let mut next = "/v2/_catalog?n=3".to_owned();
    loop {
        let answer = get(served.at, &next);
        let page: Vec<String> =
            serde_json::from_value(answer.json()["repositories"].clone()).unwrap();
        names.extend(page);
        let Some(link) = answer.header("link") else {
            break;
        };
        next = link[1..link.find('>').unwrap()].to_owned();
    }
    assert!(names.is_sorted());
    assert_eq!(
        names,
        serde_json::from_value::<Vec<String>>(
            get(served.at, "/v2/_catalog").json()["repositories"].clone()
        )
        .unwrap()
    );
    for name in [
        "docker.io/library/app",
        "a.test/shop/db",
        "b.test/shop/db",
        "h.test_5000/with/port",
        "hauler/up",
        "other/same.txt",
    ] {
        assert!(names.iter().any(|n| n == name), "{name}");
    }
    for name in names {
        let tags = get(served.at, &format!("/v2/{name}/tags/list"));
        assert_eq!(tags.status, 200, "{name}");
        for tag in tags.json()["tags"].as_array().unwrap() {
            let tag = tag.as_str().unwrap();
            let manifest = get(served.at, &format!("/v2/{name}/manifests/{tag}"));
            assert_eq!(manifest.status, 200, "{name}:{tag}");
        }
    }
}

#[test]
fn the_catalog_of_one_host_has_its_names_alone() {
    let served = serve();
    let answer = get(served.at, "/v2/_catalog?ns=b.test");
    assert_eq!(answer.json(), json!({"repositories": ["shop/db"]}));
    assert_eq!(get(served.at, "/v2/_catalog?ns=c.test").status, 404);
}
