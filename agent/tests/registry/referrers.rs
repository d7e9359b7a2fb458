//! OCI distribution-spec "Listing Referrers".

use image_layout::Digest;
use serde_json::{Value, json};

use crate::client::{Answer, get, head};
use crate::layout::{OCI_INDEX, OCI_MANIFEST, Writer};
use crate::server::{Server, serve};

fn digests(answer: &Answer) -> Vec<Digest> {
    let manifests = answer.json()["manifests"].clone();
    let digest = |m: &Value| m["digest"].as_str().unwrap().parse().unwrap();
    manifests.as_array().unwrap().iter().map(digest).collect()
}

#[test]
fn referrers_come_from_subjects_and_from_the_fallback_tag() {
    let served = serve();
    let written = &served.written;
    let path = format!("/v2/a.test/shop/db/referrers/{}", written.db_a);
    let answer = get(served.at, &path);
    assert_eq!(answer.header("content-type"), Some(OCI_INDEX));
    assert_eq!(answer.header("oci-filters-applied"), None);
    assert_eq!(answer.json()["schemaVersion"], 2);
    assert_eq!(answer.json()["mediaType"], OCI_INDEX);
    let mut expected = [
        written.referrer,
        written.referrer_by_config,
        written.referrer_by_tag,
    ];
    expected.sort();
    assert_eq!(digests(&answer), expected);
    for entry in answer.json()["manifests"].as_array().unwrap() {
        let digest = entry["digest"].as_str().unwrap();
        let manifest = get(served.at, &format!("/v2/a.test/shop/db/manifests/{digest}"));
        assert_eq!(manifest.header("content-type"), entry["mediaType"].as_str());
        assert_eq!(json!(manifest.body.len()), entry["size"]);
        if digest == written.referrer.to_string() {
            assert_eq!(entry["annotations"], json!({"made.by": "test"}));
            assert_eq!(entry["artifactType"], "application/spdx+json");
        }
        if digest == written.referrer_by_config.to_string() {
            assert_eq!(
                entry["artifactType"],
                "application/vnd.oci.image.config.v1+json"
            );
            assert_eq!(entry.get("annotations"), None);
        }
    }
    // and the tag goes on being served
    let tag = format!("sha256-{}", written.db_a.hex());
    let path = format!("/v2/a.test/shop/db/manifests/{tag}");
    assert_eq!(
        head(served.at, &path).header("content-type"),
        Some(OCI_INDEX)
    );
}

#[test]
fn artifact_types_are_filtered_and_several_mean_any() {
    let served = serve();
    let written = &served.written;
    let path = format!("/v2/a.test/shop/db/referrers/{}", written.db_a);
    let mut both = [written.referrer, written.referrer_by_tag];
    both.sort();
    for (query, expected) in [
        (
            "?artifactType=application/spdx%2Bjson",
            &[written.referrer][..],
        ),
        (
            "?artifactType=application/spdx%2Bjson&artifactType=x%2Ffallback",
            &both,
        ),
        ("?artifactType=none", &[]),
    ] {
        let answer = get(served.at, &format!("{path}{query}"));
        assert_eq!(answer.header("oci-filters-applied"), Some("artifactType"));
        assert_eq!(digests(&answer), expected, "{query}");
    }
}

#[test]
fn what_nothing_refers_to_has_an_empty_index_and_never_404() {
    let served = serve();
    let zero = format!("sha256:{}", "0".repeat(64));
    for digest in [zero, served.written.app.to_string()] {
        let answer = get(served.at, &format!("/v2/library/app/referrers/{digest}"));
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some(OCI_INDEX));
        let expected = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []});
        assert_eq!(answer.json(), expected);
    }
    let answer = get(served.at, "/v2/library/app/referrers/sha256:wrong");
    assert_eq!(
        (answer.status, answer.code()),
        (400, "DIGEST_INVALID".into())
    );
}

#[test]
fn a_fallback_tag_of_a_sha512_digest_has_half_of_its_digits() {
    let served = serve();
    let subject = served.written.sha512;
    let path = format!("/v2/a.test/by/digest/referrers/{subject}");
    let answer = get(served.at, &path);
    assert_eq!(digests(&answer), [served.written.referrer_by_short_tag]);
    // another digest with the same beginning is another one
    let other = format!("sha256:{}", &subject.hex()[..64]);
    let path = format!("/v2/a.test/by/digest/referrers/{other}");
    assert_eq!(get(served.at, &path).json()["manifests"], json!([]));
}

/// What the specification has an entry made of: its own type, else its configuration's, else none.
#[test]
fn an_entry_has_the_type_that_there_is_and_all_annotations_though_its_subject_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path());
    let absent = Digest::sha256_of(b"a subject that was left behind");
    let subject = json!({"mediaType": OCI_MANIFEST, "digest": absent, "size": 7});
    let annotations = json!({
        "org.opencontainers.image.created": "2026-01-01T00:00:00Z",
        "empty": "", "with \"quotes\"": "and\nlines", "\u{fc}ber": "\u{1f980}",
    });
    let (child, bytes) = writer.image("child", json!({}));
    let child = json!({"mediaType": OCI_MANIFEST, "digest": child, "size": bytes.len()});
    let index = |more: Value| {
        let mut index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child],
            "subject": subject, "annotations": annotations});
        index
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::to_vec(&index).unwrap()
    };
    let image = json!({"subject": subject, "annotations": annotations});
    let mut own = image.clone();
    own["artifactType"] = json!("x/own");
    let entries = [
        (OCI_INDEX, index(json!({})), None),
        (
            OCI_INDEX,
            index(json!({"artifactType": "x/of-index"})),
            Some("x/of-index"),
        ),
        (
            OCI_MANIFEST,
            writer.image("by its configuration", image).1,
            Some("application/vnd.oci.image.config.v1+json"),
        ),
        (
            OCI_MANIFEST,
            writer.image("by its own", own).1,
            Some("x/own"),
        ),
    ];
    let mut expected = Vec::new();
    for (media_type, bytes, artifact_type) in entries {
        let digest = writer.blob(&bytes);
        writer.name(
            "a.test/app:1",
            "referrers/x",
            media_type,
            digest,
            bytes.len(),
        );
        let mut entry = json!({"mediaType": media_type, "digest": digest, "size": bytes.len(),
            "annotations": annotations});
        if let Some(artifact_type) = artifact_type {
            entry["artifactType"] = json!(artifact_type);
        }
        expected.push((digest, entry));
    }
    writer.named("a.test/app:1", "the image", json!({}));
    writer.finish();
    expected.sort_by_key(|(digest, _)| *digest);
    let expected: Vec<_> = expected.into_iter().map(|(_, entry)| entry).collect();

    let server = Server::over(dir.path());
    let path = format!("/v2/a.test/app/manifests/{absent}");
    assert_eq!(get(server.address, &path).status, 404);
    let path = format!("/v2/a.test/app/referrers/{absent}");
    let answer = get(server.address, &path);
    assert_eq!(answer.status, 200);
    // whole entries: what is not there has no key, and is no empty text
    assert_eq!(answer.json()["manifests"], json!(expected));
    let filtered = get(server.address, &format!("{path}?artifactType=x/of-index"));
    assert_eq!(digests(&filtered).len(), 1);
    // no type to filter by
    let all = get(server.address, &format!("{path}?artifactType="));
    assert_eq!(all.json(), answer.json());
    assert_eq!(all.header("oci-filters-applied"), None);
}
