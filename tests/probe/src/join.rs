//! How a node joins a server, registers, and stays (k3s: pkg/agent; kubelet).

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::json;

use crate::http::{self, Response};
use crate::report;
use crate::tls::{self, Pair};
use crate::token::Token;

/// Between two attempts to reach the server (k3s: pkg/agent/run.go).
const REACH_PAUSE: Duration = Duration::from_secs(2);
/// Between two attempts to get what the node needs (k3s: pkg/agent/config).
const FETCH_PAUSE: Duration = Duration::from_secs(5);
/// Between a node's registration and its Ready.
const READY_AFTER: Duration = Duration::from_secs(4);
/// Between two heartbeats (kubelet: nodeLeaseDurationSeconds / 4).
const HEARTBEAT: Duration = Duration::from_secs(10);

/// A node that joins.
#[derive(Clone, Debug)]
pub struct Member {
    /// node-name.
    pub name: String,
    /// node-ip.
    pub address: String,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Where the password lies; made if it does not.
    pub password_file: PathBuf,
    /// The data directory.
    pub data_dir: PathBuf,
    /// The address that was configured, for messages: `https://192.168.0.2:6443`.
    pub url: String,
    /// What is connected to: `127.0.0.1:6444`, behind it the server.
    pub authority: String,
    /// The token.
    pub token: Token,
}

/// What a node has of its server once it joined.
#[derive(Clone, Debug)]
pub struct Joined {
    ca: String,
    client: Pair,
}

impl Member {
    /// Waits for the server for as long as it takes, joins it, and lays down the node's files.
    pub fn join(&self) -> Joined {
        let mut told = String::new();
        loop {
            let why = match self.cacerts() {
                Ok(ca) => return self.configure(ca),
                Err(why) => format!("{why:#}"),
            };
            // what no waiting mends is told, once
            if why.contains("does not match") && why != told {
                report::event(&json!({"event": "refused", "why": why}));
                told.clone_from(&why);
            }
            report::log(format!(
                "Failed to validate connection to cluster at {}: {why}",
                self.url
            ));
            std::thread::sleep(REACH_PAUSE);
        }
    }

    fn configure(&self, ca: String) -> Joined {
        let mut told = String::new();
        loop {
            let why = match self.fetch(&ca) {
                Ok(client) => return Joined { ca, client },
                Err(why) => format!("{why:#}"),
            };
            if why.contains("password rejected") && why != told {
                report::event(&json!({"event": "refused", "why": why}));
                told.clone_from(&why);
            }
            report::log(format!(
                "Waiting to retrieve agent configuration; server is not ready: {why}"
            ));
            std::thread::sleep(FETCH_PAUSE);
        }
    }

    /// The server's CA: fetched from anybody, then checked against what serves it and the token.
    pub fn cacerts(&self) -> Result<String> {
        let mut stream = tls::connect(&self.authority, None, None)?;
        let first = http::ask(&mut stream, "GET", &self.authority, "/cacerts", &[])
            .context("failed to get CA certs")?;
        ensure!(
            first.status == 200,
            "failed to get CA certs: {}",
            first.status
        );
        let ca = String::from_utf8(first.body).context("failed to get CA certs")?;
        let mut stream = tls::connect(&self.authority, Some(&ca), None)?;
        http::ask(&mut stream, "GET", &self.authority, "/cacerts", &[])
            .context("CA cert validation failed")?;
        self.token
            .check_ca(ca.as_bytes())
            .map_err(|why| anyhow!(why))?;
        Ok(ca)
    }

    /// Fetches the node's certificates and lays down what k3s lays down for the kubelet.
    fn fetch(&self, ca: &str) -> Result<Pair> {
        let agent = self.data_dir.join("agent");
        std::fs::create_dir_all(&agent)?;
        let client_ca = self.get(ca, "client-ca.crt", &[])?;
        write(&agent.join("client-ca.crt"), &client_ca)?;
        let server_ca = self.get(ca, "server-ca.crt", &[])?;
        write(&agent.join("server-ca.crt"), &server_ca)?;
        let password = password(&self.password_file)?;
        let headers = [
            ("k3s-Node-Name", self.name.as_str()),
            ("k3s-Node-Password", password.as_str()),
            ("k3s-Node-IP", self.address.as_str()),
        ];
        let mut client = None;
        for kind in ["serving-kubelet", "client-kubelet"] {
            let pair = split(&self.get(ca, &format!("{kind}.crt"), &headers)?)?;
            write(&agent.join(format!("{kind}.crt")), &pair.certificate)?;
            write(&agent.join(format!("{kind}.key")), &pair.key)?;
            client = Some(pair);
        }
        write(&agent.join("kubelet.kubeconfig"), &self.kubeconfig(&agent))?;
        client.context("no certificate")
    }

