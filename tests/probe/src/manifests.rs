//! What k3s's deploy controller and its Helm controller would take (k3s: pkg/deploy;
//! helm-controller: pkg/apis/helm.cattle.io).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize as _;
use serde_json::json;
use serde_yaml::Value;

use crate::pull::{get, verify};
use crate::registries::Endpoint;
use crate::report;

/// The largest depth of directories below `manifests`.
const DEPTH: usize = 8;

/// Reports every manifest, and what its charts are.
pub fn check(data_dir: &Path) {
    let mut files = Vec::new();
    collect(&data_dir.join("server/manifests"), DEPTH, &mut files);
    files.sort();
    let users = docker_users(&files);
    for file in files {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let kinds = match apply(&file, &users) {
            Ok(kinds) => kinds,
            Err(error) => {
                report::condition(&format!("manifest {name}"), false, format!("{error:#}"));
                continue;
            }
        };
        report::event(&json!({
            "event": "manifest", "name": name, "path": file.display().to_string(), "kinds": kinds,
        }));
    }
}

fn collect(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let suffix = path.extension().unwrap_or_default();
        if path.is_dir() && depth > 0 {
            collect(&path, depth - 1, files);
        } else if suffix == "yaml" || suffix == "yml" || suffix == "json" {
            files.push(path);
        }
    }
}

/// What the Secrets among the files say of registries, by their names (kubernetes:
/// `kubernetes.io/dockerconfigjson`).
fn docker_users(files: &[PathBuf]) -> Users {
    let texts = files.iter().flat_map(std::fs::read_to_string);
    let documents = texts.flat_map(|text| {
        serde_yaml::Deserializer::from_str(&text)
            .map_while(|document| Value::deserialize(document).ok())
            .collect::<Vec<_>>()
    });
    documents
        .filter(|value| value["type"] == "kubernetes.io/dockerconfigjson")
        .filter_map(|value| {
            let name = value["metadata"]["name"].as_str()?.to_owned();
            let config = value["stringData"][".dockerconfigjson"].as_str()?;
            Some((name, serde_json::from_str(config).ok()?))
        })
        .collect()
}

type Users = BTreeMap<String, serde_json::Value>;

fn apply(file: &Path, users: &Users) -> Result<Vec<String>> {
    let modified = file.metadata()?.modified()?;
    ensure!(
        modified
            .duration_since(std::time::UNIX_EPOCH)
            .is_ok_and(|since| since.as_secs() > 86_400),
        "it is from 1970; k3s before 1.37.1 does not see it change"
    );
    let text = std::fs::read_to_string(file)?;
    let mut kinds = Vec::new();
    for document in serde_yaml::Deserializer::from_str(&text) {
        let value = Value::deserialize(document).context("it is no YAML")?;
        if value.is_null() {
            continue;
        }
        let kind = value["kind"].as_str().context("a document has no kind")?;
        ensure!(
            value["apiVersion"].is_string(),
            "a {kind} has no apiVersion"
        );
        let name = value["metadata"]["name"]
            .as_str()
            .with_context(|| format!("a {kind} has no name"))?;
        if kind == "HelmChart" {
            chart(name, &value, users);
        }
        kinds.push(kind.to_owned());
    }
    Ok(kinds)
}

fn chart(name: &str, value: &Value, users: &Users) {
    let outcome = fetch(value, users).map_err(|error| format!("{error:#}"));
    report::verdict(&format!("chart {name} can be fetched"), outcome);
}

/// As Helm does it: the manifest by tag, and the layer with the chart.
fn fetch(value: &Value, users: &Users) -> Result<String> {
    ensure!(
        value["apiVersion"] == "helm.cattle.io/v1",
        "it is of another API"
    );
    let spec = &value["spec"];
    let chart = spec["chart"].as_str().context("it names no chart")?;
    let Some(rest) = chart.strip_prefix("oci://") else {
        return Ok(format!("{chart} is of no registry"));
    };
    ensure!(
        spec["repo"].as_str().unwrap_or_default().is_empty(),
        "repo must be empty for oci://"
    );
    ensure!(spec["plainHTTP"] == true, "plainHTTP is not set");
    let (authority, repository) = rest
        .split_once('/')
        .context("the chart has no repository")?;
    let local = authority.starts_with("127.") || authority.starts_with("localhost");
    ensure!(
        !local || spec["bootstrap"] == true,
        "only a bootstrap chart reaches the node's loopback"
    );
    let version = spec["version"]
        .as_str()
        .context("it has no version")?
        .replace('+', "_");
    let authorization = match spec["dockerRegistrySecret"]["name"].as_str() {
        None => None,
        Some(secret) => {
            let config = users.get(secret);
            let auth = config.and_then(|config| config["auths"][authority]["auth"].as_str());
            let auth = auth.with_context(|| format!("no Secret {secret} has {authority}"))?;
            Some(format!("Basic {auth}"))
        }
    };
    let endpoint = Endpoint {
        base: format!("http://{authority}/v2"),
        authority: authority.to_owned(),
        authorization,
    };
    let answer = get(
        &endpoint,
        "GET",
        &format!("/{repository}/manifests/{version}"),
    )?;
    ensure!(answer.status == 200, "{chart}:{version}: {}", answer.status);
    let manifest: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let layers = manifest["layers"].as_array().context("no layers")?;
    let layer = layers
        .iter()
        .find(|layer| layer["mediaType"] == "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
        .context("no layer holds a chart")?;
    let digest = layer["digest"].as_str().context("a layer without digest")?;
    let blob = get(&endpoint, "GET", &format!("/{repository}/blobs/{digest}"))?;
    verify(digest, &blob.body)?;
    Ok(format!("{chart}:{version}, {} bytes", blob.body.len()))
}
