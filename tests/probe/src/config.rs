//! `config.yaml` by k3s's rules (k3s: pkg/configfilearg, pkg/cli/cmds).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_yaml::Value;

/// Where k3s looks.
pub const CONFIG: &str = "/etc/rancher/k3s/config.yaml";
/// The data directory unless it is configured.
pub const DATA_DIR: &str = "/var/lib/rancher/k3s";

/// `k3s server` or `k3s agent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Control plane, and a node itself.
    Server,
    /// A node.
    Agent,
}

impl Role {
    /// The word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Agent => "agent",
        }
    }
}

/// What both commands know (k3s: pkg/cli/cmds/agent.go).
const AGENT_KEYS: &str = "config c debug v vmodule log l alsologtostderr token t token-file server s \
    data-dir d node-name with-node-id node-label node-taint image-credential-provider-bin-dir \
    image-credential-provider-config selinux lb-server-port protect-kernel-defaults \
    container-runtime-endpoint default-runtime image-service-endpoint pause-image snapshotter \
    private-registry disable-default-registry-endpoint airgap-extra-registry node-ip i \
    node-external-ip node-internal-dns node-external-dns bind-address resolv-conf flannel-iface \
    flannel-conf flannel-cni-conf kubelet-arg kube-proxy-arg rootless prefer-bundled-bin \
    nonroot-devices enable-pprof disable-apiserver-lb disable-selinux docker no-flannel \
    cluster-secret vpn-auth vpn-auth-file";

/// What the server knows besides (k3s: pkg/cli/cmds/server.go).
const SERVER_KEYS: &str = "https-listen-port advertise-address advertise-port tls-san \
    tls-san-security cluster-cidr service-cidr service-node-port-range cluster-dns cluster-domain \
    flannel-backend flannel-ipv6-masq flannel-external-ip egress-selector-mode servicelb-namespace \
    write-kubeconfig o write-kubeconfig-mode write-kubeconfig-group write-kubeconfig-name \
    helm-job-image helm-controller-arg agent-token agent-token-file cluster-init cluster-reset \
    cluster-reset-restore-path kube-apiserver-arg etcd-arg kube-controller-manager-arg \
    kube-scheduler-arg kube-cloud-controller-manager-arg kine-tls datastore-endpoint \
    datastore-cafile datastore-certfile datastore-keyfile etcd-expose-metrics \
    etcd-disable-snapshots etcd-snapshot-name etcd-snapshot-schedule-cron etcd-snapshot-retention \
    etcd-snapshot-reconcile-interval etcd-snapshot-dir etcd-snapshot-compress etcd-s3 \
    etcd-s3-endpoint etcd-s3-endpoint-ca etcd-s3-skip-ssl-verify etcd-s3-access-key \
    etcd-s3-secret-key etcd-s3-session-token etcd-s3-bucket etcd-s3-bucket-lookup-type \
    etcd-s3-region etcd-s3-folder etcd-s3-proxy etcd-s3-config-secret etcd-s3-insecure \
    etcd-s3-timeout etcd-s3-retention default-local-storage-path disable disable-agent \
    disable-apiserver disable-controller-manager disable-etcd disable-scheduler \
    disable-cloud-controller disable-kube-proxy disable-network-policy disable-helm-controller \
    embedded-registry supervisor-metrics secrets-encryption secrets-encryption-provider \
    system-default-registry no-deploy";

/// The settings that k3s would run with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    values: BTreeMap<String, Vec<String>>,
}

/// What k3s says of a configuration that it does not run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The file can't be read or is no YAML mapping.
    Unreadable(String),
    /// `k3s agent` passes every key on as a flag.
    UnknownFlag(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Unreadable(why) => f.write_str(why),
            Refusal::UnknownFlag(key) => write!(f, "flag provided but not defined: -{key}"),
        }
    }
}

