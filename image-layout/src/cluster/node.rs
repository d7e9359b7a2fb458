//! Nodes and how a machine finds out which of them it is.

use std::fmt;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Cidr, Network};

/// What a node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs `k3s server`. The builder refuses a second one.
    Server,
    /// Runs `k3s agent`.
    Agent,
    /// Serves the haul and nothing else.
    #[default]
    Registry,
}

impl Role {
    /// The name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Agent => "agent",
            Role::Registry => "registry",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Role::Server, Role::Agent, Role::Registry]
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| format!("{text:?} is no role; the roles are server, agent and registry"))
    }
}

/// One of `nodes:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// Name in the cluster and host name: a lower-case DNS label (RFC 1123).
    pub name: String,
    /// Which machine it is.
    #[serde(rename = "match")]
    pub matches: Match,
    /// What it does.
    pub role: Role,
    /// Its address; without one it asks a DHCP server.
    #[serde(default)]
    pub address: Option<Cidr>,
    /// Its interface by name, MAC address or driver; default: the only one with a carrier.
    #[serde(default)]
    pub interface: Option<String>,
    /// What differs from the cluster's `network:`.
    #[serde(default)]
    pub network: Network,
}

/// `unmatched:`, what a machine does that is none of the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unmatched {
    /// Its role.
    #[serde(default)]
    pub role: Role,
}

/// `match:`, by what a machine is recognised: the word `any`, or properties that must all agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// Whatever machine matches no other node.
    Any,
    /// One or more properties.
    Properties(MatchProperties),
}

impl Serialize for Match {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Match::Any => serializer.serialize_str("any"),
            Match::Properties(properties) => properties.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Match {
    /// Written out, because serde's untagged enums lose the place of an error.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MatchVisitor;

        impl<'de> Visitor<'de> for MatchVisitor {
            type Value = Match;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`any`, or one or more of mac:, serial:, uuid:")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Match, E> {
                match word {
                    "any" => Ok(Match::Any),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Match, A::Error> {
                MatchProperties::deserialize(MapAccessDeserializer::new(map)).map(Match::Properties)
            }
        }

        deserializer.deserialize_any(MatchVisitor)
    }
}

/// Properties of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchProperties {
    /// MAC address of any of its network cards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Serial number of the system, as the firmware says (SMBIOS type 1, device tree).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// UUID of the system (SMBIOS type 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<uuid::Uuid>,
}

impl MatchProperties {
    /// Whether no property is given.
    pub fn is_empty(&self) -> bool {
        self.mac.is_none() && self.serial.is_none() && self.uuid.is_none()
    }
}

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is no MAC address, such as 52:54:00:12:34:56");
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2)
                .ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            Err(wrong())
        } else {
            Ok(Mac(bytes))
        }
    }
}

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What a machine says about itself. Placeholders of vendors count as absent: see
/// [`Machine::new`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// MAC addresses of its network cards.
    pub macs: Vec<Mac>,
    /// Serial number.
    pub serial: Option<String>,
    /// UUID.
    pub uuid: Option<uuid::Uuid>,
}

/// By what a node was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatchedBy {
    /// The properties named in the file.
    Properties(MatchProperties),
    /// `any`.
    Any,
}

impl fmt::Display for MatchedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MatchedBy::Properties(properties) = self else {
            return f.write_str("any");
        };
        let said = [
            properties.mac.map(|mac| format!("MAC {mac}")),
            properties
                .serial
                .as_ref()
                .map(|serial| format!("serial {serial}")),
            properties.uuid.map(|uuid| format!("UUID {uuid}")),
        ];
        f.write_str(&said.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl Machine {
    /// A machine from what its firmware says; `serial` and `uuid` as read.
    ///
    /// Serial numbers such as `To be filled by O.E.M.` and UUIDs of one repeated byte are the
    /// same on thousands of boards and count as absent.
    pub fn new(macs: Vec<Mac>, serial: Option<&str>, uuid: Option<&str>) -> Machine {
        Machine {
            macs,
            serial: serial
                .map(str::trim)
                .filter(|s| !is_placeholder(s))
                .map(str::to_owned),
            uuid: uuid
                .and_then(|uuid| uuid.trim().parse().ok())
                .filter(|uuid| !is_placeholder_uuid(uuid)),
        }
    }

    /// Whether this machine has all the properties.
    pub fn has(&self, properties: &MatchProperties) -> bool {
        !properties.is_empty()
            && properties.mac.is_none_or(|mac| self.macs.contains(&mac))
            && properties.uuid.is_none_or(|uuid| self.uuid == Some(uuid))
            && properties.serial.as_ref().is_none_or(|serial| {
                self.serial
                    .as_ref()
                    .is_some_and(|own| own.eq_ignore_ascii_case(serial.trim()))
            })
    }
}

fn is_placeholder(serial: &str) -> bool {
    const PLACEHOLDERS: [&str; 14] = [
        "to be filled by o.e.m.",
        "default string",
        "system serial number",
        "not specified",
        "not applicable",
        "none",
        "n/a",
        "na",
        "unknown",
        "invalid",
        "oem",
        "chassis serial number",
        "0123456789",
        "123456789",
    ];
    let lower = serial.to_ascii_lowercase();
    let first = lower.bytes().next();
    PLACEHOLDERS.contains(&lower.as_str())
        || lower
            .bytes()
            .all(|b| Some(b) == first || !b.is_ascii_alphanumeric())
}

fn is_placeholder_uuid(uuid: &uuid::Uuid) -> bool {
    // American Megatrends' and others' boards ship with this one.
    const AMI: u128 = 0x03000200_0400_0500_0006_000700080009;
    let bytes = uuid.as_bytes();
    bytes.iter().all(|byte| *byte == bytes[0]) || uuid.as_u128() == AMI
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_of_vendors_count_as_absent() {
        for serial in [
            "",
            "0",
            "00000000",
            "To Be Filled By O.E.M.",
            "Default string",
            "....",
            "XXXX",
        ] {
            assert_eq!(
                Machine::new(vec![], Some(serial), None).serial,
                None,
                "{serial:?}"
            );
        }
        for uuid in [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "03000200-0400-0500-0006-000700080009",
            "not a uuid",
        ] {
            assert_eq!(Machine::new(vec![], None, Some(uuid)).uuid, None, "{uuid}");
        }
        let real = Machine::new(
            vec![],
            Some(" ABC123 \n"),
            Some("4C4C4544-0042-3010-8052-B4C04F564D32"),
        );
        assert_eq!(real.serial.as_deref(), Some("ABC123"));
        assert!(real.uuid.is_some());
    }

    #[test]
    fn every_property_that_is_given_must_agree() {
        let mac: Mac = "52:54:00:12:34:56".parse().unwrap();
        let machine = Machine::new(vec![mac], Some("ABC123"), None);
        let with = |mac, serial: Option<&str>| MatchProperties {
            mac,
            serial: serial.map(str::to_owned),
            uuid: None,
        };
        assert!(machine.has(&with(Some(mac), None)));
        assert!(machine.has(&with(Some(mac), Some("abc123"))));
        assert!(!machine.has(&with(Some(mac), Some("other"))));
        assert!(!machine.has(&with(None, None)));
    }

    #[test]
    fn mac_addresses_are_read_in_both_spellings() {
        let mac: Mac = "52-54-00-AB-CD-EF".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:ef");
        for bad in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "zz:54:00:12:34:56",
            "5:54:0:1:3:5",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
