//! Port 6443 as k3s serves it: as much of supervisor and API as a node and `kubectl` meet.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::db::{Db, Node};
use crate::http::{self, Request, Response};
use crate::report;
use crate::tls::{Ca, For};
use crate::token::Token;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
/// Kills what is in the control group of the node's registry.
const REGISTRY_KILL: &str = "/sys/fs/cgroup/haulboot/registry/cgroup.kill";

/// Everything a connection needs.
#[derive(Debug)]
pub struct Server {
    /// Signs what servers show.
    pub server_ca: Ca,
    /// Signs what clients show.
    pub client_ca: Ca,
    /// Joins servers, and agents too.
    pub server_secret: String,
    /// Joins agents.
    pub agent_secret: String,
    /// Set once everything is up: `/v1-k3s/readyz`.
    pub ready: AtomicBool,
    db: Mutex<Db>,
}

/// Who asks.
#[derive(Debug)]
enum Client {
    Nobody,
    /// A client certificate: common name and organisations.
    Certificate(String, Vec<String>),
}

impl Server {
    /// A server over what lies in DATA-DIR/server. What `token` and `agent-token` say is what must
    /// be sent, whole, also where it has the secure form; only the agents' secret is taken out of
    /// such a server's token where there is none for agents (k3s: pkg/daemons/control/deps).
    pub fn new(data_dir: &Path, token: String, agent_token: Option<String>) -> Result<Server> {
        let tls = data_dir.join("server/tls");
        let agent_secret = match agent_token {
            Some(token) => token,
            None => Token::parse(&token).map_or_else(|_| token.clone(), |parsed| parsed.secret),
        };
        Ok(Server {
            server_ca: Ca::read(&tls, "server-ca")?,
            client_ca: Ca::read(&tls, "client-ca")?,
            server_secret: token,
            agent_secret,
            ready: AtomicBool::new(false),
            db: Mutex::new(Db::open(data_dir)?),
        })
    }

    /// Serves for ever, one thread a connection. `names` are those that the certificate is for.
    pub fn serve(self: &Arc<Self>, listener: TcpListener, names: &[String]) -> Result<()> {
        let pair = self.server_ca.leaf("k3s", &For::Server(names))?;
        let config = crate::tls::server(&pair, &self.client_ca.pem)?;
        let server = Arc::clone(self);
        std::thread::Builder::new()
            .name("listener".to_owned())
            .spawn(move || {
                for tcp in listener.incoming().flatten() {
                    let (server, config) = (Arc::clone(&server), Arc::clone(&config));
                    let answered = std::thread::Builder::new().spawn(move || {
                        let connection = ServerConnection::new(config);
                        let outcome = connection
                            .map_err(Into::into)
                            .and_then(|c| server.client(c, tcp));
                        if let Err(error) = outcome {
                            report::log(format!("http: TLS handshake error: {error:#}"));
                        }
                    });
                    if let Err(error) = answered {
                        report::log(format!("a connection is refused: {error}"));
                    }
                }
            })?;
        Ok(())
    }

    fn client(&self, connection: ServerConnection, tcp: TcpStream) -> Result<()> {
        http::bound(&tcp)?;
        let mut stream = StreamOwned::new(connection, tcp);
        let request = Request::read(&mut stream)?;
        let certificate = stream
            .conn
            .peer_certificates()
            .and_then(|chain| chain.first());
        let client = match certificate.and_then(|der| crate::tls::subject(der)) {
            Some((name, organisations)) => Client::Certificate(name, organisations),
            None => Client::Nobody,
        };
        let response = self
            .answer(&request, &client)
            .unwrap_or_else(|error| Response::new(503, TEXT, format!("{error:#}\n")));
        response
            .write(&mut stream, request.method != "HEAD")
            .context("answering")?;
        stream.conn.send_close_notify();
        // a client that is gone already has its answer
        let _ = stream.conn.write_tls(&mut stream.sock);
        Ok(())
    }

