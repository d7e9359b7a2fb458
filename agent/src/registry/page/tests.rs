//! The first page of a node: what it says of itself and of what went wrong.

use axum::http::Request;
use http_body_util::BodyExt as _;
use image_layout::status::{
    ClusterPhase, ClusterStatus, NodeStatus, Outcome, Problem, Stage, StageReport, StateStatus,
};

use super::super::status::StatusSource;
use super::*;

const EVIL: &str = "<script>alert(1)</script>\u{202e}";

fn stage(stage: Stage, outcome: Outcome, problem: Option<Problem>) -> StageReport {
    StageReport {
        stage,
        outcome,
        detail: format!("{stage} did what it does"),
        at: 12.34,
        took: 1.0,
        problem,
    }
}

fn node() -> Status {
    Status {
        kernel: "6.12.0".to_owned(),
        node: Some(NodeStatus {
            cluster: "edge".to_owned(),
            name: "cp-1".to_owned(),
            role: "server".to_owned(),
            addresses: vec!["192.168.0.2/24".to_owned()],
            ..NodeStatus::default()
        }),
        stages: vec![
            stage(Stage::Media, Outcome::Done, None),
            stage(Stage::State, Outcome::Skipped, None),
            stage(
                Stage::Cluster,
                Outcome::Failed,
                Some(Problem {
                    what: "k3s ended again and again.".to_owned(),
                    mend: "Look at /logs/k3s.".to_owned(),
                }),
            ),
        ],
        state: Some(StateStatus {
            kind: "disk".to_owned(),
            device: "sda1".to_owned(),
            bytes: 3 << 30,
            image_store_bytes: 0,
        }),
        cluster: Some(ClusterStatus {
            k3s: "v1.31.4+k3s1".to_owned(),
            phase: ClusterPhase::Failed,
            ..ClusterStatus::default()
        }),
        notices: (0..50).map(|n| format!("notice {n}")).collect(),
        ..Status::default()
    }
}

async fn shown(status: Status, warning: &str) -> String {
    let source = StatusSource::Own(Box::new(status));
    let registry = Registry::empty(source, warning.to_owned());
    let request = Request::get("/").header("host", "192.168.0.2:5000");
    let (request, ()) = request.body(()).unwrap().into_parts();
    let body = answer(&registry, &request).into_body();
    let bytes = body.collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_node_says_who_it_is_how_its_stages_went_and_first_of_all_what_is_wrong() {
    let page = shown(node(), "The haul on this stick can't be served.").await;
    for text in [
        "<title>cp-1 – Haulboot registry</title>",
        "<h1>cp-1</h1>",
        "cluster edge · role server · 192.168.0.2/24",
        "<strong>Stage cluster failed.</strong> k3s ended again and again.",
        "Look at /logs/k3s.",
        "v1.31.4+k3s1",
        "ended, starts again",
        "disk (sda1), 3.0 GiB",
        ">skipped</strong>",
        "notice 49",
        "<li>The haul on this stick can&#39;t be served.</li>",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    // the newest of many
    assert!(!page.contains("notice 29<"), "{page}");
    let problem = page.find("Stage cluster failed").unwrap();
    assert!(problem < page.find("class=\"cards\"").unwrap());
}

#[tokio::test]
async fn nothing_that_a_node_reports_becomes_markup() {
    let evil = || EVIL.to_owned();
    let mut status = node();
    status.kernel = evil();
    status.notices = vec![evil()];
    status.node = Some(NodeStatus {
        cluster: evil(),
        name: evil(),
        role: evil(),
        addresses: vec![evil()],
        registry_address: evil(),
        ..NodeStatus::default()
    });
    status.state = Some(StateStatus {
        kind: evil(),
        device: evil(),
        ..StateStatus::default()
    });
    status.cluster = Some(ClusterStatus {
        k3s: evil(),
        server: evil(),
        ..ClusterStatus::default()
    });
    for report in &mut status.stages {
        report.detail = evil();
        report.problem = Some(Problem {
            what: evil(),
            mend: evil(),
        });
    }
    let page = shown(status, EVIL).await;
    assert!(page.contains("&lt;script&gt;"), "{page}");
    assert!(
        !page.contains("<script") && !page.contains('\u{202e}'),
        "{page}"
    );
}

#[tokio::test]
async fn the_address_that_cluster_yaml_gives_goes_before_the_one_that_was_asked() {
    let mut status = node();
    if let Some(node) = &mut status.node {
        node.registry_address = "depot.lab.test:5000".to_owned();
    }
    let page = shown(status, "").await;
    assert!(
        page.contains("http://depot.lab.test:5000/mirrors/k3s.tar"),
        "{page}"
    );
    let page = shown(node(), "").await;
    assert!(
        page.contains("http://192.168.0.2:5000/mirrors/k3s.tar"),
        "{page}"
    );
}
