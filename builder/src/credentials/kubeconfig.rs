//! The administrator's kubeconfig.
//!
//! Certificates and keys are in the file itself, so that it can be copied alone. The server's
//! certificate is checked against the first server's name and not its address: k3s puts that name
//! into it, and the file works through every address and port that leads there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use image_layout::cluster::{Cluster, Role};
use image_layout::yaml;
use serde_yaml::{Mapping, Value};

use super::Admin;
use super::error::CredentialsError;

/// k3s's default of `https-listen-port`.
const PORT: u16 = 6443;
/// The key of `k3s:` that moves it.
const PORT_KEY: &str = "https-listen-port";
/// A name that every API server's certificate has (k3s: pkg/daemons/control/deps
/// `genServerCerts`), for servers that name themselves.
const ANY_SERVER: &str = "kubernetes";

/// Where the API server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `https://ADDRESS:PORT`.
    pub url: String,
    /// The name in its certificate.
    pub name: String,
    /// Whether `url` is a guess that a person has to replace.
    pub guessed: bool,
}

impl Server {
    /// The first server of a `cluster.yaml`: its address, or its name where it asks a DHCP
    /// server.
    pub fn of(cluster: &Cluster) -> Server {
        let port = match cluster.k3s.get(PORT_KEY) {
            Some(Value::Number(number)) => number.as_u64().and_then(|port| port.try_into().ok()),
            Some(Value::String(text)) => text.trim().parse().ok(),
            _ => None,
        };
        let port: u16 = port.unwrap_or(PORT);
        let first = cluster.nodes.iter().find(|node| node.role == Role::Server);
        match first {
            Some(node) => Server {
                url: match node.address {
                    Some(cidr) => format!("https://{}:{port}", cidr.address),
                    None => format!("https://{}:{port}", node.name),
                },
                name: node.name.clone(),
                guessed: node.address.is_none(),
            },
            None => Server {
                url: format!("https://127.0.0.1:{port}"),
                name: ANY_SERVER.to_owned(),
                guessed: true,
            },
        }
    }
}

pub(super) fn render(cluster: &str, server: &Server, server_ca: &[u8], admin: &Admin) -> String {
    let user = format!("{cluster}-admin");
    yaml::render(&map([
        ("apiVersion", "v1".into()),
        ("kind", "Config".into()),
        (
            "clusters",
            Value::Sequence(vec![map([
                ("name", cluster.into()),
                (
                    "cluster",
                    map([
                        ("server", server.url.as_str().into()),
                        ("tls-server-name", server.name.as_str().into()),
                        (
                            "certificate-authority-data",
                            BASE64.encode(server_ca).into(),
                        ),
                    ]),
                ),
            ])]),
        ),
        (
            "users",
            Value::Sequence(vec![map([
                ("name", user.as_str().into()),
                (
                    "user",
                    map([
                        (
                            "client-certificate-data",
                            BASE64.encode(&admin.certificate).into(),
                        ),
                        ("client-key-data", BASE64.encode(&admin.key).into()),
                    ]),
                ),
            ])]),
        ),
        (
            "contexts",
            Value::Sequence(vec![map([
                ("name", cluster.into()),
                (
                    "context",
                    map([("cluster", cluster.into()), ("user", user.as_str().into())]),
                ),
            ])]),
        ),
        ("current-context", cluster.into()),
    ]))
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entries = entries.into_iter();
    Value::Mapping(
        entries
            .map(|(key, value)| (key.into(), value))
            .collect::<Mapping>(),
    )
}

