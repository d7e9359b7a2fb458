//! Every file for every runtime, read back by the schema of the runtime it is for: a key that the
//! runtime does not know is an error here.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::auth::{BASIC, PASSWORD, USER};
use super::*;

const CA: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
const AUTHORITY: &str = "192.168.0.2:5000";

fn hosts() -> Vec<Host> {
    ["10.0.0.1:5000", "docker.io", "quay.io"]
        .map(|host| host.parse().unwrap())
        .to_vec()
}

fn endpoint(scheme: Scheme, users: bool) -> Endpoint {
    Endpoint {
        scheme,
        authority: AUTHORITY.parse().unwrap(),
        ca_pem: (scheme == Scheme::Https).then(|| CA.to_owned()),
        users,
    }
}

/// Every transport with every runtime.
fn each(runtimes: &[Runtime], test: impl Fn(Runtime, &Endpoint, &Files)) {
    for &runtime in runtimes {
        for scheme in [Scheme::Http, Scheme::Https] {
            for users in [false, true] {
                let endpoint = endpoint(scheme, users);
                let mirror = write(runtime, &endpoint, &hosts());
                test(runtime, &endpoint, &Files::of(mirror));
            }
        }
    }
}

/// Files by path.
struct Files(BTreeMap<String, MirrorFile>);

impl Files {
    fn of(mirror: Mirror) -> Files {
        let by_path = |file: MirrorFile| (file.path.clone(), file);
        Files(mirror.files.into_iter().map(by_path).collect())
    }

    fn text(&self, path: &str) -> &str {
        let known = || self.0.keys().collect::<Vec<_>>();
        &self
            .0
            .get(path)
            .unwrap_or_else(|| panic!("{path} is none of {:?}", known()))
            .contents
    }

    fn toml<T: DeserializeOwned>(&self, path: &str) -> T {
        toml::from_str(self.text(path)).unwrap()
    }

    fn yaml<T: DeserializeOwned>(&self, path: &str) -> T {
        serde_yaml::from_str(self.text(path)).unwrap()
    }

    /// The CA is there where there is TLS and nowhere else.
    fn check_ca(&self, endpoint: &Endpoint, path: &str) {
        match &endpoint.ca_pem {
            Some(ca) => assert_eq!(self.text(path), ca),
            None => assert!(!self.0.contains_key(path)),
        }
    }

