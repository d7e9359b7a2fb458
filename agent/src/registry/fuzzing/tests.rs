use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// Pieces that requests are made of, so that random ones come far.
fn target() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/v2/"),
        Just("a.test"),
        Just("/app"),
        Just("/manifests/"),
        Just("/blobs/"),
        Just("/referrers/"),
        Just("/tags/list"),
        Just("1"),
        Just("sha256:"),
        Just("%3A"),
        Just("?ns=a.test"),
        Just("&n="),
        Just("&last=0"),
        Just("artifactType=x"),
        Just("/files/"),
        Just(".."),
        Just("%2e"),
        Just("%00"),
        Just("/"),
        Just("?"),
        Just("_catalog"),
        Just("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ];
    proptest::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

/// One of several words.
fn words(list: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(list).prop_map(str::to_owned)
}

/// Requests as clients make them, of what the haul has for the most part, whole or by a range
/// and under conditions.
fn made() -> impl Strategy<Value = String> {
    let digests: Vec<String> = small().index.blobs().map(|b| b.0.to_string()).collect();
    let unknown = format!("sha256:{}", "a".repeat(64));
    let digest = || {
        let known = prop_oneof![8 => select(digests.clone()), 1 => Just(unknown.clone())];
        (known, prop_oneof![8 => Just(":"), 1 => Just("%3A")])
            .prop_map(|(digest, colon)| digest.replace(':', colon))
    };
    let name = || {
        let known = words(&["a.test/app", "app", "hauler/notes.txt"]);
        prop_oneof![12 => known, 1 => Just("no/such".to_owned())]
    };
    let query = || {
        let known = words(&["?ns=a.test", "?n=1", "?artifactType=x", "?ns=none.test"]);
        prop_oneof![4 => Just(String::new()), 1 => known]
    };
    let tag = || words(&["1", "1", "latest", ".none"]);
    let file = || words(&["notes.txt", "none.txt"]);
    let range = || {
        prop_oneof![
            3 => Just(String::new()),
            3 => "Range: bytes=([0-9]-[0-9]{0,3}|-[0-9]{1,3})\n",
            1 => "Range: bytes=[1-9][0-9]{4}-\n",
        ]
    };
    let method = || words(&["GET", "GET", "GET", "GET", "HEAD", "POST"]);
    digest().prop_flat_map(move |asked| {
        let target = {
            let of = |kind: &'static str| {
                let asked = asked.clone();
                name().prop_map(move |name| format!("/v2/{name}/{kind}/{asked}"))
            };
            let asked = asked.clone();
            prop_oneof![
                4 => of("blobs"),
                2 => of("manifests"),
                1 => of("referrers"),
                2 => (name(), tag()).prop_map(|(n, t)| format!("/v2/{n}/manifests/{t}")),
                1 => name().prop_map(|n| format!("/v2/{n}/tags/list")),
                1 => file().prop_map(|f| format!("/files/{f}")),
                1 => file().prop_map(move |f| format!("/files/{asked}/{f}")),
                1 => words(&["/v2/", "/v2/_catalog", "/status", "/", "/files/", "/images/"]),
            ]
        };
        let names = select(&["If-None-Match", "If-None-Match", "If-Match", "If-Range"][..]);
        let tags = prop_oneof![
            4 => Just(format!("\"{}\"", asked.replace("%3A", ":"))),
            1 => Just("*".to_owned()),
            1 => "(W/)?\"[a-f0-9:]{0,8}\"",
        ];
        let condition = (names, tags).prop_map(|(name, tag)| format!("{name}: {tag}\n"));
        let condition = prop_oneof![Just(String::new()), condition];
        (method(), target, query(), range(), condition).prop_map(
            |(method, target, query, range, condition)| {
                format!("{method} {target}{query}\n{range}{condition}")
            },
        )
    })
}

/// Everything that a query can say.
fn said() -> impl Strategy<Value = Query> {
    let text = || proptest::option::of("\\PC{0,12}|[a-z.:/+%&=;#-]{0,12}");
    let n = prop_oneof![any::<usize>().prop_map(Ok), Just(Err(NotANumber))];
    let types = proptest::collection::vec("[a-z/.+;= %-]{1,12}", 0..5);
    let page = proptest::option::of(any::<usize>());
    (text(), proptest::option::of(n), text(), types, text(), page).prop_map(
        |(ns, n, last, artifact_types, format, page)| Query {
            ns,
            n,
            last,
            artifact_types,
            format,
            page,
        },
    )
}

