//! `charts:` of `cluster.yaml`, as resources for k3s's Helm controller.

use std::collections::BTreeMap;

use base64::Engine as _;
use image_layout::cluster::Chart;
use serde_yaml::{Mapping, Value};

use crate::registry::NODE_PORT;

/// Names of the files, and so of k3s's Addons, begin with it.
pub(super) const PREFIX: &str = "haulboot-chart-";

/// The file with the registry's user, where charts need one.
pub(super) const USER_FILE: &str = "haulboot-registry-user.yaml";
/// Name of the Secret in it.
const USER_SECRET: &str = "haulboot-registry-user";

/// Each chart's file name and contents; and, where the registry asks for a `user`, name and
/// password, a Secret with it.
pub(super) fn files(charts: &[Chart], user: Option<&(&str, String)>) -> BTreeMap<String, Vec<u8>> {
    let file = |chart: &Chart| {
        let name = format!("{PREFIX}{}.yaml", chart.name);
        let text = image_layout::yaml::render(&resource(chart, user.is_some()));
        (name, text.into_bytes())
    };
    let mut files: BTreeMap<_, _> = charts.iter().map(file).collect();
    if let Some((name, password)) = user
        && charts.iter().any(is_of_the_haul)
    {
        let text = image_layout::yaml::render(&user_secret(name, password));
        files.insert(USER_FILE.to_owned(), text.into_bytes());
    }
    files
}

/// A chart of the haul is named by its path; another one by a URL.
fn is_of_the_haul(chart: &Chart) -> bool {
    !chart.chart.contains("://")
}

/// A `kubernetes.io/dockerconfigjson`, which helm-controller mounts as `.docker/config.json` in its
/// job's home (k3s-io/helm-controller: pkg/controllers/chart `setDockerRegistrySecret`); Helm looks
/// there for a registry's user.
fn user_secret(name: &str, password: &str) -> Value {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    let registry = format!("127.0.0.1:{NODE_PORT}");
    let config = serde_json::json!({"auths": {registry: {"auth": auth}}});
    let metadata = Mapping::from_iter([
        ("name".into(), USER_SECRET.into()),
        ("namespace".into(), "kube-system".into()),
    ]);
    let data = Mapping::from_iter([(".dockerconfigjson".into(), config.to_string().into())]);
    Value::Mapping(Mapping::from_iter([
        ("apiVersion".into(), "v1".into()),
        ("kind".into(), "Secret".into()),
        ("metadata".into(), metadata.into()),
        ("type".into(), "kubernetes.io/dockerconfigjson".into()),
        ("stringData".into(), data.into()),
    ]))
}

/// A `HelmChart` (k3s-io/helm-controller: pkg/apis/helm.cattle.io/v1).
///
/// With `bootstrap` its job runs on a server, in the host's network: there the server's own
/// registry is at the loopback address, and neither pod network nor DNS are needed.
fn resource(chart: &Chart, needs_user: bool) -> Value {
    let mut spec = Mapping::new();
    let mut set = |key: &str, value: Value| drop(spec.insert(key.into(), value));
    if !is_of_the_haul(chart) {
        set("chart", chart.chart.as_str().into());
    } else {
        let path = chart.chart.trim_matches('/');
        set(
            "chart",
            format!("oci://127.0.0.1:{NODE_PORT}/{path}").into(),
        );
        set("plainHTTP", true.into());
        if needs_user {
            let secret = Mapping::from_iter([("name".into(), USER_SECRET.into())]);
            set("dockerRegistrySecret", secret.into());
        }
    }
    if let Some(version) = &chart.version {
        // a tag has `_` where Helm's version has `+`, and no version has `_`
        set("version", version.replace('_', "+").into());
    }
    set("bootstrap", true.into());
    let namespace = chart.namespace.as_deref().unwrap_or("default");
    set("targetNamespace", namespace.into());
    set("createNamespace", true.into());
    if !chart.values.is_empty() {
        let values = chart.values.iter();
        let values: Mapping = values
            .map(|(key, value)| (key.as_str().into(), value.clone()))
            .collect();
        let text = image_layout::yaml::render(&Value::Mapping(values));
        set("valuesContent", text.into());
    }
    let metadata = Mapping::from_iter([
        ("name".into(), chart.name.as_str().into()),
        ("namespace".into(), "kube-system".into()),
    ]);
    Value::Mapping(Mapping::from_iter([
        ("apiVersion".into(), "helm.cattle.io/v1".into()),
        ("kind".into(), "HelmChart".into()),
        ("metadata".into(), metadata.into()),
        ("spec".into(), spec.into()),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(chart: &str) -> (String, String) {
        let chart = serde_yaml::from_str(chart).unwrap();
        let (name, text) = files(&[chart], None).pop_first().unwrap();
        (name, String::from_utf8(text).unwrap())
    }

    #[test]
    fn a_chart_comes_from_the_servers_own_registry() {
        let (name, text) = written(
            "{name: ahoy, chart: hauler/hello-world, version: 1.0.0_b1, namespace: web, \
             values: {on: 'yes', image: {tag: '1'}}}",
        );
        assert_eq!(name, "haulboot-chart-ahoy.yaml");
        assert_eq!(
            text,
            "apiVersion: \"helm.cattle.io/v1\"\nkind: \"HelmChart\"\nmetadata:\n  name: \"ahoy\"\n  \
             namespace: \"kube-system\"\nspec:\n  \
             chart: \"oci://127.0.0.1:5000/hauler/hello-world\"\n  plainHTTP: true\n  \
             version: \"1.0.0+b1\"\n  bootstrap: true\n  targetNamespace: \"web\"\n  \
             createNamespace: true\n  \
             valuesContent: \"image:\\n  tag: \\\"1\\\"\\n\\\"on\\\": \\\"yes\\\"\\n\"\n"
        );
    }

    #[test]
    fn without_a_version_it_is_the_newest_and_without_a_namespace_the_default_one() {
        let (_, text) = written("{name: ahoy, chart: hauler/hello-world}");
        assert!(
            !text.contains("version:") && !text.contains("valuesContent"),
            "{text}"
        );
        assert!(text.contains("targetNamespace: \"default\"\n"), "{text}");
    }

    #[test]
    fn where_the_registry_asks_for_a_user_helm_has_one() {
        let charts: Vec<Chart> = ["hauler/hello-world", "oci://other.example/chart"]
            .map(|chart| {
                serde_yaml::from_str(&format!("{{name: a-{}, chart: \"{chart}\"}}", chart.len()))
            })
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap();
        let user = ("haulboot-node", "a9".to_owned());
        let text = |charts: &[Chart], name: &str| {
            let files = files(charts, Some(&user));
            files
                .get(name)
                .map(|text| String::from_utf8(text.clone()).unwrap())
        };
        let secret = text(&charts, USER_FILE).unwrap();
        // haulboot-node:a9
        let auth = r#"\"127.0.0.1:5000\":{\"auth\":\"aGF1bGJvb3Qtbm9kZTphOQ==\"}"#;
        assert!(secret.contains(auth), "{secret}");
        let field = "  dockerRegistrySecret:\n    name: \"haulboot-registry-user\"\n";
        let of_haul = text(&charts, "haulboot-chart-a-18.yaml").unwrap();
        assert!(of_haul.contains(field), "{of_haul}");
        // nobody else is sent the password
        let other = text(&charts, "haulboot-chart-a-25.yaml").unwrap();
        assert!(!other.contains("dockerRegistrySecret"), "{other}");
        assert_eq!(text(&charts[1..], USER_FILE), None);
    }
}
