//! The course of one run: launcher, checks, and then server or agent.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use time::OffsetDateTime;

use crate::conditions::{self, tries};
use crate::config::{CONFIG, Config, Role};
use crate::join::{self, Member};
use crate::launcher::{self, Archive};
use crate::report;
use crate::server::Server;
use crate::tls::Ca;
use crate::token::{Token, ca_hash};

/// How long an orderly end takes.
const END: Duration = Duration::from_millis(1500);
/// k3s: pkg/cli/cmds.
const PORT: u16 = 6443;
/// The load balancer of agents.
const LOCAL_PORT: &str = "6444";

/// What `main` does.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let words: Vec<String> = arguments
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let name = words
        .first()
        .and_then(|path| path.rsplit('/').next())
        .unwrap_or_default();
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    // children speak to whoever started them, not to the tests
    let child = matches!(words.first(), Some(&"--try"));
    let outcome = match (name, words.as_slice()) {
        (_, ["--version" | "-v"]) => {
            println!("k3s version {} (probe)", crate::VERSION);
            Ok(())
        }
        ("sh" | "ash", [script, ..]) => crate::sh::run(Path::new(script)),
        ("kubectl" | "crictl" | "ctr", _) => {
            println!("{name} of the probe");
            Ok(())
        }
        (_, ["--try", what, path]) => tries::carry_out(what, Path::new(path)),
        (_, ["--sleep", _]) => crate::pods::sleep(),
        (_, ["server", ..]) => start(Role::Server, &arguments),
        (_, ["agent", ..]) => start(Role::Agent, &arguments),
        _ => Err(anyhow!(
            "usage: k3s server|agent; this is the stand-in of tests"
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if child => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
        Err(error) => {
            report::event(&json!({"event": "refused", "why": format!("{error:#}")}));
            eprintln!("level=fatal msg=\"Error: {error:#}\"");
            ExitCode::FAILURE
        }
    }
}

fn start(role: Role, arguments: &[OsString]) -> Result<()> {
    let file = Path::new(CONFIG);
    let place = std::env::var_os("K3S_DATA_DIR").map(PathBuf::from);
    if place.is_none() {
        conditions::before_the_launcher();
    }
    if place.is_none()
        // a bare probe has no archive, and goes on by itself
        && let Some(archive) = Archive::of(&std::env::current_exe()?)?
    {
        // the launcher looks for two keys only; what is wrong with others is k3s's to say
        let (config, _) = Config::read(file, Role::Server).unwrap_or_default();
        let place = archive
            .extract(&config.data_dir())
            .context("extracting data")?;
        let first = config.is_set("prefer-bundled-bin");
        return launcher::execute(&place, &format!("k3s-{}", role.name()), arguments, first);
    }
    let (config, warnings) = Config::read(file, role).map_err(|why| anyhow!("{why}"))?;
    for warning in warnings {
        report::log(warning);
    }
    conditions::check(role, &config, place.is_some());
    if let Some(place) = place {
        let detected = crate::aux::detect(&place).map_err(|error| format!("{error:#}"));
        report::verdict("links in bin/aux can be replaced", detected);
        let (current, plugin) = launcher::links(&place);
        report::verdict("data/current leads to what was unpacked", current);
        report::verdict("data/cni has the network plugins", plugin);
        // after the links were replaced: they are all that is to be there
        if let Some(outcome) = crate::in_place::memory(&place) {
            report::verdict(
                "k3s in place keeps less than 1 MiB of it in memory",
                outcome,
            );
        }
    }
    run(role, &config)
}

fn run(role: Role, config: &Config) -> Result<()> {
    end_when_told()?;
    let token = config.token().map_err(|why| anyhow!(why))?;
    let member = |url: &str, authority: &str, token: Token| Member {
        name: node_name(config),
        address: config.get("node-ip").unwrap_or("127.0.0.1").to_owned(),
        machine_id: read("/etc/machine-id"),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        password_file: PathBuf::from("/etc/rancher/node/password"),
        data_dir: config.data_dir(),
        url: url.to_owned(),
        authority: authority.to_owned(),
        token,
    };
    let (member, server) = match role {
        Role::Agent => {
            let Some(url) = config.get("server") else {
                bail!("--server is required")
            };
            let Some(token) = token else {
                bail!("--token is required")
            };
            let token = Token::parse(&token).map_err(|why| anyhow!(why))?;
            let Some(address) = url.strip_prefix("https://") else {
                bail!("only https:// URLs are supported, invalid scheme: {url}");
            };
            let address = address.trim_end_matches('/');
            let address = match address.rsplit_once(':') {
                Some((_, port)) if port.parse::<u16>().is_ok() => address.to_owned(),
                _ => format!("{address}:443"),
            };
            let local = format!(
                "127.0.0.1:{}",
                config.get("lb-server-port").unwrap_or(LOCAL_PORT)
            );
            let listener = TcpListener::bind(&local).with_context(|| format!("listen {local}"))?;
            crate::balancer::forward(listener, address)?;
            (member(url, &local, token), None)
        }
        Role::Server => {
            let server = serve(config, token)?;
            let token = Token {
                ca_hash: ca_hash(server.server_ca.pem.as_bytes()),
                user: "node".to_owned(),
                secret: server.agent_secret.clone(),
            };
            let port = config
                .get("https-listen-port")
                .map_or(PORT.to_string(), str::to_owned);
            let authority = format!("127.0.0.1:{port}");
            (
                member(&format!("https://{authority}"), &authority, token),
                Some(server),
            )
        }
    };
    let joined = member.join();
    if let Err(error) = crate::pull::check(config) {
        report::condition("registries.yaml is k3s's", false, format!("{error:#}"));
    }
    member.register(&joined);
    if let Some(server) = server {
        server.ready.store(true, Ordering::Release);
        crate::manifests::check(&config.data_dir());
    }
    if let Err(error) = crate::pods::start() {
        report::condition("a pod can be started", false, format!("{error:#}"));
    }
    report::sum();
    crate::notify::ready()?;
    report::event(&json!({"event": "up", "role": role.name(), "node": member.name}));
    member.stay(&joined)
}

fn serve(config: &Config, token: Option<String>) -> Result<Arc<Server>> {
    let data_dir = config.data_dir();
    let tls = data_dir.join("server/tls");
    std::fs::create_dir_all(&tls)?;
    for name in ["server-ca", "client-ca"] {
        if !tls.join(format!("{name}.crt")).exists() {
            let now = OffsetDateTime::now_utc();
            let (crt, key) = Ca::make(&format!("k3s-{name}@{}", now.unix_timestamp()), now)?;
            std::fs::write(tls.join(format!("{name}.crt")), crt)?;
            std::fs::write(tls.join(format!("{name}.key")), key)?;
        }
    }
    let token = token.map_or_else(join::random, Ok)?;
    let agent_token = config.agent_token().map_err(|why| anyhow!(why))?;
    let server = Arc::new(Server::new(&data_dir, token, agent_token)?);
    let mut names: Vec<String> = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        "::1",
        "10.43.0.1",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push(node_name(config));
    names.extend(config.all("node-ip").iter().cloned());
    names.extend(config.all("tls-san").iter().cloned());
    let port = config
        .get("https-listen-port")
        .map_or(Ok(PORT), str::parse)?;
    let address = config.get("bind-address").unwrap_or("0.0.0.0");
    let listener = TcpListener::bind((address, port))
        .with_context(|| format!("listen tcp {address}:{port}"))?;
    server.serve(listener, &names)?;
    Ok(server)
}

/// First signal: an orderly end. Second: at once, with code 1.
fn end_when_told() -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut told = false;
            for _ in signals.forever() {
                if told {
                    std::process::exit(1);
                }
                told = true;
                report::event(&json!({"event": "ending"}));
                let ending = std::thread::Builder::new().spawn(|| {
                    std::thread::sleep(END);
                    std::process::exit(0);
                });
                if ending.is_err() {
                    std::process::exit(0);
                }
            }
        })?;
    Ok(())
}

/// node-name, else the host's.
pub fn node_name(config: &Config) -> String {
    let host = || {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .to_lowercase()
    };
    config.get("node-name").map_or_else(host, str::to_owned)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}