    fn db(&self) -> MutexGuard<'_, Db> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Request, client: &Client) -> Result<Response> {
        match request.path.as_str() {
            "/ping" => Ok(Response::new(200, TEXT, "pong")),
            "/cacerts" => Ok(Response::new(200, TEXT, self.server_ca.pem.as_bytes())),
            path => match path.strip_prefix("/v1-k3s/") {
                Some(what) => self.supervisor(what, request),
                None => self.api(path, request, client),
            },
        }
    }

    /// What Basic authentication opens (k3s: pkg/server/handlers/router.go).
    fn supervisor(&self, what: &str, request: &Request) -> Result<Response> {
        let allowed = match request.basic() {
            Some((user, secret)) if user == "node" => {
                secret == self.agent_secret || secret == self.server_secret
            }
            Some((user, secret)) if user == "server" => secret == self.server_secret,
            _ => false,
        };
        if !allowed {
            return Ok(status(401, "Unauthorized"));
        }
        match what {
            "readyz" if self.ready.load(Ordering::Acquire) => Ok(Response::new(200, TEXT, "ok")),
            "readyz" => Ok(status(503, "not ready")),
            "server-ca.crt" => Ok(Response::new(200, TEXT, self.server_ca.pem.as_bytes())),
            "client-ca.crt" => Ok(Response::new(200, TEXT, self.client_ca.pem.as_bytes())),
            "config" => Ok(Response::new(
                200,
                JSON,
                r#"{"HTTPSPort":6443,"SupervisorPort":6443}"#,
            )),
            "serving-kubelet.crt" | "client-kubelet.crt" => self.kubelet(what, request),
            _ => Ok(status(404, "404 page not found")),
        }
    }

    /// Certificates of a node, for the one that has the node's password.
    fn kubelet(&self, what: &str, request: &Request) -> Result<Response> {
        let (Some(name), Some(password)) = (
            request.header("k3s-Node-Name"),
            request.header("k3s-Node-Password"),
        ) else {
            return Ok(status(400, "node name not set"));
        };
        if !self.db().password(name, password)? {
            report::log(format!(
                "unable to verify password for node {name}: hash does not match"
            ));
            return Ok(status(403, "unable to verify node identity"));
        }
        let pair = if what == "client-kubelet.crt" {
            let user = format!("system:node:{name}");
            self.client_ca.leaf(&user, &For::Client("system:nodes"))?
        } else {
            let mut names = vec![
                name.to_owned(),
                "localhost".to_owned(),
                "127.0.0.1".to_owned(),
            ];
            names.extend(request.header("k3s-Node-IP").map(str::to_owned));
            self.server_ca.leaf(name, &For::Server(&names))?
        };
        Ok(Response::new(
            200,
            TEXT,
            format!("{}{}", pair.certificate, pair.key),
        ))
    }

    /// What a client certificate opens; `anonymous-auth` is off (k3s: pkg/daemons/control).
    fn api(&self, path: &str, request: &Request, client: &Client) -> Result<Response> {
        let Client::Certificate(user, groups) = client else {
            return Ok(status(401, "Unauthorized"));
        };
        let admin = groups.iter().any(|group| group == "system:masters");
        let node = user
            .strip_prefix("system:node:")
            .filter(|_| groups.iter().any(|g| g == "system:nodes"));
        let mut db = self.db();
        match (request.method.as_str(), path) {
            ("GET", "/version") => Ok(json_answer(
                200,
                &json!({
                    "major": "1", "minor": "36", "gitVersion": crate::VERSION, "platform": "linux/probe",
                }),
            )),
            ("GET", "/readyz" | "/livez" | "/healthz") => Ok(Response::new(200, TEXT, "ok")),
            // no path of k3s: for tests of what goes on without the node's registry
            ("GET", "/kill/registry") if admin => {
                std::fs::write(REGISTRY_KILL, "1").context("killing the registry")?;
                report::event(&json!({"event": "killed", "what": "registry"}));
                Ok(Response::new(200, TEXT, "killed\n"))
            }
            ("GET", "/api/v1/nodes") if admin => Ok(json_answer(200, &db.list())),
            ("POST", "/api/v1/nodes") => {
                let body: Value = serde_json::from_slice(&request.body)?;
                let name = body["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                if node != Some(name.as_str()) {
                    return Ok(forbidden(user, path));
                }
                let fresh = !db.knows(&name);
                db.put(&name, from_api(&body))?;
                report::event(&json!({"event": "registered", "node": name, "fresh": fresh}));
                Ok(json_answer(201, &db.node(&name).unwrap_or_default()))
            }
            (method, path) => {
                let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/";
                let (name, is_lease) = match path.strip_prefix(lease) {
                    Some(name) => (name, true),
                    None => (
                        path.strip_prefix("/api/v1/nodes/").unwrap_or_default(),
                        false,
                    ),
                };
                let (name, is_status) = match name.strip_suffix("/status") {
                    Some(name) => (name, true),
                    None => (name, false),
                };
                if !admin && node != Some(name) {
                    return Ok(forbidden(user, path));
                }
                if name.is_empty() || !db.knows(name) {
                    return Ok(status(404, &format!("nodes {name:?} not found")));
                }
                match method {
                    "GET" => {}
                    "PUT" | "PATCH" if is_lease => db.heartbeat(name),
                    "PUT" | "PATCH" if is_status => {
                        let body: Value = serde_json::from_slice(&request.body)?;
                        db.put(name, from_api(&body))?;
                    }
                    _ => return Ok(status(405, "the server does not allow this method")),
                }
                Ok(json_answer(200, &db.node(name).unwrap_or_default()))
            }
        }
    }
}

/// What a kubelet says of its node.
fn from_api(body: &Value) -> Node {
    let status = &body["status"];
    let none = Vec::new();
    let list = |name: &str| status[name].as_array().unwrap_or(&none).clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Node {
        machine_id: text(&status["nodeInfo"]["machineID"]),
        boot_id: text(&status["nodeInfo"]["bootID"]),
        address: list("addresses")
            .iter()
            .find(|address| address["type"] == "InternalIP")
            .map(|address| text(&address["address"]))
            .unwrap_or_default(),
        ready: list("conditions")
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True"),
    }
}

fn json_answer(code: u16, body: &Value) -> Response {
    Response::new(code, JSON, body.to_string())
}

fn forbidden(user: &str, path: &str) -> Response {
    status(403, &format!("User {user:?} cannot reach {path}"))
}

fn status(code: u16, message: &str) -> Response {
    json_answer(
        code,
        &json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": http::reason(code), "code": code,
        }),
    )
}
