//! A server and nodes on this machine.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use time::OffsetDateTime;

use super::*;
use crate::balancer::forward;
use crate::server::Server;
use crate::tls::Ca;
use crate::token::ca_hash;

struct Place {
    directory: tempfile::TempDir,
    server: Arc<Server>,
    member: Member,
}

/// A server on a port of its own, and a node that would join it.
fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let tls = directory.path().join("server/tls");
    std::fs::create_dir_all(&tls).unwrap();
    for name in ["server-ca", "client-ca"] {
        let (crt, key) = Ca::make(name, OffsetDateTime::UNIX_EPOCH).unwrap();
        std::fs::write(tls.join(format!("{name}.crt")), crt).unwrap();
        std::fs::write(tls.join(format!("{name}.key")), key).unwrap();
    }
    let hash = ca_hash(&std::fs::read(tls.join("server-ca.crt")).unwrap());
    let agent_token = Token::parse(&format!("K10{hash}::node:a")).unwrap();
    let server =
        Arc::new(Server::new(directory.path(), "s".to_owned(), Some("a".to_owned())).unwrap());
    server.ready.store(true, Ordering::Release);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    server.serve(listener, &names).unwrap();
    let member = Member {
        name: "w-1".to_owned(),
        address: "10.0.0.2".to_owned(),
        machine_id: "0".repeat(32),
        boot_id: "b".to_owned(),
        password_file: directory.path().join("password"),
        data_dir: directory.path().join("w-1"),
        url: format!("https://{authority}"),
        authority,
        token: agent_token,
    };
    Place {
        directory,
        server,
        member,
    }
}

#[test]
fn a_node_joins_registers_and_finds_itself() {
    let place = place();
    let joined = place.member.join();
    place.member.try_register(&joined).unwrap();
    let path = "/api/v1/nodes/w-1";
    let answer = place.member.api(&joined, "GET", path, &json!({})).unwrap();
    let node: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(node["status"]["addresses"][0]["address"], "10.0.0.2");
    assert_eq!(node["status"]["nodeInfo"]["machineID"], "0".repeat(32));
    assert_eq!(node["status"]["nodeInfo"]["bootID"], "b");
    let others = place
        .member
        .api(&joined, "GET", "/api/v1/nodes/w-2", &json!({}))
        .unwrap();
    assert_eq!(others.status, 403, "a node sees itself only");
    let key = place.directory.path().join("w-1/agent/client-kubelet.key");
    assert!(
        std::fs::read_to_string(key)
            .unwrap()
            .starts_with("-----BEGIN EC PRIVATE KEY")
    );
}

#[test]
fn a_name_belongs_to_its_first_password() {
    let place = place();
    place.member.join();
    std::fs::write(&place.member.password_file, "another").unwrap();
    let ca = place.member.cacerts().unwrap();
    let why = place.member.fetch(&ca).unwrap_err().to_string();
    assert!(
        why.starts_with("Node password rejected, duplicate hostname or contents of"),
        "{why}"
    );
}

#[test]
fn a_token_of_another_cluster_is_refused() {
    let mut place = place();
    place.member.token.ca_hash = "0".repeat(64);
    let why = format!("{:#}", place.member.cacerts().unwrap_err());
    assert!(why.contains("token CA hash does not match"), "{why}");
    place.member.token.ca_hash.clear();
    place.member.token.secret = "wrong".to_owned();
    let ca = place.member.cacerts().unwrap();
    let why = format!("{:#}", place.member.fetch(&ca).unwrap_err());
    assert!(why.contains("401 Unauthorized"), "{why}");
}

#[test]
fn an_administrator_reads_the_version_and_nobody_else_does() {
    let place = place();
    let authority = &place.member.authority;
    let ca = place.server.server_ca.pem.clone();
    let whom = tls::For::Client("system:masters");
    let admin = place.server.client_ca.leaf("system:admin", &whom).unwrap();
    let ask = |client: Option<&Pair>| {
        let mut stream = tls::connect(authority, Some(&ca), client).unwrap();
        http::ask(&mut stream, "GET", authority, "/version", &[]).unwrap()
    };
    assert_eq!(ask(Some(&admin)).status, 200);
    assert_eq!(ask(None).status, 401);
    assert!(ask(None).header("date").is_some());
}

#[test]
fn a_servers_secure_token_is_its_password_as_a_whole() {
    let place = place();
    let token = format!("K10{}::server:s", "0".repeat(64));
    let server = Server::new(place.directory.path(), token.clone(), None).unwrap();
    assert_eq!(
        (server.server_secret, server.agent_secret.as_str()),
        (token, "s")
    );
}

#[test]
fn the_balancer_hands_connections_on() {
    let mut place = place();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap().to_string();
    forward(
        listener,
        std::mem::replace(&mut place.member.authority, local),
    )
    .unwrap();
    let joined = place.member.join();
    place.member.try_register(&joined).unwrap();
}
