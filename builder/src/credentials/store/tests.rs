//! Tests of the directory of credentials.

use super::*;

fn server() -> Server {
    Server {
        url: "https://10.0.0.2:6443".into(),
        name: "cp-1".into(),
        guessed: false,
    }
}

/// A directory with credentials in it, as `save` leaves it.
fn saved() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a.img.credentials");
    let placed = open(&directory).unwrap();
    let kept = placed.save("edge", server(), None).unwrap();
    assert_eq!(kept.origin, Origin::Made);
    assert_eq!(kept.kubeconfig, kept.directory.join("kubeconfig"));
    (parent, directory)
}

fn refused(directory: &Path) -> String {
    let error = open(directory).unwrap_err();
    assert!(!error.help().is_empty());
    error.to_string()
}

#[test]
fn what_is_saved_is_for_its_owner_alone_and_is_found_again() {
    let (parent, directory) = saved();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("tls/etcd")), 0o700);
    for name in secrets::TLS_FILES {
        assert_eq!(mode(&directory.join("tls").join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&directory.join("kubeconfig")), 0o600);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);

    let again = open(&directory).unwrap();
    assert_eq!(again.origin, Origin::Reused);
    assert!(again.warnings.is_empty(), "{:?}", again.warnings);
    for (name, contents) in again.credentials.for_stick(For::Servers, true) {
        assert_eq!(fs::read(directory.join(&name)).unwrap(), contents, "{name}");
    }
}

#[test]
fn the_kubeconfig_follows_cluster_yaml_and_keeps_its_certificate() {
    let (parent, directory) = saved();
    let before = fs::read(directory.join("kubeconfig")).unwrap();
    let image = parent.path().join("a.img");
    let mut moved = server();
    moved.url = "https://10.0.0.9:6443".into();
    let kept = open(&directory).unwrap().save("edge", moved, Some(&image));
    let kept = kept.unwrap();
    assert_eq!(kept.kubeconfig, parent.path().join("a.img.kubeconfig"));
    let after = fs::read(&kept.kubeconfig).unwrap();
    assert_eq!(after, fs::read(directory.join("kubeconfig")).unwrap());
    assert_ne!(after, before);
    let certificate = |text: &[u8]| kubeconfig::admin(text).unwrap().certificate;
    assert_eq!(certificate(&before), certificate(&after));
}

#[test]
fn without_its_kubeconfig_the_administrator_gets_a_new_certificate() {
    let (_parent, directory) = saved();
    let path = directory.join("kubeconfig");
    let before = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let again = open(&directory).unwrap();
    assert!(again.warnings[0].contains("a new certificate"));
    again.save("edge", server(), None).unwrap();
    assert_ne!(fs::read(&path).unwrap(), before);
    assert!(open(&directory).unwrap().warnings.is_empty());
}

#[test]
fn every_missing_file_is_named() {
    for (name, _) in open(&saved().1)
        .unwrap()
        .credentials
        .for_stick(For::Servers, true)
    {
        let (_parent, directory) = saved();
        fs::remove_file(directory.join(&name)).unwrap();
        assert!(refused(&directory).contains(&name), "{name}");
    }
}

#[test]
fn what_does_not_belong_together_is_named() {
    let other = Credentials::make().unwrap().for_stick(For::Servers, true);
    for (name, part) in [
        ("tls/client-ca.key", "not the key of the certificate"),
        ("tls/client-ca.crt", "client-ca.key: it is not the key"),
        ("tls/etcd/peer-ca.key", "etcd/peer-ca.key"),
        ("server-token", "server-token: its hash is not that of"),
        ("agent-token", "agent-token: its hash is not that of"),
    ] {
        let (_parent, directory) = saved();
        fs::write(directory.join(name), &other[name]).unwrap();
        let said = refused(&directory);
        assert!(said.contains(part), "{name}: {said}");
    }
    for (name, contents, part) in [
        ("cluster-secret", "secret\n", "64 hexadecimal digits"),
        ("agent-token", "K10::node:x\n", "agent-token"),
        ("tls/service.key", "key\n", "EC or RSA PRIVATE KEY"),
        ("tls/server-ca.key", "key\n", "PKCS #8"),
        ("tls/server-ca.crt", "", "not a single certificate"),
        ("kubeconfig", "kind: Config\n", "kubeconfig"),
    ] {
        let (_parent, directory) = saved();
        fs::write(directory.join(name), contents).unwrap();
        let said = refused(&directory);
        assert!(said.contains(name) && said.contains(part), "{name}: {said}");
    }
}

