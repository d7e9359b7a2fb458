//! Which images of a list a cluster needs, by its configuration.

use std::collections::BTreeSet;

use image_layout::cluster::Cluster;
use image_layout::reference::{DOCKER_HUB, InvalidReference, Reference};

use super::list::complete;

/// What belongs to which of k3s's components, by the last part of the repository's name. Both
/// today's names and those from before 2021 (k3s: manifests/, scripts/airgap/image-list.txt).
const COMPONENTS: [(&str, Component); 13] = [
    ("mirrored-pause", Component::Pause),
    ("pause", Component::Pause),
    ("mirrored-coredns-coredns", Component::Named("coredns")),
    ("coredns-coredns", Component::Named("coredns")),
    ("mirrored-library-traefik", Component::Traefik),
    ("library-traefik", Component::Traefik),
    ("klipper-lb", Component::Named("servicelb")),
    ("local-path-provisioner", Component::Named("local-storage")),
    (
        "mirrored-library-busybox",
        Component::Named("local-storage"),
    ),
    ("library-busybox", Component::Named("local-storage")),
    (
        "mirrored-metrics-server",
        Component::Named("metrics-server"),
    ),
    ("metrics-server", Component::Named("metrics-server")),
    ("klipper-helm", Component::Helm),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Component {
    /// Every pod needs it.
    Pause,
    /// Needed unless `disable:` names it.
    Named(&'static str),
    /// `traefik`; installed as a chart, so nothing of it without the helm controller.
    Traefik,
    /// Installs charts, Traefik's among them.
    Helm,
}

/// What a cluster's configuration says about images.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    disabled: BTreeSet<String>,
    no_helm: bool,
    charts: bool,
    registry: Option<String>,
    pause: Option<String>,
    helm_job: Option<String>,
}

impl Needs {
    /// Reads `k3s:` and `charts:`. `charts` says whether something else installs charts too.
    pub fn of(cluster: &Cluster, charts: bool) -> Needs {
        let words = |key: &str| cluster.k3s.get(key).map(words).unwrap_or_default();
        let word = |key: &str| words(key).into_iter().next_back();
        Needs {
            // k3s's files may add to a list by a plus (k3s: docs, "Configuration File")
            disabled: words("disable")
                .into_iter()
                .chain(words("disable+"))
                .collect(),
            no_helm: word("disable-helm-controller").is_some_and(|word| word == "true"),
            charts: charts || !cluster.charts.is_empty(),
            registry: word("system-default-registry"),
            pause: word("pause-image"),
            helm_job: word("helm-job-image"),
        }
    }

    /// The images of `list` that are needed, under the names by which k3s asks for them.
    /// `pause_image` is the one that k3s was built with; it is taken if the list has none.
    ///
    /// # Errors
    /// If names from the configuration make a name that no image has.
    pub fn images(
        &self,
        list: &[Reference],
        pause_image: Option<&str>,
    ) -> Result<BTreeSet<Reference>, InvalidReference> {
        let mut needed = BTreeSet::new();
        let mut pause = self.pause.clone();
        for image in list {
            let component = component(image);
            if component == Some(Component::Pause) && self.pause.is_none() {
                pause = Some(String::new());
            }
            match component {
                Some(Component::Pause) if self.pause.is_some() => {}
                Some(Component::Helm) if self.helm_job.is_some() => {}
                Some(component) if !self.needs(component) => {}
                Some(_) => {
                    needed.insert(self.by_registry(image)?);
                }
                // nothing of k3s's own: a list that somebody made longer
                None => {
                    needed.insert(image.clone());
                }
            }
        }
        let pause = pause.or_else(|| pause_image.map(str::to_owned));
        if let Some(pause) = pause.filter(|pause| !pause.is_empty()) {
            // k3s puts the registry before it unless it stands there (k3s: pkg/agent/config)
            needed.insert(match &self.registry {
                Some(registry) if !pause.starts_with(registry) => {
                    complete(&format!("{registry}/{pause}"))?
                }
                _ => complete(&pause)?,
            });
        }
        if let Some(image) = self
            .helm_job
            .as_ref()
            .filter(|_| self.needs(Component::Helm))
        {
            needed.insert(complete(image)?);
        }
        Ok(needed)
    }

    fn needs(&self, component: Component) -> bool {
        let traefik = !self.no_helm && !self.disabled.contains("traefik");
        match component {
            Component::Pause => true,
            Component::Named(name) => !self.disabled.contains(name),
            Component::Traefik => traefik,
            Component::Helm => traefik || (self.charts && !self.no_helm),
        }
    }

    /// An image of k3s's own by the name that its manifests give it, which begins with
    /// `system-default-registry` if there is one.
    fn by_registry(&self, image: &Reference) -> Result<Reference, InvalidReference> {
        let Some(registry) = &self.registry else {
            return Ok(image.clone());
        };
        let full = image.to_string();
        let (_, name) = full.split_once('/').unwrap_or(("", &full));
        complete(&format!("{registry}/{name}"))
    }
}

/// The component that an image of k3s's own belongs to.
fn component(image: &Reference) -> Option<Component> {
    if image.host.as_str() != DOCKER_HUB {
        return None;
    }
    let name = image.repository.as_str().strip_prefix("rancher/")?;
    let known = COMPONENTS.iter().find(|(known, _)| *known == name)?;
    Some(known.1)
}

/// Words of a value as k3s takes them: a list, or text with commas.
fn words(value: &serde_yaml::Value) -> Vec<String> {
    use serde_yaml::Value;
    match value {
        Value::Sequence(values) => values.iter().flat_map(words).collect(),
        Value::String(text) => {
            let words = text.split(',').map(str::trim);
            words
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        }
        Value::Bool(value) => vec![value.to_string()],
        Value::Number(value) => vec![value.to_string()],
        Value::Null | Value::Mapping(_) | Value::Tagged(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::parse;
    use super::*;

    const LIST: &str = "
        docker.io/rancher/klipper-helm:v0.13.3
        docker.io/rancher/klipper-lb:v0.4.17
        docker.io/rancher/local-path-provisioner:v0.0.37
        docker.io/rancher/mirrored-coredns-coredns:1.14.7
        docker.io/rancher/mirrored-library-busybox:1.37.0
        docker.io/rancher/mirrored-library-traefik:3.7.13
        docker.io/rancher/mirrored-metrics-server:v0.9.0
        docker.io/rancher/mirrored-pause:3.10.2";

    fn cluster(more: &str) -> Cluster {
        let yaml = format!("apiVersion: haulboot.dev/v1\nkind: Cluster\nname: a\n{more}");
        image_layout::cluster::parse(yaml.as_bytes()).unwrap()
    }

    fn needed(more: &str, list: &str) -> Vec<String> {
        let needs = Needs::of(&cluster(more), false);
        let list = parse("list", list.as_bytes()).unwrap();
        let images = needs
            .images(&list, Some("rancher/mirrored-pause:3.6"))
            .unwrap();
        images
            .iter()
            .map(|image| image.to_string().replace("docker.io/rancher/", ""))
            .collect()
    }

    #[test]
    fn everything_is_needed_unless_it_is_disabled() {
        assert_eq!(needed("", LIST).len(), 8);
        let all = [
            "k3s: {disable: [coredns, servicelb, traefik, local-storage, metrics-server]}",
            "k3s: {disable: 'coredns,servicelb, traefik,local-storage,metrics-server'}",
            "k3s: {disable: [coredns, 'servicelb,traefik'], disable+: [local-storage, metrics-server]}",
        ];
        for yaml in all {
            assert_eq!(needed(yaml, LIST), ["mirrored-pause:3.10.2"], "{yaml}");
        }
        for (component, gone) in [
            ("coredns", &["mirrored-coredns-coredns:1.14.7"][..]),
            ("servicelb", &["klipper-lb:v0.4.17"]),
            ("metrics-server", &["mirrored-metrics-server:v0.9.0"]),
            (
                "local-storage",
                &[
                    "local-path-provisioner:v0.0.37",
                    "mirrored-library-busybox:1.37.0",
                ],
            ),
            (
                "traefik",
                &["klipper-helm:v0.13.3", "mirrored-library-traefik:3.7.13"],
            ),
        ] {
            let left = needed(&format!("k3s: {{disable: {component}}}"), LIST);
            assert_eq!(left.len() + gone.len(), 8, "{component}: {left:?}");
            assert!(gone.iter().all(|gone| !left.contains(&(*gone).to_owned())));
        }
    }

    #[test]
    fn what_installs_charts_is_needed_for_traefik_or_for_charts_of_ones_own() {
        let helm = |yaml: &str| needed(yaml, LIST).contains(&"klipper-helm:v0.13.3".to_owned());
        let chart = "charts: [{name: a, chart: hauler/a}]\n";
        assert!(helm(""));
        assert!(!helm("k3s: {disable: traefik}"));
        assert!(helm(&format!("{chart}k3s: {{disable: traefik}}")));
        let no_helm = "k3s: {disable-helm-controller: true}";
        assert!(!helm(&format!("{chart}{no_helm}")));
        assert!(!needed(no_helm, LIST).contains(&"mirrored-library-traefik:3.7.13".to_owned()));
        let needs = Needs::of(&cluster("k3s: {disable: traefik}"), true);
        let list = parse("list", LIST.as_bytes()).unwrap();
        assert_eq!(needs.images(&list, None).unwrap().len(), 7);
    }

    #[test]
    fn names_from_the_configuration_are_what_k3s_asks_for() {
        let all = "k3s: {disable: 'coredns,servicelb,traefik,local-storage,metrics-server'";
        for (more, name) in [
            (", pause-image: quay.io/a/pause:1}", "quay.io/a/pause:1"),
            (
                ", system-default-registry: 'r.test:5000'}",
                "r.test:5000/rancher/mirrored-pause:3.10.2",
            ),
            (
                ", system-default-registry: r.test, pause-image: a/pause:1}",
                "r.test/a/pause:1",
            ),
            (
                ", system-default-registry: r.test, pause-image: r.test/a/pause:1}",
                "r.test/a/pause:1",
            ),
        ] {
            assert_eq!(needed(&format!("{all}{more}"), LIST), [name], "{more}");
        }
        let helm = needed("k3s: {helm-job-image: 'quay.io/a/helm:1'}", LIST);
        assert!(helm.contains(&"quay.io/a/helm:1".to_owned()), "{helm:?}");
        assert_eq!(helm.len(), 8);
        let wrong = Needs::of(&cluster("k3s: {pause-image: 'A B'}"), false);
        assert!(wrong.images(&[], None).is_err());
    }

    #[test]
    fn without_a_pause_image_in_the_list_the_built_in_one_is_needed_and_strangers_always() {
        assert_eq!(needed("", ""), ["mirrored-pause:3.6"]);
        let list = "quay.io/shop/klipper-lb:1\nrancher/shell:2";
        let yaml = "k3s: {disable: servicelb, system-default-registry: r.test}";
        assert_eq!(
            needed(yaml, list),
            [
                "shell:2",
                "quay.io/shop/klipper-lb:1",
                "r.test/rancher/mirrored-pause:3.6"
            ]
        );
    }
}
