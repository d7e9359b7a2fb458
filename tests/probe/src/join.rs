//! How a node joins a server, registers, and stays (k3s: pkg/agent; kubelet).

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

#[cfg(test)]
mod tests;