    /// The log-ins in a file of Docker's form: where one is needed, for these servers.
    fn check_logins(&self, endpoint: &Endpoint, path: &str, servers: &[&str]) {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Logins {
            auths: BTreeMap<String, Login>,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Login {
            auth: String,
        }
        if !endpoint.users {
            assert!(!self.0.contains_key(path));
            return;
        }
        let logins: Logins = serde_json::from_str(self.text(path)).unwrap();
        let known: BTreeSet<&str> = logins.auths.keys().map(String::as_str).collect();
        assert_eq!(known, servers.iter().copied().collect());
        assert!(logins.auths.values().all(|login| login.auth == BASIC));
        assert!(self.0[path].private);
    }
}

#[test]
fn containerd_asks_this_registry_for_everything_and_nobody_else() {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct HostsToml {
        server: String,
        capabilities: Vec<String>,
        ca: Option<String>,
        header: Option<BTreeMap<String, Vec<String>>>,
        host: BTreeMap<String, HostToml>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct HostToml {
        capabilities: Vec<String>,
        ca: Option<String>,
        header: Option<BTreeMap<String, Vec<String>>>,
    }
    each(&[Runtime::Containerd], |_, endpoint, files| {
        let directory = "/etc/containerd/certs.d/_default";
        let hosts: HostsToml = files.toml(&format!("{directory}/hosts.toml"));
        assert_eq!(hosts.server, endpoint.url());
        let (url, host) = hosts.host.first_key_value().unwrap();
        assert_eq!((url, hosts.host.len()), (&endpoint.url(), 1));
        let tls = endpoint.scheme == Scheme::Https;
        for (capabilities, ca, header) in [
            (&hosts.capabilities, &hosts.ca, &hosts.header),
            (&host.capabilities, &host.ca, &host.header),
        ] {
            assert_eq!(*capabilities, ["pull", "resolve"]);
            assert_eq!(ca.as_deref(), tls.then_some("ca.crt"));
            let expected = ("authorization".to_owned(), vec![format!("Basic {BASIC}")]);
            let expected = endpoint.users.then(|| BTreeMap::from([expected]));
            assert_eq!(*header, expected);
        }
        files.check_ca(endpoint, &format!("{directory}/ca.crt"));
    });
}

#[test]
fn k3s_and_rke2_ask_this_registry_for_each_host_and_any_other_without_fallback() {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Registries {
        mirrors: BTreeMap<String, Endpoints>,
        #[serde(default)]
        configs: BTreeMap<String, Config>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Endpoints {
        endpoint: Vec<String>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        auth: Option<Auth>,
        tls: Option<Tls>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tls {
        ca_file: String,
    }
    each(
        &[Runtime::K3s, Runtime::Rke2],
        |runtime, endpoint, files| {
            let directory = format!("/etc/rancher/{runtime}");
            let registries: Registries = files.yaml(&format!("{directory}/registries.yaml"));
            let named: Vec<_> = registries.mirrors.keys().map(String::as_str).collect();
            assert_eq!(named, ["*", "10.0.0.1:5000", "docker.io", "quay.io"]);
            for mirror in registries.mirrors.values() {
                assert_eq!(mirror.endpoint, [endpoint.url()]);
            }
            let ca_file = format!("{directory}/haulboot-ca.crt");
            let config = registries.configs.get(AUTHORITY);
            assert_eq!(registries.configs.len(), usize::from(config.is_some()));
            let auth = config.and_then(|config| config.auth.as_ref());
            assert_eq!(auth.is_some(), endpoint.users);
            if let Some(auth) = auth {
                auth.check();
            }
            let tls = config.and_then(|config| config.tls.as_ref());
            let expected = endpoint.ca_pem.as_ref().map(|_| &ca_file);
            assert_eq!(tls.map(|tls| &tls.ca_file), expected);
            files.check_ca(endpoint, &ca_file);
            assert_eq!(
                files.text(&format!("{directory}/config.yaml.d/haulboot.yaml")),
                "disable-default-registry-endpoint: true\n"
            );
        },
    );
}

/// A user's name and password as k3s and Talos write them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    username: String,
    password: String,
}

impl Auth {
    fn check(&self) {
        assert_eq!(
            (self.username.as_str(), self.password.as_str()),
            (USER, PASSWORD)
        );
    }
}

#[test]
fn podman_and_cri_o_have_a_block_for_each_host_with_the_host_in_its_location() {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Conf {
        registry: Vec<Block>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Block {
        prefix: String,
        location: String,
        #[serde(default)]
        insecure: bool,
    }
    each(
        &[Runtime::Podman, Runtime::CriO],
        |runtime, endpoint, files| {
            let conf: Conf = files.toml("/etc/containers/registries.conf.d/50-haulboot.conf");
            let blocks: Vec<_> = conf
                .registry
                .iter()
                .map(|block| (block.prefix.as_str(), block.location.as_str()))
                .collect();
            assert_eq!(
                blocks,
                [
                    ("10.0.0.1:5000", "192.168.0.2:5000/10.0.0.1_5000"),
                    ("docker.io", "192.168.0.2:5000/docker.io"),
                    ("quay.io", "192.168.0.2:5000/quay.io"),
                ]
            );
            let insecure = endpoint.scheme == Scheme::Http;
            assert!(conf.registry.iter().all(|block| block.insecure == insecure));
            files.check_ca(endpoint, "/etc/containers/certs.d/192.168.0.2:5000/ca.crt");
            let logins = match runtime {
                Runtime::Podman => "/root/.config/containers/auth.json",
                _ => "/etc/crio/haulboot-auth.json",
            };
            files.check_logins(endpoint, logins, &[AUTHORITY]);
            if runtime == Runtime::CriO && endpoint.users {
                let conf: toml::Table = files.toml("/etc/crio/crio.conf.d/50-haulboot.conf");
                let file = conf["crio"]["image"]["global_auth_file"].as_str();
                assert_eq!(file, Some(logins));
            }
        },
    );
}

#[test]
fn docker_has_this_registry_as_a_mirror_of_docker_hub_and_is_told_what_to_write_for_others() {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Daemon {
        registry_mirrors: Vec<String>,
        #[serde(default)]
        insecure_registries: Vec<String>,
    }
    each(&[Runtime::Docker], |_, endpoint, files| {
        let daemon: Daemon = serde_json::from_str(files.text("/etc/docker/daemon.json")).unwrap();
        assert_eq!(daemon.registry_mirrors, [endpoint.url()]);
        let insecure: &[&str] = match endpoint.scheme {
            Scheme::Http => &[AUTHORITY],
            Scheme::Https => &[],
        };
        assert_eq!(daemon.insecure_registries, insecure);
        files.check_ca(endpoint, "/etc/docker/certs.d/192.168.0.2:5000/ca.crt");
        let servers = ["https://index.docker.io/v1/", AUTHORITY];
        files.check_logins(endpoint, "/root/.docker/config.json", &servers);
    });
    let mirror = write(Runtime::Docker, &endpoint(Scheme::Http, false), &hosts());
    let notes = mirror.notes.join("\n");
    assert!(
        notes.contains("docker pull 192.168.0.2:5000/quay.io/NAME"),
        "{notes}"
    );
    assert!(!notes.contains("5000/docker.io/NAME"), "{notes}");
}

#[test]
fn talos_gets_documents_for_1_12_and_one_configuration_for_earlier_ones() {
    #[derive(Deserialize)]
    #[serde(tag = "kind", deny_unknown_fields)]
    enum Document {
        #[serde(rename = "RegistryMirrorConfig", rename_all = "camelCase")]
        Mirror {
            api_version: String,
            name: String,
            endpoints: Vec<BTreeMap<String, String>>,
            skip_fallback: bool,
        },
        #[serde(rename = "RegistryTLSConfig", rename_all = "camelCase")]
        Tls {
            api_version: String,
            name: String,
            ca: String,
        },
        #[serde(rename = "RegistryAuthConfig", rename_all = "camelCase")]
        Auth {
            api_version: String,
            name: String,
            username: String,
            password: String,
        },
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        machine: Machine,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Machine {
        registries: Registries,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Registries {
        mirrors: BTreeMap<String, Endpoints>,
        #[serde(default)]
        config: BTreeMap<String, HostConfig>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Endpoints {
        endpoints: Vec<String>,
        skip_fallback: bool,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct HostConfig {
        tls: Option<BTreeMap<String, String>>,
        auth: Option<Auth>,
    }
    each(&[Runtime::Talos], |_, endpoint, files| {
        let (mut mirrors, mut authorities, mut users) = (0, 0, 0);
        for document in serde_yaml::Deserializer::from_str(files.text("talos-1.12.yaml")) {
            let version = match Document::deserialize(document).unwrap() {
                Document::Mirror {
                    api_version,
                    name,
                    endpoints,
                    skip_fallback,
                } => {
                    let url = BTreeMap::from([("url".to_owned(), endpoint.url())]);
                    assert_eq!((name.as_str(), endpoints), ("*", vec![url]));
                    assert!(skip_fallback);
                    mirrors += 1;
                    api_version
                }
                Document::Tls {
                    api_version,
                    name,
                    ca,
                } => {
                    assert_eq!((name.as_str(), ca.as_str()), (AUTHORITY, CA));
                    authorities += 1;
                    api_version
                }
                Document::Auth {
                    api_version,
                    name,
                    username,
                    password,
                } => {
                    assert_eq!(name, AUTHORITY);
                    Auth { username, password }.check();
                    users += 1;
                    api_version
                }
            };
            assert_eq!(version, "v1alpha1");
        }
        let tls = endpoint.scheme == Scheme::Https;
        assert_eq!(
            (mirrors, authorities, users),
            (1, usize::from(tls), usize::from(endpoint.users))
        );

        let before: Config = files.yaml("talos-before-1.12.yaml");
        let Registries { mirrors, config } = before.machine.registries;
        let (name, mirror) = mirrors.first_key_value().unwrap();
        assert_eq!((name.as_str(), mirrors.len()), ("*", 1));
        assert_eq!(mirror.endpoints, [endpoint.url()]);
        assert!(mirror.skip_fallback);
        let host = config.get(AUTHORITY);
        assert_eq!(config.len(), usize::from(tls || endpoint.users));
        let ca = host.and_then(|host| Some(host.tls.as_ref()?["ca"].clone()));
        assert_eq!(ca, tls.then(|| STANDARD.encode(CA)));
        if let Some(auth) = host.and_then(|host| host.auth.as_ref()) {
            auth.check();
        }
        assert_eq!(host.is_some_and(|host| host.auth.is_some()), endpoint.users);
    });
}

#[test]
fn no_file_skips_the_check_of_a_certificate_and_none_with_a_password_is_open() {
    each(&Runtime::ALL, |runtime, _, files| {
        for file in files.0.values() {
            let text = &file.contents;
            assert!(!text.contains("skip_verify"), "{runtime}: {text}");
            assert!(!text.contains("insecureSkipVerify"), "{runtime}: {text}");
            let password = [USER, PASSWORD, BASIC]
                .iter()
                .any(|word| text.contains(word));
            assert_eq!(file.private, password, "{runtime}: {}", file.path);
            assert_eq!(file.mode(), if password { 0o600 } else { 0o644 });
            assert!(text.ends_with('\n'), "{runtime}: {}", file.path);
        }
    });
}

#[test]
fn a_person_who_asked_from_the_machine_itself_is_told_that_others_have_another_address() {
    let endpoint: Endpoint = "http://127.0.0.1:5000".parse().unwrap();
    for runtime in Runtime::ALL {
        let notes = write(runtime, &endpoint, &hosts()).notes.join("\n");
        assert!(
            notes.contains("127.0.0.1:5000 is the machine itself"),
            "{notes}"
        );
    }
}

#[test]
fn a_host_that_no_path_can_name_is_said_and_left_out() {
    let hosts: Vec<Host> = ["[fd00::1]:5000", "quay.io"]
        .map(|host| host.parse().unwrap())
        .to_vec();
    let mirror = write(Runtime::Podman, &endpoint(Scheme::Http, false), &hosts);
    assert_eq!(mirror.files[0].contents.matches("[[registry]]").count(), 1);
    assert!(mirror.notes.join("\n").contains("[fd00::1]:5000"));
}

#[test]
fn a_tree_has_each_file_with_its_permissions_and_a_second_run_replaces_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    for users in [true, false, true] {
        let mirror = write(Runtime::K3s, &endpoint(Scheme::Https, users), &hosts());
        let written = tree::write(&mirror, directory.path()).unwrap();
        assert_eq!(written.len(), mirror.files.len());
        for (file, path) in mirror.files.iter().zip(written) {
            assert_eq!(path, directory.path().join(file.relative()));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), file.contents);
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, file.mode());
        }
    }
}

proptest! {
    /// A CA is whatever file the person named.
    #[test]
    fn any_text_of_a_ca_comes_back_out_of_yaml(ca in "\\PC{0,200}|[ -~\n]{0,200}") {
        let endpoint = Endpoint { ca_pem: Some(ca.clone()), ..endpoint(Scheme::Https, true) };
        let files = Files::of(write(Runtime::Talos, &endpoint, &[]));
        let tls = serde_yaml::Deserializer::from_str(files.text("talos-1.12.yaml")).nth(1).unwrap();
        let tls = BTreeMap::<String, String>::deserialize(tls).unwrap();
        prop_assert_eq!(&tls["ca"], &ca);
    }
}

#[test]
fn clients_that_know_no_address_of_ipv6_get_no_registry_and_learn_why() {
    for runtime in [Runtime::Podman, Runtime::CriO] {
        let endpoint = Endpoint {
            authority: "[fd00::2]:5000".parse().unwrap(),
            ..endpoint(Scheme::Http, false)
        };
        let mirror = write(runtime, &endpoint, &hosts());
        let notes = mirror.notes.join("\n");
        assert!(notes.contains("address of IPv6"), "{notes}");
        let files = Files::of(mirror);
        let conf = files.text("/etc/containers/registries.conf.d/50-haulboot.conf");
        assert!(!conf.contains("location"), "{conf}");
    }
}
