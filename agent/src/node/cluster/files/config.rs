//! `/etc/rancher/k3s/config.yaml`.
//!
//! What a person wrote under `k3s:` holds; Haulboot adds what it knows and the person need not
//! say. Lists of names in certificates are joined.

use std::path::Path;

use image_layout::cluster::Role;
use serde_yaml::Value;

use super::credentials::Tokens;
use super::user_keys::{UserKeys, list};
use super::write::{below, directory, put};
use super::{Facts, FilesError, agent_keys};

/// Where k3s looks for it (k3s: pkg/configfilearg/defaultparser.go).
const PATH: &str = "etc/rancher/k3s/config.yaml";

/// The file's contents, and what of `k3s:` is not in it.
#[derive(Debug, PartialEq)]
pub(super) struct Config {
    /// A mapping.
    pub(super) document: Value,
    /// One line each.
    pub(super) notices: Vec<String>,
}

/// Writes the file, 0600: it has the token in it.
pub(super) fn write(root: &Path, config: &Config) -> Result<(), FilesError> {
    let path = below(root, Path::new(PATH));
    if let Some(parent) = path.parent() {
        directory(parent, 0o755)?;
    }
    let text = image_layout::yaml::render(&config.document);
    put(&path, text.as_bytes()).map(drop)
}

/// Puts together what a person said and what is known.
pub(super) fn compose(facts: &Facts, user: &UserKeys, data_dir: &Path, tokens: &Tokens) -> Config {
    let mut keys = user.clone();
    let mut notices = Vec::new();
    // k3s would write there behind a second process and say that it is ready at once (k3s:
    // pkg/cli/cmds/log_linux.go)
    if keys.0.remove("log").is_some() {
        notices.push("`log:` under `k3s:` is left out: what k3s logs is kept anyway".to_owned());
    }
    keys.0.remove("alsologtostderr");
    // a random one: a node without a disk would be another one after each boot
    if keys.0.remove("with-node-id").is_some() {
        notices.push(
            "`with-node-id:` under `k3s:` is left out: names in cluster.yaml are unique already"
                .to_owned(),
        );
    }
    let own_address = keys.has("node-ip");
    match facts.role {
        Role::Agent => {
            agent_tokens(&mut keys, tokens);
            let unknown: Vec<String> = keys
                .0
                .keys()
                .filter(|key| !agent_keys::known(key))
                .cloned()
                .collect();
            for key in &unknown {
                keys.0.remove(key);
            }
            if !unknown.is_empty() {
                notices.push(format!(
                    "under `k3s:`, what only servers know is left out on this agent: {}",
                    unknown.join(", ")
                ));
            }
            if let Some(server) = &facts.server {
                ours(&mut keys, "server", server.as_str().into());
            }
        }
        Role::Server | Role::Registry => {
            server_tokens(&mut keys, tokens);
            // where it has another address outside, that is the one to advertise
            if !keys.has("node-external-ip") && !own_address {
                let address = facts.address.to_string();
                ours(&mut keys, "advertise-address", address.into());
            }
            let names = names(facts, keys.0.get("tls-san"));
            keys.0.insert("tls-san".to_owned(), names.into());
        }
    }
    ours(&mut keys, "node-name", facts.name.as_str().into());
    ours(&mut keys, "node-ip", facts.address.to_string().into());
    // an address of the user's may be on another interface, which k3s finds by it
    if !own_address {
        ours(&mut keys, "flannel-iface", facts.interface.as_str().into());
    }
    ours(&mut keys, "resolv-conf", "/etc/resolv.conf".into());
    ours(&mut keys, "disable-default-registry-endpoint", true.into());
    // as it was understood here: other files are laid down in it
    let data_dir = data_dir.to_string_lossy().into_owned();
    keys.0.insert("data-dir".to_owned(), data_dir.into());
    let pairs = keys.0.into_iter().map(|(key, value)| (key.into(), value));
    Config {
        document: Value::Mapping(pairs.collect()),
        notices,
    }
}