#[test]
fn a_whole_pair_of_another_cluster_is_found_by_the_tokens_or_the_kubeconfig() {
    let other = Credentials::make().unwrap().for_stick(For::Servers, true);
    for (pair, part) in [
        ("server-ca", "two clusters"),
        ("client-ca", "not signed by"),
    ] {
        let (_parent, directory) = saved();
        for name in [format!("tls/{pair}.crt"), format!("tls/{pair}.key")] {
            fs::write(directory.join(&name), &other[&name]).unwrap();
        }
        let said = refused(&directory);
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn files_that_others_may_read_are_a_warning() {
    let (_parent, directory) = saved();
    let key = directory.join("tls/server-ca.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let warnings = open(&directory).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("server-ca.key: chmod -R go= "),
        "{warnings:?}"
    );
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    fs::write(parent.path().join("thesis.txt"), "x").unwrap();
    assert!(refused(parent.path()).contains("other files"));
    assert!(refused(&parent.path().join("thesis.txt")).contains("no directory"));
    let nowhere = parent.path().join("none/credentials");
    assert!(refused(&nowhere).contains("none/credentials"));
}

#[test]
fn an_empty_directory_is_filled_and_one_that_filled_meanwhile_is_not() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("mine");
    fs::create_dir(&directory).unwrap();
    let (first, second) = (open(&directory).unwrap(), open(&directory).unwrap());
    first.save("edge", server(), None).unwrap();
    let error = second.save("edge", server(), None).unwrap_err();
    assert!(matches!(error, CredentialsError::Meanwhile(_)), "{error:?}");
    assert!(open(&directory).is_ok());
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[test]
fn a_fifo_is_not_waited_for() {
    let (_parent, directory) = saved();
    let path = directory.join("cluster-secret");
    fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    assert!(refused(&directory).contains("it is no file"));
}

#[test]
fn the_registrys_authority_is_made_once_when_it_is_wanted_and_kept_for_every_image() {
    let (_parent, directory) = saved();
    let path = |name: &str| directory.join("tls").join(name);
    assert!(!path(secrets::REGISTRY_CA).exists());
    let wanted = || {
        let mut placed = open(&directory).unwrap();
        assert!(placed.warnings.is_empty(), "{:?}", placed.warnings);
        placed.credentials.want_registry_authority().unwrap();
        let kept = placed.save("edge", server(), None).unwrap();
        assert_eq!(kept.registry_ca, Some(path(secrets::REGISTRY_CA)));
        placed.credentials
    };
    let first = wanted();
    let made = fs::read(path(secrets::REGISTRY_CA)).unwrap();
    wanted();
    assert_eq!(fs::read(path(secrets::REGISTRY_CA)).unwrap(), made);
    for name in [secrets::REGISTRY_CA, secrets::REGISTRY_CA_KEY] {
        let mode = fs::metadata(path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
    // each kind of stick has the key where HTTPS is wanted, and none where it is not
    let key = format!("{}/{}", secrets::TLS, secrets::REGISTRY_CA_KEY);
    for whom in [For::Servers, For::Agents, For::Registries] {
        assert!(first.for_stick(whom, true).contains_key(&key), "{whom:?}");
        assert!(!first.for_stick(whom, false).contains_key(&key), "{whom:?}");
    }
    let files = first.for_stick(For::Registries, true);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "cluster-secret",
            "tls/registry-ca.crt",
            "tls/registry-ca.key"
        ]
    );
    let keys = first.for_stick(For::Agents, true);
    let keys = keys.keys().filter(|name| name.ends_with(".key"));
    assert_eq!(keys.collect::<Vec<_>>(), ["tls/registry-ca.key"]);
}

#[test]
fn a_registrys_authority_that_is_damaged_is_named_and_half_a_one_is_made_anew() {
    let (_parent, directory) = saved();
    let path = |name: &str| directory.join("tls").join(name);
    let make = || {
        let mut placed = open(&directory).unwrap();
        placed.credentials.want_registry_authority().unwrap();
        placed.save("edge", server(), None).unwrap();
        placed.warnings
    };
    make();
    let key = fs::read(path(secrets::REGISTRY_CA_KEY)).unwrap();
    fs::remove_file(path(secrets::REGISTRY_CA_KEY)).unwrap();
    assert!(refused(&directory).contains("registry-ca.key is missing"));
    let other = fs::read(path("client-ca.key")).unwrap();
    fs::write(path(secrets::REGISTRY_CA_KEY), other).unwrap();
    assert!(refused(&directory).contains("registry-ca.key: it is not the key"));
    fs::write(path(secrets::REGISTRY_CA_KEY), &key).unwrap();
    // what an interruption leaves: the key, which is written first
    fs::remove_file(path(secrets::REGISTRY_CA)).unwrap();
    assert!(make()[0].contains("a new authority"));
    assert_ne!(fs::read(path(secrets::REGISTRY_CA_KEY)).unwrap(), key);
    assert!(open(&directory).unwrap().warnings.is_empty());
}