/// Pieces that JSON of a layout is made of.
fn json() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("null"),
        Just("\"manifests\":"),
        Just("\"layers\":"),
        Just("\"config\":"),
        Just("\"subject\":"),
        Just("\"annotations\":"),
        Just("\"mediaType\":\"a/b\""),
        Just("@0"),
        Just("@1"),
        Just("@2"),
        Just("\"io.containerd.image.name\":\"a.test/b:1\""),
        Just("{\"mediaType\":\"a/b\",@0}"),
        Just("\"kind\":\"dev.hauler/image\""),
        Just("1e999"),
        Just("\"size\":-1"),
        Just("\n--\n"),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A layout that has one image, with something changed.
fn nearly() -> impl Strategy<Value = String> {
    const GOOD: &str = "{}\n--\nlayer\n--\n\
        {\"schemaVersion\":2,\"config\":{\"mediaType\":\"a/b\",@0},\"layers\":[{\"mediaType\":\"c/d\",@1}],\
        \"subject\":{\"mediaType\":\"a/b\",@1},\"annotations\":{\"a\":\"b\"}}\n--\n\
        {\"manifests\":[{\"mediaType\":\"a/b\",@2}]}\n--\n\
        {\"manifests\":[{\"mediaType\":\"a/b\",@3,\"annotations\":{\"kind\":\"dev.hauler/imageIndex\",\
        \"io.containerd.image.name\":\"a.test/b:1\",\"org.opencontainers.image.ref.name\":\"b:1\"}},\
        {\"mediaType\":\"a/b\",@2,\"annotations\":{\"kind\":\"dev.hauler/referrers/x\",\
        \"io.containerd.image.name\":\"a.test/b:1\"}}]}";
    let change = (any::<prop::sample::Index>(), "\\PC{0,4}");
    proptest::collection::vec(change, 0..4).prop_map(|changes| {
        let mut text = GOOD.to_owned();
        for (at, with) in changes {
            let at = at.index(text.len());
            if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
                text.replace_range(at..=at, &with);
            }
        }
        text
    })
}

#[test]
fn the_layout_that_is_varied_is_served() {
    let registry = small();
    let manifest = ask(registry, "/v2/a.test/app/manifests/1", &[]);
    assert!(manifest.starts_with(b"{\"schemaVersion\""));
}

proptest! {
    #[test]
    fn target_router_holds(random in "\\PC{0,80}", made in target()) {
        router(&random);
        router(&made);
    }

    #[test]
    fn target_range_holds(value in "(bytes=)?[0-9,-]{0,30}|\\PC{0,30}", size in any::<u64>()) {
        range(&value, size);
    }

    #[test]
    fn target_query_holds(random in "\\PC{0,80}", made in target(), said in said()) {
        query(&random);
        query(&made);
        let raw = encoded(&said);
        prop_assert_eq!(&Query::parse(&raw), &said);
        // what nobody knows changes nothing, nor does what was said already
        let more = "&x=y&%ff=%ff&ns&=&&page=x";
        if said.ns.is_some() {
            prop_assert_eq!(&Query::parse(&format!("a=b&{raw}{more}")), &said);
            prop_assert_eq!(Query::parse(&format!("{raw}&ns=later")).ns, said.ns);
        }
    }

    #[test]
    fn target_archive_holds(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        archive(&bytes);
    }

    #[test]
    fn target_layout_holds(made in json(), nearly in nearly()) {
        layout(&made);
        layout(&nearly);
    }

    #[test]
    fn target_host_holds(value in proptest::collection::vec(any::<u8>(), 0..60), text in "[<>a-z.:/\"&\\[\\]]{0,20}") {
        host(&value);
        host(text.as_bytes());
    }
}

#[test]
fn target_request_holds() {
    let config = Config {
        // each kind of answer must occur, the rarest of them in one of 100
        cases: Config::default().cases.max(2048),
        source_file: Some(file!()),
        ..Config::default()
    };
    let seen = RefCell::new(BTreeMap::<u16, u32>::new());
    let strategy = (made(), target(), "\\PC{0,80}");
    TestRunner::new(config)
        .run(&strategy, |(made, pieces, random)| {
            if let Some(status) = respond(&made) {
                *seen.borrow_mut().entry(status.as_u16()).or_default() += 1;
            }
            request(&format!("GET {pieces}"));
            request(&random);
            Ok(())
        })
        .unwrap();
    // else nothing was promised about answers that matter
    let seen = seen.into_inner();
    for status in [200, 206, 304, 404, 405, 412, 416] {
        assert!(seen.contains_key(&status), "{status} is not among {seen:?}");
    }
}
