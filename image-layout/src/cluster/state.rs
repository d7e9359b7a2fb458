//! Where k3s keeps its data.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::disk_size::DiskSize;

/// `state:`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Where.
    #[serde(default)]
    pub disk: Disk,
    /// Whether a disk that holds something may be overwritten, once: a state of this cluster that
    /// is on it already is kept.
    #[serde(default)]
    pub wipe: bool,
}

/// `disk:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Disk {
    /// `none`: in memory, lost at power-off.
    #[default]
    None,
    /// `stick`: the rest of the flash drive that the machine boots from.
    Stick,
    /// A disk or partition; a bare path is [`DiskMatch::path`] alone.
    Match(DiskMatch),
}

impl Serialize for Disk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Disk::None => serializer.serialize_str("none"),
            Disk::Stick => serializer.serialize_str("stick"),
            Disk::Match(wanted) => wanted.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Disk {
    /// Written out, because serde's untagged enums lose the place of an error.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DiskVisitor;

        impl<'de> Visitor<'de> for DiskVisitor {
            type Value = Disk;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "`none`, `stick`, a path such as /dev/nvme0n1, or one or more of model:, \
                     serial:, size:, path:",
                )
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Disk, E> {
                match word {
                    "none" => Ok(Disk::None),
                    "stick" => Ok(Disk::Stick),
                    path if path.starts_with('/') => {
                        let path = DevicePath::try_from(path.to_owned()).map_err(E::custom)?;
                        Ok(Disk::Match(DiskMatch {
                            path: Some(path),
                            ..DiskMatch::default()
                        }))
                    }
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Disk, A::Error> {
                let wanted = DiskMatch::deserialize(MapAccessDeserializer::new(map))?;
                if wanted == DiskMatch::default() {
                    return Err(de::Error::custom(
                        "names no disk; give one or more of model:, serial:, size:, path:",
                    ));
                }
                Ok(Disk::Match(wanted))
            }
        }

        deserializer.deserialize_any(DiskVisitor)
    }
}

/// Properties of a disk; all that are given must agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskMatch {
    /// Model as the disk says, whole, in upper or lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Words>,
    /// Serial number as the disk says, whole, in upper or lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<Words>,
    /// Size: `500GB`, `>= 100GB`, `<= 2TB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<DiskSize>,
    /// Name of the device; the only way to name a partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<DevicePath>,
}

impl fmt::Display for DiskMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.model.as_ref().map(|model| format!("model {model}")),
            self.serial
                .as_ref()
                .map(|serial| format!("serial {serial}")),
            self.size.as_ref().map(|size| format!("size {size}")),
            self.path.as_ref().map(|path| format!("path {path}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

/// What a disk calls itself. Never empty; white space around it does not count, since disks pad
/// their strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Words(String);

impl Words {
    /// Whether a disk that calls itself `found` is meant.
    pub fn matches(&self, found: &str) -> bool {
        self.0.to_lowercase() == found.trim().to_lowercase()
    }
}

impl TryFrom<String> for Words {
    type Error = String;

    fn try_from(text: String) -> Result<Words, String> {
        match text.trim() {
            "" => Err("is empty; write what the disk calls itself".to_owned()),
            words => Ok(Words(words.to_owned())),
        }
    }
}

impl From<Words> for String {
    fn from(words: Words) -> String {
        words.0
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A device in `/dev` under the kernel's own name: `/dev/sda`, `/dev/nvme0n1p2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DevicePath(String);

impl DevicePath {
    /// The kernel's name, `sda`.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DevicePath {
    type Error = String;

    fn try_from(text: String) -> Result<DevicePath, String> {
        if text.starts_with("/dev/disk/") {
            return Err(format!(
                "{text}: a node has no links below /dev/disk; name the disk by model:, serial: \
                 or size:, or by the kernel's name, such as /dev/nvme0n1"
            ));
        }
        let name = text.strip_prefix("/dev/").unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(plain) {
            return Err(format!(
                "{text:?} is no device; write one such as /dev/nvme0n1 or /dev/sda2"
            ));
        }
        Ok(DevicePath(name.to_owned()))
    }
}

impl From<DevicePath> for String {
    fn from(path: DevicePath) -> String {
        path.to_string()
    }
}

impl fmt::Display for DevicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/dev/{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Cluster, ClusterError, parse};

    fn with(state: &str) -> Result<Cluster, ClusterError> {
        let text =
            format!("apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\nstate: {state}\n");
        parse(text.as_bytes())
    }

    fn disk(state: &str) -> Disk {
        with(state)
            .unwrap_or_else(|error| panic!("{state}: {error}"))
            .state
            .disk
    }

    #[test]
    fn without_a_word_about_it_state_is_in_memory() {
        assert_eq!(disk("{}"), Disk::None);
        assert_eq!(disk("{disk: none}"), Disk::None);
        assert!(!with("{disk: stick}").unwrap().state.wipe);
        assert_eq!(disk("{disk: stick}"), Disk::Stick);
    }

    #[test]
    fn a_disk_is_named_by_its_path_or_by_what_it_says_of_itself() {
        let Disk::Match(wanted) = disk("{disk: /dev/nvme0n1, wipe: true}") else {
            panic!("a path names a disk");
        };
        assert_eq!(wanted.path.unwrap().name(), "nvme0n1");
        let text = "{disk: {model: ' Samsung SSD 970 ', size: '>= 100GB'}}";
        let Disk::Match(wanted) = disk(text) else {
            panic!("a map names a disk");
        };
        let model = wanted.model.clone().unwrap();
        assert!(model.matches("SAMSUNG ssd 970   "));
        assert!(!model.matches("Samsung SSD 970 EVO"));
        assert!(wanted.size.clone().unwrap().matches(100_000_000_000));
        assert_eq!(
            wanted.to_string(),
            "model \"Samsung SSD 970\", size >= 100 GB"
        );
    }

    #[test]
    fn what_is_written_out_is_read_again() {
        for text in [
            "{disk: none}",
            "{disk: stick, wipe: true}",
            "{disk: /dev/sda2}",
            "{disk: {serial: S1, size: 1.5TiB, path: /dev/sda}}",
        ] {
            let cluster = with(text).unwrap();
            let written = serde_yaml::to_string(&cluster).unwrap();
            assert_eq!(parse(written.as_bytes()), Ok(cluster), "{written}");
        }
    }

    #[test]
    fn mistakes_are_refused_with_their_place_and_what_is_expected() {
        for (state, part) in [
            ("{disk: nvme0n1}", "a path such as /dev/nvme0n1"),
            ("{disk: RAM}", "`none`, `stick`"),
            ("{disk: /dev/disk/by-id/ata-X}", "no links below /dev/disk"),
            ("{disk: /dev/../etc/passwd}", "is no device"),
            ("{disk: {modell: X}}", "modell"),
            ("{disk: {}}", "names no disk"),
            ("{disk: {model: ' '}}", "is empty"),
            ("{disk: {size: 500}}", "is no size"),
            ("{disk: {size: 500 bananas}}", "is no size"),
            ("{disk: none, wype: true}", "wype"),
        ] {
            let error = with(state).unwrap_err().to_string();
            assert!(error.contains(part), "{state}: {error}");
            assert!(error.starts_with("line 4, column "), "{state}: {error}");
        }
    }
}