/// The administrator's certificate and key out of a kubeconfig that [`render`] wrote.
pub(super) fn admin(text: &[u8]) -> Option<Admin> {
    let document: Value = serde_yaml::from_slice(text).ok()?;
    let user = document.get("users")?.get(0)?.get("user")?;
    let data = |key: &str| {
        let bytes = BASE64.decode(user.get(key)?.as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    Some(Admin {
        certificate: data("client-certificate-data")?,
        key: data("client-key-data")?,
    })
}

/// The text of a kubeconfig that [`render`] wrote.
///
/// # Errors
/// If it is another file: no UTF-8, or without one of the parts that [`render`] writes.
pub fn kubeconfig_text(bytes: Vec<u8>) -> Result<String, CredentialsError> {
    let text = String::from_utf8(bytes).map_err(|_| CredentialsError::NoKubeconfig)?;
    let has_parts = |document: Value| {
        let cluster = document.get("clusters")?.get(0)?.get("cluster")?;
        let parts = [
            document.get("current-context")?,
            cluster.get("server")?,
            cluster.get("certificate-authority-data")?,
        ];
        let is_one = document.get("kind")?.as_str()? == "Config";
        (is_one && parts.iter().all(|part| part.is_string())).then_some(())
    };
    let document = serde_yaml::from_str(&text).map_err(|_| CredentialsError::NoKubeconfig)?;
    match has_parts(document).and_then(|()| admin(text.as_bytes())) {
        Some(_) => Ok(text),
        None => Err(CredentialsError::NoKubeconfig),
    }
}

/// The same kubeconfig for a server at another address: `ADDRESS`, with or without `https://` and
/// port.
///
/// # Errors
/// If `text` is no kubeconfig with one cluster, or `address` can't be one.
pub fn with_server(text: &[u8], address: &str) -> Result<String, CredentialsError> {
    let mut document: Value =
        serde_yaml::from_slice(text).map_err(|_| CredentialsError::NoKubeconfig)?;
    let server = document
        .get_mut("clusters")
        .and_then(|clusters| clusters.get_mut(0))
        .and_then(|entry| entry.get_mut("cluster"))
        .and_then(|cluster| cluster.get_mut("server"))
        .ok_or(CredentialsError::NoKubeconfig)?;
    let port = server
        .as_str()
        .and_then(|url| url.rsplit_once(':'))
        .and_then(|(_, port)| port.parse().ok())
        .unwrap_or(PORT);
    *server = url(address, port)?.into();
    Ok(yaml::render(&document))
}

fn url(address: &str, default: u16) -> Result<String, CredentialsError> {
    let wrong = |why: &'static str| CredentialsError::Address {
        address: address.to_owned(),
        why,
    };
    let rest = address.strip_prefix("https://").unwrap_or(address);
    if rest.contains("://") {
        return Err(wrong("the API server speaks https alone"));
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    // an IPv6 address has colons of its own
    let bare = rest.parse::<std::net::Ipv6Addr>().is_ok();
    let (host, port) = match rest.rsplit_once(':') {
        _ if bare => (format!("[{rest}]"), None),
        Some((host, port)) if !rest.ends_with(']') => (host.to_owned(), Some(port)),
        _ => (rest.to_owned(), None),
    };
    let port = match port {
        None => default,
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| wrong("its port is no number from 1 to 65535"))?,
    };
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let good = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_name(&host) || host.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    match good {
        true => Ok(format!("https://{host}:{port}")),
        false => Err(wrong("it is neither a name nor an IP address")),
    }
}

/// Whether it is the name of a host. What ends with a number is an IPv4 address or nothing: that is
/// how kubectl and browsers read it.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    host.len() <= 253
        && host.split('.').all(is_label)
        && !host.rsplit('.').next().is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(rest: &str) -> Cluster {
        let text = format!("apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\n{rest}");
        image_layout::cluster::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_first_server_is_the_one_to_ask() {
        for (rest, url, name, guessed) in [
            (
                "nodes: [{name: w, match: {serial: A1}, role: agent}, \
                 {name: cp, match: any, role: server, address: 10.0.0.2/24}]",
                "https://10.0.0.2:6443",
                "cp",
                false,
            ),
            (
                "nodes: [{name: cp, match: any, role: server}]\nk3s: {https-listen-port: 8443}",
                "https://cp:8443",
                "cp",
                true,
            ),
            (
                "unmatched: {role: server}\nk3s: {https-listen-port: '7443'}",
                "https://127.0.0.1:7443",
                "kubernetes",
                true,
            ),
        ] {
            let wanted = Server {
                url: url.into(),
                name: name.into(),
                guessed,
            };
            assert_eq!(Server::of(&cluster(rest)), wanted);
        }
    }

    fn example(cluster: &str) -> String {
        let server = Server {
            url: "https://10.0.0.2:8443".into(),
            name: "cp".into(),
            guessed: false,
        };
        let admin = Admin {
            certificate: "certificate\n".into(),
            key: "key\n".into(),
        };
        render(cluster, &server, b"authority\n", &admin)
    }

    #[test]
    fn names_that_yaml_1_1_takes_for_something_else_are_quoted_everywhere() {
        for name in ["on", "y", "no", "1e3", "0x1"] {
            let text = example(name);
            assert_eq!(
                text.matches(&format!(": \"{name}\"\n")).count(),
                4,
                "{text}"
            );
            let value: Value = serde_yaml::from_str(&text).unwrap();
            assert_eq!(value["current-context"], name);
            assert_eq!(
                value["contexts"][0]["context"]["user"],
                format!("{name}-admin")
            );
            assert_eq!(value["clusters"][0]["cluster"]["tls-server-name"], "cp");
        }
    }

    #[test]
    fn the_administrator_is_read_back_as_written() {
        let admin = admin(example("edge").as_bytes()).unwrap();
        assert_eq!(
            (admin.certificate.as_str(), admin.key.as_str()),
            ("certificate\n", "key\n")
        );
        assert!(super::admin(b"{}").is_none());
    }

    #[test]
    fn a_kubeconfig_is_told_from_other_files() {
        let good = example("edge");
        let read = kubeconfig_text(good.clone().into_bytes());
        assert_eq!(read.unwrap(), good);
        for other in [
            Vec::new(),
            b"\xff".to_vec(),
            b"kind: Config\n".to_vec(),
            good.replace("\"Config\"", "\"Other\"").into_bytes(),
            good.replace("server:", "servers:").into_bytes(),
            good.replace("client-key-data", "client-key").into_bytes(),
            [good.as_bytes(), b"\xff"].concat(),
        ] {
            let read = kubeconfig_text(other);
            assert!(
                matches!(read, Err(CredentialsError::NoKubeconfig)),
                "{read:?}"
            );
        }
    }

    #[test]
    fn another_server_is_taken_in_every_spelling() {
        for (address, url) in [
            ("192.168.0.9", "https://192.168.0.9:8443"),
            ("192.168.0.9:7000", "https://192.168.0.9:7000"),
            ("https://127.0.0.1:16443", "https://127.0.0.1:16443"),
            ("https://cp-1.lan/", "https://cp-1.lan:8443"),
            ("fd00::2", "https://[fd00::2]:8443"),
            ("[fd00::2]:6443", "https://[fd00::2]:6443"),
            ("[fd00::2]", "https://[fd00::2]:8443"),
            ("1a.2b", "https://1a.2b:8443"),
        ] {
            let text = with_server(example("edge").as_bytes(), address).unwrap();
            assert!(text.contains(&format!("server: \"{url}\"\n")), "{text}");
            assert_eq!(text.lines().count(), example("edge").lines().count());
        }
        for address in [
            "",
            "http://a",
            "a b",
            "a:0",
            "a:x",
            "a:70000",
            "a\nb",
            ":6443",
            "[a]:1",
            "a..b",
            ".a",
            "a.",
            "-a",
            "a-.b",
            "a.-b",
            "10.0.0",
            "10.0.0.256",
            "cp.1",
            "10.0.0.2.3:6443",
        ] {
            let refused = with_server(example("edge").as_bytes(), address);
            assert!(
                matches!(refused, Err(CredentialsError::Address { .. })),
                "{address:?}"
            );
        }
        assert!(matches!(
            with_server(b"kind: Config", "a"),
            Err(CredentialsError::NoKubeconfig)
        ));
    }
}
