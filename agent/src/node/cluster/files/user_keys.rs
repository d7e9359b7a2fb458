//! `k3s:` of `cluster.yaml`: k3s's own keys, as its user wrote them.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use image_layout::paths;
use serde_yaml::Value;

use super::FilesError;

/// Other names that k3s has for a key (k3s: pkg/cli/cmds/{agent,log,server}.go). Its launcher
/// looks for `data-dir` by that name alone.
const ALIASES: &[(&str, &str)] = &[
    ("c", "config"),
    ("cluster-secret", "token"),
    ("d", "data-dir"),
    ("i", "node-ip"),
    ("l", "log"),
    ("o", "write-kubeconfig"),
    ("s", "server"),
    ("t", "token"),
];

/// The keys under their long names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct UserKeys(pub(super) BTreeMap<String, Value>);

impl UserKeys {
    /// Reads `k3s:`. A key that stands there under several names counts under its long one; what
    /// `key+` holds is appended (k3s: pkg/configfilearg/parser.go).
    pub(super) fn new(k3s: &BTreeMap<String, Value>) -> UserKeys {
        let mut keys = BTreeMap::new();
        let mut appended = Vec::new();
        for (name, value) in k3s {
            let value = spoken(value);
            match name.strip_suffix('+') {
                Some(name) => appended.push((long(name), value)),
                None if long(name) == name => drop(keys.insert(name.clone(), value)),
                None => {}
            }
        }
        for (name, value) in k3s {
            if !name.ends_with('+') {
                let long = long(name).to_owned();
                keys.entry(long).or_insert_with(|| spoken(value));
            }
        }
        for (name, value) in appended {
            let all = match keys.remove(name) {
                Some(first) => Value::Sequence([list(&first), list(&value)].concat()),
                None => value,
            };
            keys.insert(name.to_owned(), all);
        }
        UserKeys(keys)
    }

    /// Whether a key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A key's value as text; of a list, none.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        match self.0.get(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            _ => None,
        }
    }

    /// Whether a switch is on.
    pub(super) fn on(&self, key: &str) -> bool {
        self.text(key).is_some_and(|text| text == "true")
    }

    /// `node-name` as k3s makes it of it, in lower case (k3s: pkg/util, GetHostnameAndIPs).
    pub(super) fn node_name(&self) -> Option<String> {
        let name = self.text("node-name")?.to_lowercase();
        (!name.is_empty()).then_some(name)
    }

    /// Where k3s keeps its data, an absolute path of the node.
    pub(super) fn data_dir(&self) -> Result<PathBuf, FilesError> {
        let Some(given) = self.text("data-dir").filter(|text| !text.is_empty()) else {
            return Ok(PathBuf::from(paths::node::K3S_DATA));
        };
        let path = Path::new(&given);
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        if !path.is_absolute() || path.parent().is_none() || !path.components().all(plain) {
            return Err(FilesError::DataDir(given));
        }
        // without a slash at the end
        Ok(path.components().collect())
    }
}

/// A value as a list.
pub(super) fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Sequence(values) => values.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}

fn long(name: &str) -> &str {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    alias.map_or(name, |(_, long)| long)
}

/// k3s reads YAML 1.1, in which these words are booleans: who writes `disable-agent: no` means it.
fn spoken(value: &Value) -> Value {
    match value.as_str() {
        Some("yes" | "Yes" | "YES" | "on" | "On" | "ON") => Value::Bool(true),
        Some("no" | "No" | "NO" | "off" | "Off" | "OFF") => Value::Bool(false),
        _ => value.clone(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::node::cluster::files) fn keys(text: &str) -> UserKeys {
        UserKeys::new(&serde_yaml::from_str(text).unwrap())
    }

    #[test]
    fn a_key_counts_under_its_long_name_and_what_is_appended_comes_behind() {
        let read = keys("{d: /data, t: x, token: y, tls-san: a, 'tls-san+': [b], 'disable+': [c]}");
        let expected = "{data-dir: /data, token: y, tls-san: [a, b], disable: [c]}";
        assert_eq!(read.0, serde_yaml::from_str(expected).unwrap());
    }

    #[test]
    fn words_of_yaml_1_1_are_the_booleans_that_k3s_would_read() {
        let read = keys("{debug: yes, selinux: Off, node-label: [on], node-name: node}");
        let expected = "{debug: true, selinux: false, node-label: ['on'], node-name: node}";
        assert_eq!(read.0, serde_yaml::from_str(expected).unwrap());
    }

    #[test]
    fn a_nodes_name_is_what_k3s_makes_of_it() {
        let name = |text: &str| keys(text).node_name();
        assert_eq!(name("{node-name: CP-1}").as_deref(), Some("cp-1"));
        assert_eq!(name("{node-name: 7}").as_deref(), Some("7"));
        assert_eq!(name("{node-name: ''}"), None);
        assert_eq!(name("{}"), None);
    }

    #[test]
    fn the_data_directory_is_an_absolute_path_or_refused() {
        assert_eq!(
            keys("{}").data_dir().unwrap(),
            Path::new("/var/lib/rancher/k3s")
        );
        assert_eq!(
            keys("{data-dir: /mnt/k3s/}").data_dir().unwrap(),
            Path::new("/mnt/k3s")
        );
        for wrong in ["data", "/", "/a/../b", "~/k3s"] {
            let error = keys(&format!("{{data-dir: '{wrong}'}}")).data_dir();
            assert!(matches!(error, Err(FilesError::DataDir(_))), "{wrong}");
        }
    }
}