fn ours(keys: &mut UserKeys, key: &str, value: Value) {
    keys.0.entry(key.to_owned()).or_insert(value);
}

/// The first server takes the secret itself: with a token in the secure form the whole of it would
/// become the password that agents and servers must send (k3s: pkg/daemons/control/deps,
/// getServerPass), and they send only what stands behind its last colon (k3s: pkg/clientaccess,
/// parseToken).
fn server_tokens(keys: &mut UserKeys, tokens: &Tokens) {
    let own = keys.has("token") || keys.has("token-file");
    let own_agents = keys.has("agent-token") || keys.has("agent-token-file");
    if let Some(server) = tokens.server.as_deref().filter(|_| !own) {
        ours(keys, "token", server.into());
    }
    // agents that were given the person's token would be refused if there were one for agents too
    if !own && !own_agents {
        ours(keys, "agent-token", tokens.agent_secret.as_str().into());
    }
}

/// Agents take the secure form and check their server by it. `k3s:` is the same text for servers
/// and agents: a token that servers are told to ask of agents is the one to come with.
fn agent_tokens(keys: &mut UserKeys, tokens: &Tokens) {
    let token = keys.0.remove("agent-token");
    let file = keys.0.remove("agent-token-file");
    if token.is_some() || file.is_some() {
        keys.0.remove("token");
        keys.0.remove("token-file");
    }
    if let Some(token) = token {
        keys.0.insert("token".to_owned(), token);
    } else if let Some(file) = file {
        keys.0.insert("token-file".to_owned(), file);
    } else if !keys.has("token-file") {
        ours(keys, "token", tokens.agent.as_str().into());
    }
}

