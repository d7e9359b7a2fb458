//! The cluster's secrets, from HAUL to where k3s looks for them.

use std::io::ErrorKind;
use std::path::Path;

use image_layout::cluster::Role;
use image_layout::paths::{haul, secrets};
use image_layout::secrets::node_password;

use super::write::{below, directory, failed, put};
use super::{Facts, FilesError};
use crate::node::read_bounded;

/// Bytes of one secret; a chain of certificates has some kilobytes.
const SECRET_BYTES: u64 = 256 << 10;
/// Where k3s keeps the node's password (k3s: pkg/agent/config, nodePasswordFile).
const PASSWORD: &str = "etc/rancher/node/password";

/// What this node proves with that it belongs to the cluster.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Tokens {
    /// The secret of the servers' token; on servers only.
    pub(super) server: Option<String>,
    /// The agents' token in the secure form.
    pub(super) agent: String,
    /// The secret in it.
    pub(super) agent_secret: String,
}

/// Says nothing of them: they would end up in a log.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

/// Reads the tokens and lays down the node's password and, on servers, the authorities.
pub(super) fn lay_down(
    root: &Path,
    on_haul: &Path,
    facts: &Facts,
    data_dir: &Path,
) -> Result<Tokens, FilesError> {
    let from = on_haul.join(haul::SECRETS);
    let Some(cluster_secret) = read(&from, secrets::CLUSTER_SECRET)? else {
        return Err(FilesError::NoSecrets);
    };
    let agent = read(&from, secrets::AGENT_TOKEN)?.ok_or(FilesError::NoSecrets)?;
    let agent = line(agent, secrets::AGENT_TOKEN)?;
    let server = match facts.role {
        Role::Server => {
            let token = read(&from, secrets::SERVER_TOKEN)?.ok_or_else(|| agents_only(facts))?;
            let token = line(token, secrets::SERVER_TOKEN)?;
            authorities(
                &from.join(secrets::TLS),
                &below(root, data_dir),
                facts,
                data_dir,
            )?;
            Some(secret_of(&token, secrets::SERVER_TOKEN)?)
        }
        Role::Agent | Role::Registry => None,
    };
    let cluster_secret = line(cluster_secret, secrets::CLUSTER_SECRET)?;
    let path = below(root, Path::new(PASSWORD));
    if let Some(parent) = path.parent() {
        directory(parent, 0o755)?;
    }
    let password = format!("{}\n", node_password(&cluster_secret, &facts.name));
    put(&path, password.as_bytes())?;
    Ok(Tokens {
        server,
        agent_secret: secret_of(&agent, secrets::AGENT_TOKEN)?,
        agent,
    })
}

/// Lays down the authorities. Those of an earlier boot are left if they are the same, and never
/// replaced by others: everything in k3s's database was signed by them.
fn authorities(
    from: &Path,
    data_dir: &Path,
    facts: &Facts,
    shown: &Path,
) -> Result<(), FilesError> {
    let to = data_dir.join("server/tls");
    let mut files = Vec::new();
    for name in secrets::TLS_FILES {
        let contents = read(from, name)?.ok_or_else(|| agents_only(facts))?;
        let path = to.join(name);
        let old = match read_bounded(&path, SECRET_BYTES) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed("reading", &path)(error)),
        };
        if name.ends_with(".crt") && old.as_ref().is_some_and(|old| *old != contents) {
            return Err(FilesError::OtherCluster {
                data_dir: shown.to_owned(),
                file: name,
            });
        }
        // k3s adds keys to it when they are rotated
        if name == "service.key" && old.is_some_and(|old| !old.is_empty()) {
            continue;
        }
        files.push((path, contents));
    }
    directory(data_dir, 0o755)?;
    directory(&to.join("etcd"), 0o700)?;
    for (path, contents) in files {
        put(&path, &contents)?;
    }
    Ok(())
}

fn agents_only(facts: &Facts) -> FilesError {
    FilesError::AgentsOnly {
        name: facts.name.clone(),
    }
}

/// A secret, or none if there is no such file.
fn read(directory: &Path, name: &str) -> Result<Option<Vec<u8>>, FilesError> {
    let path = directory.join(name);
    match read_bounded(&path, SECRET_BYTES) {
        Ok(contents) if contents.is_empty() => Err(damaged(name)),
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("reading", &path)(error)),
    }
}

/// A secret of one line.
fn line(contents: Vec<u8>, name: &str) -> Result<String, FilesError> {
    let text = String::from_utf8(contents).map_err(|_| damaged(name))?;
    let text = text.trim();
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    match good {
        true => Ok(text.to_owned()),
        false => Err(damaged(name)),
    }
}