impl Config {
    /// Reads the file's text for one role. Gives the settings and warnings: a server skips keys
    /// that it does not know.
    pub fn parse(text: &str, role: Role) -> Result<(Config, Vec<String>), Refusal> {
        let value: Value =
            serde_yaml::from_str(text).map_err(|error| Refusal::Unreadable(error.to_string()))?;
        let mapping = match value {
            Value::Null => serde_yaml::Mapping::new(),
            Value::Mapping(mapping) => mapping,
            _ => return Err(Refusal::Unreadable("it is no mapping".to_owned())),
        };
        let mut config = Config::default();
        let mut warnings = Vec::new();
        for (key, value) in mapping {
            let Some(key) = scalar(&key) else {
                return Err(Refusal::Unreadable(format!("{key:?} is no key")));
            };
            let key = key.strip_suffix('+').unwrap_or(&key).to_owned();
            if !knows(role, &key) {
                match role {
                    Role::Agent => return Err(Refusal::UnknownFlag(key)),
                    Role::Server => {
                        warnings.push(format!(
                            "Unknown flag --{key} found in config.yaml, skipping"
                        ));
                        continue;
                    }
                }
            }
            let values = match value {
                Value::Sequence(items) => items.iter().filter_map(scalar).collect(),
                one => scalar(&one).into_iter().collect(),
            };
            config.values.insert(key, values);
        }
        Ok((config, warnings))
    }

    /// Reads the file, with an absent one as an empty one.
    pub fn read(path: &Path, role: Role) -> Result<(Config, Vec<String>), Refusal> {
        match std::fs::read_to_string(path) {
            Ok(text) => Config::parse(&text, role),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Default::default()),
            Err(error) => Err(Refusal::Unreadable(error.to_string())),
        }
    }

    /// The last value of a key, as a flag that is given twice has its last one.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.last().map(String::as_str)
    }

    /// Every value of a key.
    pub fn all(&self, key: &str) -> &[String] {
        self.values.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether a flag is switched on.
    pub fn is_set(&self, key: &str) -> bool {
        self.get(key) == Some("true")
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        PathBuf::from(self.get("data-dir").unwrap_or(DATA_DIR))
    }

    /// The token: written out, or in a file.
    pub fn token(&self) -> Result<Option<String>, String> {
        self.secret("token", "token-file")
    }

    /// The agents' token: written out, or in a file.
    pub fn agent_token(&self) -> Result<Option<String>, String> {
        self.secret("agent-token", "agent-token-file")
    }

    fn secret(&self, key: &str, file: &str) -> Result<Option<String>, String> {
        if let Some(token) = self.get(key) {
            return Ok(Some(token.to_owned()));
        }
        match self.get(file) {
            None => Ok(None),
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(Some(text.trim().to_owned())),
                Err(error) => Err(format!("open {path}: {error}")),
            },
        }
    }
}

fn knows(role: Role, key: &str) -> bool {
    let has = |keys: &str| keys.split_whitespace().any(|known| known == key);
    has(AGENT_KEYS) || (role == Role::Server && has(SERVER_KEYS))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(on) => Some(on.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null => Some(String::new()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_refuses_what_only_servers_know_in_k3s_words() {
        let text = "server: https://10.0.0.1:6443\ndisable: [traefik]\n";
        let why = Config::parse(text, Role::Agent).unwrap_err();
        assert_eq!(why.to_string(), "flag provided but not defined: -disable");
        assert!(Config::parse(text, Role::Server).is_ok());
    }

    #[test]
    fn a_server_skips_what_it_does_not_know_and_says_so() {
        let (config, warnings) =
            Config::parse("speed: 3\nnode-name: n1\ntls-san: [a, b]\n", Role::Server).unwrap();
        assert_eq!(
            warnings,
            ["Unknown flag --speed found in config.yaml, skipping"]
        );
        assert_eq!(config.get("node-name"), Some("n1"));
        assert_eq!(config.all("tls-san"), ["a", "b"]);
        assert_eq!(config.get("speed"), None);
    }

    #[test]
    fn every_scalar_is_a_flag_s_value_and_a_plus_appends() {
        let (config, _) = Config::parse(
            "disable-default-registry-endpoint: true\nlb-server-port: 7000\nnode-label+: [a=b]\n",
            Role::Agent,
        )
        .unwrap();
        assert!(config.is_set("disable-default-registry-endpoint"));
        assert_eq!(config.get("lb-server-port"), Some("7000"));
        assert_eq!(config.all("node-label"), ["a=b"]);
        assert_eq!(config.data_dir(), Path::new(DATA_DIR));
    }

    #[test]
    fn a_token_in_a_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "abc\n").unwrap();
        let text = format!("token-file: {}\n", file.display());
        let (config, _) = Config::parse(&text, Role::Agent).unwrap();
        assert_eq!(config.token(), Ok(Some("abc".to_owned())));
        let (config, _) = Config::parse("token-file: /nowhere/token\n", Role::Agent).unwrap();
        assert!(config.token().is_err());
    }
}
