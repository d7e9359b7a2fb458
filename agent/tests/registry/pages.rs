//! `/`, `/images/` and what their links lead to.

use std::collections::BTreeSet;

use crate::client::{get, parse, raw, request};
use crate::server::serve;

/// Addresses that links of a page have.
fn links(page: &str) -> Vec<String> {
    let hrefs = page.split("href=\"").skip(1);
    let links = hrefs.map(|rest| rest.split('"').next().unwrap().replace("&amp;", "&"));
    links.collect()
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let served = serve();
    let accept = [("Accept", "text/html,*/*;q=0.8")];
    let mut seen = BTreeSet::new();
    let mut left = vec!["/".to_owned()];
    while let Some(path) = left.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let answer = request(served.at, "GET", &path, &accept);
        assert_eq!(answer.status, 200, "{path}");
        if answer.header("content-type") != Some("text/html; charset=utf-8") {
            continue;
        }
        let page = String::from_utf8(answer.body).unwrap();
        for link in links(&page) {
            match link.strip_prefix('#') {
                Some(id) => assert!(page.contains(&format!("id=\"{id}\"")), "{path}: {link}"),
                None if link.starts_with('?') => left.push(format!("{path}{link}")),
                None => {
                    assert!(link.starts_with('/'), "{path}: {link} leads away");
                    left.push(link);
                }
            }
        }
    }
    for path in [
        "/status",
        "/files/",
        "/mirrors/",
        "/mirrors/k3s",
        "/mirrors/k3s.tar",
    ] {
        assert!(seen.contains(path), "{path} is not linked: {seen:?}");
    }
}

#[test]
fn the_page_has_lines_to_copy_for_the_address_that_the_client_used() {
    let served = serve();
    let page = String::from_utf8(get(served.at, "/").body).unwrap();
    for line in [
        "docker://haul.test/docker.io/",
        "podman pull --tls-verify=false haul.test/docker.io/",
        "helm pull oci://haul.test/hauler/up --version",
        "http://haul.test/files/",
        "http://haul.test/mirrors/containerd.tar",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
}

#[test]
fn the_page_shows_images_of_each_registry_with_digest_and_what_belongs_to_them() {
    let served = serve();
    let page = String::from_utf8(get(served.at, "/").body).unwrap();
    let written = &served.written;
    for digest in [written.app, written.db_a, written.db_b, written.chart] {
        let link = format!("/manifests/{digest}\"><code>{}</code>", &digest.hex()[..12]);
        assert!(page.contains(&link), "{link}");
    }
    for host in ["a.test", "b.test", "docker.io", "h.test:5000"] {
        assert!(page.contains(&format!("<caption>{host} ")), "{host}");
    }
    assert!(page.contains("linux/amd64"), "{page}");
    assert!(
        page.contains("<span class=\"tag\">referrers</span>"),
        "{page}"
    );
}

#[test]
fn the_address_on_the_page_is_the_clients_and_never_markup() {
    let served = serve();
    for host in [
        "<script>",
        "a b",
        "x\"y",
        "evil.test/path",
        "u:p@evil.test",
        "evil.test:1:2",
    ] {
        for path in [
            "/",
            "/files/",
            "/mirrors/",
            "/mirrors/k3s",
            "/mirrors/docker?format=json",
        ] {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nConnection: close\r\n\r\n"
            );
            let answer = parse(&raw(served.at, request.as_bytes(), None)).unwrap();
            assert!(answer.status < 500);
            let body = String::from_utf8(answer.body).unwrap();
            assert!(!body.contains(host), "{host}");
            // what is put in its place is where the client reached it
            let here = answer.status >= 400 || body.contains(&served.at.to_string());
            assert!(here, "{path} {host}: {body}");
        }
    }
}

#[test]
fn a_page_beyond_the_last_is_the_last() {
    let served = serve();
    let first = get(served.at, "/images/");
    assert_eq!(first.status, 200);
    for page in ["0", "1", "2", "99999999999999999999", "x", "-1"] {
        let answer = get(served.at, &format!("/images/?page={page}"));
        assert_eq!((answer.status, &answer.body), (200, &first.body), "{page}");
    }
}
