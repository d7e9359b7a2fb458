//! Leases kept for the next run of this process, in memory as everything on a node: they end with
//! the boot.

use std::fs;
use std::path::{Path, PathBuf};

use image_layout::cluster::Mac;
use image_layout::paths;

use super::Lease;
use crate::node::{etc, read_bounded};

/// Bytes of one lease at most.
const LEASE_BYTES: u64 = 64 << 10;

/// Where leases are kept, one file a card.
#[derive(Debug)]
pub(in crate::node::network) struct Store {
    dir: PathBuf,
}

impl Store {
    /// The store of a node whose root directory is `root`.
    pub(in crate::node::network) fn below(root: &Path) -> Store {
        let run = root.join(paths::node::RUN.trim_start_matches('/'));
        Store {
            dir: run.join("leases"),
        }
    }

    /// The lease that a card had when this process last ran, unless it has ended.
    pub(in crate::node::network) fn load(&self, mac: Mac) -> Option<Lease> {
        let bytes = read_bounded(&self.path(mac), LEASE_BYTES).ok()?;
        let lease: Lease = serde_json::from_slice(&bytes).ok()?;
        (lease.end() > super::uptime()).then_some(lease)
    }

    /// Keeps a lease, or forgets it. Failing costs a restart its memory and nothing else.
    pub(in crate::node::network) fn keep(&self, mac: Mac, lease: Option<&Lease>) {
        let path = self.path(mac);
        let Some(lease) = lease else {
            let _ = fs::remove_file(path);
            return;
        };
        let kept = serde_json::to_string(lease).map(|text| etc::put(&path, &text));
        match kept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("{error}"),
            Err(error) => tracing::warn!("keeping a lease: {error}"),
        }
    }

    fn path(&self, mac: Mac) -> PathBuf {
        let name = mac.to_string().replace(':', "");
        self.dir.join(format!("{name}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn a_lease_is_found_again_until_it_ends_or_is_lost() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::below(root.path());
        assert_eq!(store.load(MAC), None);
        let mut lease = super::super::tests::lease("10.0.0.7/24");
        lease.since = super::super::uptime();
        store.keep(MAC, Some(&lease));
        assert_eq!(store.load(MAC), Some(lease.clone()));
        assert_eq!(store.load(Mac([2, 0, 0, 0, 0, 2])), None);
        lease.since = std::time::Duration::ZERO;
        lease.times.expire = std::time::Duration::from_nanos(1);
        store.keep(MAC, Some(&lease));
        assert_eq!(store.load(MAC), None, "it has ended");
        store.keep(MAC, None);
        fs::write(
            root.path().join("run/haulboot/leases/020000000001.json"),
            "{}",
        )
        .unwrap();
        assert_eq!(store.load(MAC), None, "it is no lease");
    }
}
