//! What k3s's iptables-detect.sh does on first use (k3s-root): links in `bin/aux` of the data
//! directory are replaced.

use std::path::Path;

use anyhow::{Context, Result};

use crate::launcher::relink;

/// The links.
const LINKS: [&str; 6] = [
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
];
/// Where they lead afterwards.
const TARGET: &str = "xtables-nft-multi";

/// Replaces the six links, and makes and removes one more.
pub fn detect(place: &Path) -> Result<String> {
    let aux = place.join("bin/aux");
    for name in LINKS {
        relink(Path::new(TARGET), &aux.join(name))?;
        let now = std::fs::read_link(aux.join(name))?;
        anyhow::ensure!(
            now == Path::new(TARGET),
            "{name} leads to {}",
            now.display()
        );
    }
    let probe = aux.join("k3s-probe");
    relink(Path::new(TARGET), &probe)?;
    std::fs::remove_file(&probe).context("removing a link")?;
    Ok(format!("six links in {}", aux.display()))
}
