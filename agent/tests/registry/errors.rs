//! OCI distribution-spec "Error Codes".

use serde_json::json;

use crate::client::{get, head, request};
use crate::layout::Writer;
use crate::server::{Server, serve};

#[test]
fn what_is_not_there_has_the_code_that_clients_expect() {
    let served = serve();
    let missing = format!("sha256:{}", "a".repeat(64));
    for (path, status, code) in [
        (
            "/v2/library/app/manifests/none".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            format!("/v2/library/app/manifests/{missing}"),
            404,
            "MANIFEST_UNKNOWN",
        ),
        // a blob is no manifest
        (
            format!("/v2/library/app/manifests/{}", served.written.large),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            format!("/v2/library/app/blobs/{missing}"),
            404,
            "BLOB_UNKNOWN",
        ),
        ("/v2/no/such/manifests/1".to_owned(), 404, "NAME_UNKNOWN"),
        ("/v2/no/such/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        (format!("/v2/no/such/blobs/{missing}"), 404, "NAME_UNKNOWN"),
        ("/v2/UPPER/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("/v2/a..b/tags/list".to_owned(), 400, "NAME_INVALID"),
        (
            "/v2/library/app/blobs/sha256:abc".to_owned(),
            400,
            "DIGEST_INVALID",
        ),
        (
            "/v2/library/app/blobs/latest".to_owned(),
            400,
            "DIGEST_INVALID",
        ),
        (
            "/v2/library/app/manifests/sha256:totallywrong".to_owned(),
            400,
            "DIGEST_INVALID",
        ),
        (
            "/v2/library/app/manifests/md5:00".to_owned(),
            400,
            "DIGEST_INVALID",
        ),
        // OCI's conformance suite: a tag that can't be is a manifest that is not there
        (
            "/v2/library/app/manifests/.INVALID_MANIFEST_NAME".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        ("/v2/library/app/uploads/x".to_owned(), 404, "NAME_UNKNOWN"),
    ] {
        let answer = get(served.at, &path);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{path}"
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let headed = head(served.at, &path);
        assert_eq!(headed.status, status, "HEAD {path}");
    }
}

#[test]
fn everything_but_get_and_head_is_405_with_allow() {
    let served = serve();
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
        for path in [
            "/v2/",
            "/v2/library/app/blobs/uploads/",
            "/v2/library/app/manifests/1",
            "/files/",
            "/",
        ] {
            let answer = request(served.at, method, path, &[]);
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), Some("GET, HEAD"));
            if path.starts_with("/v2/") {
                assert_eq!(answer.code(), "UNSUPPORTED");
            }
        }
    }
}

#[test]
fn an_old_client_may_send_a_small_body_with_a_get() {
    let served = serve();
    let path = "/v2/library/app/manifests/sha256:totallywrong";
    let mut stream = crate::client::connect(served.at);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
    );
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut bytes).unwrap();
    let answer = crate::client::parse(&bytes).unwrap();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "DIGEST_INVALID")
    );
}

/// Names of 255 and tags of 128 characters are the longest that the grammar has.
#[test]
fn the_longest_names_and_tags_are_answered_and_longer_ones_have_their_code() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path());
    // a path's length is the repository's, without its host
    let name = format!("{}/{}", "a".repeat(127), "b".repeat(127));
    assert_eq!(name.len(), 255);
    let tag = format!("_{}", ".".repeat(127));
    let digest = writer.named(&format!("a.test/{name}:{tag}"), "long", json!({}));
    writer.finish();
    let server = Server::over(dir.path());
    let at = server.address;
    let named = Some(digest.to_string());
    for path in [
        format!("/v2/{name}/manifests/{tag}"),
        format!("/v2/{name}/manifests/{tag}?ns=a.test"),
        format!("/v2/a.test/{name}/manifests/{tag}"),
        format!("/v2/{name}/manifests/{digest}"),
        format!("/v2/{name}/blobs/{digest}"),
    ] {
        let answer = head(at, &path);
        assert_eq!(answer.status, 200, "{path}");
        let found = answer.header("docker-content-digest").map(str::to_owned);
        assert_eq!(found, named, "{path}");
    }
    let listed = get(at, &format!("/v2/{name}/tags/list"));
    assert_eq!(listed.json(), json!({"name": name, "tags": [tag]}));
    let listed = get(at, &format!("/v2/{name}/referrers/{digest}"));
    assert_eq!(listed.status, 200);

    let (other, longer) = ("c".repeat(255), "c".repeat(256));
    let (other_tag, longer_tag) = ("t".repeat(128), "t".repeat(129));
    for (path, status, code) in [
        (format!("/v2/{other}/tags/list"), 404, "NAME_UNKNOWN"),
        (format!("/v2/{longer}/tags/list"), 400, "NAME_INVALID"),
        (format!("/v2/{longer}/manifests/1"), 400, "NAME_INVALID"),
        (format!("/v2/{longer}/blobs/{digest}"), 400, "NAME_INVALID"),
        (
            format!("/v2/{longer}/referrers/{digest}"),
            400,
            "NAME_INVALID",
        ),
        (
            format!("/v2/{name}/manifests/{other_tag}"),
            404,
            "MANIFEST_UNKNOWN",
        ),
        // a tag that can't be is a manifest that is not there
        (
            format!("/v2/{name}/manifests/{longer_tag}"),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            format!("/v2/{name}/manifests/{tag}."),
            404,
            "MANIFEST_UNKNOWN",
        ),
    ] {
        let answer = get(at, &path);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{path}"
        );
    }
}