/// What stands behind the user's name in `K10HASH::USER:SECRET` (k3s: pkg/clientaccess).
fn secret_of(token: &str, name: &str) -> Result<String, FilesError> {
    let secret = token
        .strip_prefix("K10")
        .and_then(|token| token.split_once("::"))
        .and_then(|(_, credentials)| credentials.split_once(':'))
        .map(|(_, secret)| secret)
        .filter(|secret| !secret.is_empty());
    secret.map(str::to_owned).ok_or_else(|| damaged(name))
}

fn damaged(file: &str) -> FilesError {
    FilesError::Damaged {
        file: file.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::super::tests::facts;
    use super::*;

    /// Secrets as the builder lays them down.
    pub(in crate::node::cluster::files) fn secrets_on(on_haul: &Path, agents_only: bool) {
        let dir = on_haul.join(haul::SECRETS);
        fs::create_dir_all(dir.join("tls/etcd")).unwrap();
        fs::write(dir.join(secrets::CLUSTER_SECRET), "c1\n").unwrap();
        fs::write(dir.join(secrets::AGENT_TOKEN), "K10ca::node:a9\n").unwrap();
        if agents_only {
            fs::write(dir.join("tls/server-ca.crt"), "server-ca.crt").unwrap();
            return;
        }
        fs::write(dir.join(secrets::SERVER_TOKEN), "K10ca::server:s3\n").unwrap();
        for name in secrets::TLS_FILES {
            fs::write(dir.join("tls").join(name), name).unwrap();
        }
    }

    fn on_a_node(agents_only: bool) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let on_haul = root.path().join("haul");
        secrets_on(&on_haul, agents_only);
        (root, on_haul)
    }

    fn lay(root: &Path, on_haul: &Path, role: Role) -> Result<Tokens, FilesError> {
        lay_down(root, on_haul, &facts(role), Path::new("/data"))
    }

    #[test]
    fn a_server_gets_its_authorities_its_password_and_bare_secrets() {
        let (root, on_haul) = on_a_node(false);
        let tokens = lay(root.path(), &on_haul, Role::Server).unwrap();
        assert_eq!(tokens.server.as_deref(), Some("s3"));
        assert_eq!(tokens.agent_secret, "a9");
        assert_eq!(tokens.agent, "K10ca::node:a9");
        let mode = |path: &str| {
            let path = root.path().join(path);
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode("data"), 0o755);
        assert_eq!(mode("data/server"), 0o700);
        assert_eq!(mode("data/server/tls/etcd"), 0o700);
        assert_eq!(mode("data/server/tls/etcd/peer-ca.key"), 0o600);
        assert_eq!(mode("etc/rancher/node"), 0o755);
        assert_eq!(mode("etc/rancher/node/password"), 0o600);
        let password = fs::read_to_string(root.path().join(PASSWORD)).unwrap();
        assert_eq!(password.trim(), node_password("c1", "cp-1"));
    }

    #[test]
    fn an_agent_gets_no_authority() {
        let (root, on_haul) = on_a_node(true);
        assert_eq!(
            lay(root.path(), &on_haul, Role::Agent).unwrap().server,
            None
        );
        assert!(!root.path().join("data").exists());
        assert!(root.path().join(PASSWORD).exists());
    }

    #[test]
    fn a_stick_without_what_a_server_needs_is_told_apart() {
        let (root, on_haul) = on_a_node(true);
        let error = lay(root.path(), &on_haul, Role::Server).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this stick is for agents, and cp-1 is a server"
        );
        let empty = root.path().join("empty");
        let error = lay(root.path(), &empty, Role::Server).unwrap_err();
        assert!(matches!(error, FilesError::NoSecrets));
        fs::write(on_haul.join("secrets/agent-token"), "a9\n").unwrap();
        let error = lay(root.path(), &on_haul, Role::Agent).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the file secrets/agent-token on this stick is damaged"
        );
    }

    #[test]
    fn a_disk_of_another_cluster_is_left_as_it_is() {
        let (root, on_haul) = on_a_node(false);
        lay(root.path(), &on_haul, Role::Server).unwrap();
        // the same again, after k3s added a key
        let service = root.path().join("data/server/tls/service.key");
        fs::write(&service, "service.key and one more").unwrap();
        lay(root.path(), &on_haul, Role::Server).unwrap();
        assert_eq!(
            fs::read_to_string(&service).unwrap(),
            "service.key and one more"
        );
        let other = root.path().join("data/server/tls/client-ca.crt");
        fs::write(&other, "another").unwrap();
        fs::remove_file(root.path().join("data/server/tls/client-ca.key")).unwrap();
        let error = lay(root.path(), &on_haul, Role::Server).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the data in /data belong to another cluster: its client-ca.crt is another one"
        );
        assert!(error.problem().mend.contains("wipe: true"));
        assert_eq!(fs::read_to_string(&other).unwrap(), "another");
        assert!(!root.path().join("data/server/tls/client-ca.key").exists());
    }
}
