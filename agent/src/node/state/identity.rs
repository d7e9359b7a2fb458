//! By what a STATE is known again, as this cluster's and no other's.

use image_layout::digest::{Digest, Hasher};
use image_layout::paths::{self, secrets};
use uuid::Uuid;

use crate::node::Place;

/// Label of the file system, at most 16 bytes.
pub(super) const LABEL: &str = "haulboot-state";

/// The UUID of the file system: it follows from the cluster's secret, which is on every stick of
/// the cluster and nowhere else; where there is none, from the cluster's name. So a machine with
/// another stick of the same cluster, or with `cluster.yaml` changed, finds its data again.
///
/// A version 8 UUID (RFC 9562, 5.8) made of SHA-256; the secret can't be had back from it.
pub(super) fn uuid(place: &Place) -> Uuid {
    let haul = place.root.join(paths::node::HAUL.trim_start_matches('/'));
    let file = haul
        .join(paths::haul::SECRETS)
        .join(secrets::CLUSTER_SECRET);
    let secret = crate::node::read_bounded(&file, 4096)
        .ok()
        .filter(|secret| !secret.trim_ascii().is_empty());
    let (kind, what) = match secret {
        Some(secret) => ("secret", secret.trim_ascii().to_vec()),
        None => ("name", name(place).into_bytes()),
    };
    derive(&[b"haulboot state v1", kind.as_bytes(), &what])
}

fn name(place: &Place) -> String {
    let limit = image_layout::limits::CLUSTER_YAML_BYTES;
    let bytes = crate::node::read_bounded(&place.cluster_yaml, limit).unwrap_or_default();
    image_layout::cluster::parse(&bytes).map_or_else(|_| String::new(), |cluster| cluster.name)
}

/// A UUID of the parts, which are kept apart by line breaks.
pub(super) fn derive(parts: &[&[u8]]) -> Uuid {
    let mut hasher = Hasher::sha256();
    for part in parts {
        hasher.update(part);
        hasher.update(b"\n");
    }
    let mut bytes = [0; 16];
    if let Digest::Sha256(hash) = hasher.finish() {
        for (byte, from) in bytes.iter_mut().zip(hash) {
            *byte = from;
        }
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_secret_decides_and_the_name_only_where_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::below(dir.path());
        let config = |name: &str| {
            let text = format!("apiVersion: haulboot.dev/v1\nkind: Cluster\nname: {name}\n");
            fs::create_dir_all(place.cluster_yaml.parent().unwrap()).unwrap();
            fs::write(&place.cluster_yaml, text).unwrap();
            uuid(&place)
        };
        let (edge, core) = (config("edge"), config("core"));
        assert_ne!(edge, core);
        assert_eq!(edge, config("edge"));
        let secrets = dir.path().join("run/haulboot/haul/secrets");
        fs::create_dir_all(&secrets).unwrap();
        fs::write(secrets.join("cluster-secret"), "abc\n").unwrap();
        let secret = uuid(&place);
        assert!(secret != edge && secret != core);
        assert_eq!(secret, config("edge"));
        assert_eq!(secret.get_version_num(), 8);
    }
}
