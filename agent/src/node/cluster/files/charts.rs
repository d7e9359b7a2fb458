//! `charts:` of `cluster.yaml`, as resources for k3s's Helm controller.

use std::collections::BTreeMap;

use image_layout::cluster::Chart;
use serde_yaml::{Mapping, Value};

use crate::registry::NODE_PORT;

/// Names of the files, and so of k3s's Addons, begin with it.
pub(super) const PREFIX: &str = "haulboot-chart-";

/// Each chart's file name and contents.
pub(super) fn files(charts: &[Chart]) -> BTreeMap<String, Vec<u8>> {
    let file = |chart: &Chart| {
        let name = format!("{PREFIX}{}.yaml", chart.name);
        let text = image_layout::yaml::render(&resource(chart));
        (name, text.into_bytes())
    };
    charts.iter().map(file).collect()
}

/// A `HelmChart` (k3s-io/helm-controller: pkg/apis/helm.cattle.io/v1).
///
/// With `bootstrap` its job runs on a server, in the host's network: there the server's own
/// registry is at the loopback address, and neither pod network nor DNS are needed.
fn resource(chart: &Chart) -> Value {
    let mut spec = Mapping::new();
    let mut set = |key: &str, value: Value| drop(spec.insert(key.into(), value));
    if chart.chart.contains("://") {
        set("chart", chart.chart.as_str().into());
    } else {
        let path = chart.chart.trim_matches('/');
        set(
            "chart",
            format!("oci://127.0.0.1:{NODE_PORT}/{path}").into(),
        );
        set("plainHTTP", true.into());
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
        let (name, text) = files(&[chart]).pop_first().unwrap();
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
}