    fn get(&self, ca: &str, what: &str, headers: &[(&str, &str)]) -> Result<String> {
        use base64::Engine as _;
        let login = format!("node:{}", self.token.secret);
        let login = format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(login)
        );
        let mut headers = headers.to_vec();
        headers.push(("Authorization", &login));
        let mut stream = tls::connect(&self.authority, Some(ca), None)?;
        let path = format!("/v1-k3s/{what}");
        let answer = http::ask(&mut stream, "GET", &self.authority, &path, &headers)?;
        match answer.status {
            200 => Ok(String::from_utf8(answer.body)?),
            403 => bail!(
                "Node password rejected, duplicate hostname or contents of '{}' may not match \
                 server node-passwd entry, try enabling a unique node name with the --with-node-id \
                 flag",
                self.password_file.display()
            ),
            code => bail!(
                "https://{}{path}: {code} {}",
                self.authority,
                http::reason(code)
            ),
        }
    }

    /// The kubelet's kubeconfig names files (k3s: pkg/daemons/control/deps).
    fn kubeconfig(&self, agent: &Path) -> String {
        let agent = agent.display();
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    server: https://{}\n    \
             certificate-authority: {agent}/server-ca.crt\n  name: local\ncontexts:\n- context:\n    \
             cluster: local\n    namespace: default\n    user: user\n  name: Default\n\
             current-context: Default\nkind: Config\npreferences: {{}}\nusers:\n- name: user\n  \
             user:\n    client-certificate: {agent}/client-kubelet.crt\n    client-key: \
             {agent}/client-kubelet.key\n",
            self.authority
        )
    }

    /// Registers the node. A kubelet does so when it starts, until it succeeds, and never again.
    pub fn register(&self, joined: &Joined) {
        while let Err(error) = self.try_register(joined) {
            report::log(format!(
                "Unable to register node with API server: {error:#}"
            ));
            std::thread::sleep(REACH_PAUSE);
        }
    }

    fn try_register(&self, joined: &Joined) -> Result<()> {
        let answer = self.api(joined, "POST", "/api/v1/nodes", &self.node(false))?;
        let said = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status < 300, "{} {said}", answer.status);
        Ok(())
    }

    /// Becomes Ready, and then says every few seconds that it lives. A server that forgot the node
    /// is not told of it again: k3s does not do it either.
    pub fn stay(&self, joined: &Joined) -> ! {
        std::thread::sleep(READY_AFTER);
        let status = format!("/api/v1/nodes/{}/status", self.name);
        let lease = format!(
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{}",
            self.name
        );
        let mut ready = false;
        loop {
            let asked = match ready {
                false => self.api(joined, "PUT", &status, &self.node(true)),
                true => self.api(joined, "PUT", &lease, &json!({})),
            };
            let why = match asked {
                Ok(answer) if answer.status == 200 => {
                    if !ready {
                        report::event(&json!({"event": "ready", "node": self.name}));
                    }
                    ready = true;
                    None
                }
                Ok(answer) => Some(String::from_utf8_lossy(&answer.body).into_owned()),
                Err(error) => Some(format!("{error:#}")),
            };
            if let Some(why) = why {
                report::log(format!("Error updating node status, will retry: {why}"));
            }
            std::thread::sleep(HEARTBEAT);
        }
    }

    fn node(&self, ready: bool) -> serde_json::Value {
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name},
            "status": {
                "addresses": [{"type": "InternalIP", "address": self.address}],
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
                "nodeInfo": {"machineID": self.machine_id, "bootID": self.boot_id},
            },
        })
    }

    fn api(
        &self,
        joined: &Joined,
        method: &str,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<Response> {
        let mut stream = tls::connect(&self.authority, Some(&joined.ca), Some(&joined.client))?;
        http::send(
            &mut stream,
            method,
            &self.authority,
            path,
            &[],
            body.to_string().as_bytes(),
        )
    }
}

/// The node's password, made where there is none.
fn password(file: &Path) -> Result<String> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let password = random()?;
            if let Some(directory) = file.parent() {
                std::fs::create_dir_all(directory)?;
            }
            write(file, &format!("{password}\n"))?;
            Ok(password)
        }
        Err(error) => Err(error).with_context(|| format!("open {}", file.display())),
    }
}

/// 32 hexadecimal digits.
pub fn random() -> Result<String> {
    use std::io::Read as _;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}

fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("failed to write {}", path.display()))
}

/// Certificates and key out of one file.
fn split(pem: &str) -> Result<Pair> {
    let at = pem
        .lines()
        .scan(0, |at, line| {
            let begun = *at;
            *at += line.len() + 1;
            Some((begun, line))
        })
        .find(|(_, line)| line.starts_with("-----BEGIN") && line.contains("PRIVATE KEY"))
        .context("there is no key in the answer")?
        .0;
    let (certificate, key) = pem.split_at(at);
    Ok(Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
    })
}

/// k3s's load balancer: what connects to the listener is handed on to the server.
pub fn forward(listener: TcpListener, server: String) -> Result<()> {
    std::thread::Builder::new()
        .name("balancer".to_owned())
        .spawn(move || {
            for client in listener.incoming().flatten() {
                let server = server.clone();
                let handed = std::thread::Builder::new().spawn(move || {
                    // a client sees the end of its connection, which is all it needs to know
                    if let Err(error) = hand_on(client, &server) {
                        report::log(format!("Proxy error: {error:#}"));
                    }
                });
                if let Err(error) = handed {
                    report::log(format!("a connection is refused: {error}"));
                }
            }
        })?;
    Ok(())
}

fn hand_on(client: TcpStream, server: &str) -> Result<()> {
    let server = http::connect(server)?;
    http::bound(&client)?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let back = std::thread::Builder::new().spawn(move || {
        let (mut from, mut to) = (server, client);
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
        let _ = from.shutdown(std::net::Shutdown::Both);
    })?;
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
    let _ = back.join();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use time::OffsetDateTime;

    use super::*;
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
}
