//! `/files/`, `/status`.

use image_layout::Digest;
use image_layout::status::Status;

use crate::client::{get, request};
use crate::server::serve;

#[test]
fn two_files_of_one_name_are_both_to_be_had() {
    let served = serve();
    let listing = get(served.at, "/files/?format=json").json();
    let files = listing["files"].as_array().unwrap();
    let same: Vec<_> = files.iter().filter(|f| f["name"] == "Same.TXT").collect();
    assert_eq!(same.len(), 2);
    let mut found = Vec::new();
    for file in same {
        let answer = get(served.at, file["url"].as_str().unwrap());
        assert_eq!(answer.status, 200);
        let digest = Digest::sha256_of(&answer.body);
        assert_eq!(file["digest"], digest.to_string());
        assert_eq!(file["sha256"], digest.hex());
        assert_eq!(file["size"], answer.body.len());
        found.push(digest);
        let by_digest = get(served.at, &format!("/files/{digest}/Same.TXT"));
        assert_eq!(by_digest.body, answer.body);
    }
    found.sort();
    let mut expected = served.written.same;
    expected.sort();
    assert_eq!(found, expected);
    // a file that lost its registry's name to another keeps its own
    assert_eq!(get(served.at, "/files/SAME.txt").body, b"three");
}

#[test]
fn a_file_is_an_attachment_that_no_browser_runs() {
    let served = serve();
    let listing = get(served.at, "/files/?format=json").json();
    for file in listing["files"].as_array().unwrap() {
        let answer = get(served.at, file["url"].as_str().unwrap());
        assert_eq!(
            answer.header("content-type"),
            Some("application/octet-stream")
        );
        let disposition = answer.header("content-disposition").unwrap();
        assert!(
            disposition.starts_with("attachment; filename=\""),
            "{disposition}"
        );
        assert!(
            answer
                .header("repr-digest")
                .unwrap()
                .starts_with("sha-256=:")
        );
        assert_eq!(answer.header("x"), None);
    }
    let path = "/files/up-1.0.0%2Bup2.tgz";
    let answer = request(served.at, "GET", path, &[("Range", "bytes=1-3")]);
    assert_eq!((answer.status, &answer.body[..]), (206, &b"har"[..]));
    assert_eq!(get(served.at, "/files/up-1.0.0+up2.tgz").status, 200);
    assert_eq!(get(served.at, "/files/none").status, 404);
    for path in ["/files/..", "/files/%2e%2e/x", "/files/_/../motd.txt"] {
        assert_eq!(get(served.at, path).status, 404, "{path}");
    }
    let wrong = format!("/files/{}/Same.TXT", served.written.large);
    assert_eq!(get(served.at, &wrong).status, 404);
}

#[test]
fn a_hostile_title_is_neither_path_nor_markup_nor_header() {
    let served = serve();
    for path in ["/files/", "/"] {
        let page = request(served.at, "GET", path, &[("Accept", "text/html,*/*")]);
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"));
        let text = String::from_utf8(page.body).unwrap();
        assert!(
            text.contains("sub/&lt;b&gt;&quot;evil&quot;&amp;&#39;.html"),
            "{text}"
        );
        assert!(!text.contains("<b>") && !text.contains("<script"), "{text}");
        assert!(!text.contains("href=\"/files/.."), "{text}");
    }
}

#[test]
fn the_listing_is_json_for_programs_and_a_page_for_people() {
    let served = serve();
    let kind = |headers: &[(&str, &str)], path: &str| {
        let answer = request(served.at, "GET", path, headers);
        assert_eq!(answer.header("vary"), Some("Accept"));
        answer.header("content-type").unwrap().to_owned()
    };
    let page = "text/html; charset=utf-8";
    assert_eq!(kind(&[], "/files/"), page);
    assert_eq!(
        kind(&[("Accept", "application/json")], "/files/"),
        "application/json"
    );
    let browser = [("Accept", "text/html,application/json;q=0.9")];
    assert_eq!(kind(&browser, "/files/"), page);
    assert_eq!(kind(&browser, "/files?format=json"), "application/json");
}

#[test]
fn the_status_says_what_is_known() {
    let served = serve();
    let answer = get(served.at, "/status");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let status: Status = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(status.stages.len(), 1);
    assert!(
        status.stages[0]
            .detail
            .contains(" images, 1 chart, 5 files")
    );
    assert!(!status.kernel.is_empty() && status.arch.is_some());
}