/// Names and addresses that the server's certificate is for: the person's first.
fn names(facts: &Facts, user: Option<&Value>) -> Vec<Value> {
    let registry = facts.cluster.registry.address.as_deref().map(host);
    let ours = [
        facts.address.to_string(),
        facts.name.clone(),
        facts.cluster.name.clone(),
        "127.0.0.1".to_owned(),
        "localhost".to_owned(),
    ];
    let ours = ours.into_iter().chain(registry.map(str::to_owned));
    let mut names = user.map(list).unwrap_or_default();
    for name in ours {
        let name = Value::from(name);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The host of `HOST:PORT`, `HOST` or `[fd00::1]:PORT`.
fn host(address: &str) -> &str {
    if let Some(rest) = address.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.parse::<u16>().is_ok() => host,
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::facts;
    use super::super::user_keys::tests::keys;
    use super::*;

    fn tokens() -> Tokens {
        Tokens {
            server: Some("s3".to_owned()),
            agent: "K10ca::node:a9".to_owned(),
            agent_secret: "a9".to_owned(),
        }
    }

    fn composed(role: Role, user: &str) -> (serde_yaml::Mapping, Vec<String>) {
        let config = compose(&facts(role), &keys(user), Path::new("/data"), &tokens());
        match config.document {
            Value::Mapping(map) => (map, config.notices),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_without_any_key_of_its_user_has_all_it_needs() {
        let config = compose(
            &facts(Role::Server),
            &keys("{}"),
            Path::new("/data"),
            &tokens(),
        );
        assert_eq!(
            image_layout::yaml::render(&config.document),
            "advertise-address: \"192.168.0.2\"\nagent-token: \"a9\"\ndata-dir: \"/data\"\n\
             disable-default-registry-endpoint: true\nflannel-iface: \"eth0\"\n\
             node-ip: \"192.168.0.2\"\nnode-name: \"cp-1\"\nresolv-conf: \"/etc/resolv.conf\"\n\
             tls-san:\n  - \"192.168.0.2\"\n  - \"cp-1\"\n  - \"edge\"\n  - \"127.0.0.1\"\n  \
             - \"localhost\"\n  - \"registry.edge.example\"\ntoken: \"s3\"\n"
        );
        assert!(config.notices.is_empty());
    }

    #[test]
    fn an_agent_has_its_server_and_the_secure_token_and_no_key_of_servers() {
        let user = "{disable: [traefik], 'tls-san+': x, node-label: [a=b], v: 2}";
        let (map, notices) = composed(Role::Agent, user);
        assert_eq!(map["server"], "https://192.168.0.2:6443");
        assert_eq!(map["token"], "K10ca::node:a9");
        assert_eq!(map["node-label"], Value::from(vec!["a=b"]));
        assert_eq!(map["v"], 2);
        for key in ["disable", "tls-san", "agent-token", "advertise-address"] {
            assert!(!map.contains_key(key), "{key}");
        }
        assert_eq!(
            notices,
            ["under `k3s:`, what only servers know is left out on this agent: disable, tls-san"]
        );
    }

    #[test]
    fn what_the_user_set_stands_under_whatever_name() {
        let user = "{i: 10.0.0.9, node-name: me, flannel-iface: wg0, resolv-conf: /r, \
                    disable-default-registry-endpoint: false, tls-san: [a, cp-1]}";
        let (map, _) = composed(Role::Server, user);
        assert_eq!(map["node-ip"], "10.0.0.9");
        assert_eq!(map["node-name"], "me");
        assert_eq!(map["flannel-iface"], "wg0");
        assert_eq!(map["resolv-conf"], "/r");
        assert_eq!(map["disable-default-registry-endpoint"], false);
        let names = map["tls-san"].as_sequence().unwrap();
        assert_eq!(names.len(), 7, "joined, nothing twice: {names:?}");
        assert_eq!(names[0], "a");
        let (map, _) = composed(Role::Server, "{node-external-ip: 1.2.3.4}");
        assert!(!map.contains_key("advertise-address"));
        let (map, notices) = composed(Role::Server, "{node-ip: 10.0.0.9, with-node-id: true}");
        for key in ["advertise-address", "flannel-iface", "with-node-id"] {
            assert!(!map.contains_key(key), "{key}");
        }
        assert_eq!(notices.len(), 1, "{notices:?}");
        let (map, notices) = composed(Role::Server, "{l: /var/log/k3s.log}");
        assert!(!map.contains_key("log") && notices.len() == 1);
    }

    #[test]
    fn a_token_of_the_users_own_is_joined_by_none_of_ours() {
        for (role, user, token, file, agent_token) in [
            (Role::Server, "{t: x}", Some("x"), None, None),
            (Role::Server, "{token-file: /f}", None, Some("/f"), None),
            (
                Role::Server,
                "{agent-token: y}",
                Some("s3"),
                None,
                Some("y"),
            ),
            (
                Role::Server,
                "{agent-token-file: /f}",
                Some("s3"),
                None,
                None,
            ),
            (Role::Agent, "{cluster-secret: x}", Some("x"), None, None),
            (Role::Agent, "{token-file: /f}", None, Some("/f"), None),
            (
                Role::Agent,
                "{token: x, agent-token: y}",
                Some("y"),
                None,
                None,
            ),
            (
                Role::Agent,
                "{token: x, agent-token-file: /f}",
                None,
                Some("/f"),
                None,
            ),
        ] {
            let (map, notices) = composed(role, user);
            let text = |key: &str| map.get(key).and_then(Value::as_str);
            assert_eq!(text("token"), token, "{role} {user}");
            assert_eq!(text("token-file"), file, "{role} {user}");
            assert_eq!(text("agent-token"), agent_token, "{role} {user}");
            assert!(notices.is_empty(), "{notices:?}");
        }
    }

    #[test]
    fn the_host_of_an_address_is_found_with_and_without_a_port() {
        assert_eq!(host("registry.example:5000"), "registry.example");
        assert_eq!(host("10.0.0.1"), "10.0.0.1");
        assert_eq!(host("[fd00::1]:5000"), "fd00::1");
        assert_eq!(host("fd00::1"), "fd00::1");
    }
}
