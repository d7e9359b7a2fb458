//! Why what k3s needs could not be laid down.

use std::io;
use std::path::PathBuf;

use image_layout::Arch;
use image_layout::status::Problem;

/// Why; [`Self::problem`] is the screen.
#[derive(Debug, thiserror::Error)]
pub(in crate::node) enum FilesError {
    /// A file or directory of the node.
    #[error("{action} {path}: {source}", path = .path.display())]
    Io {
        /// In the gerund: `writing`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// HAUL has no k3s for this machine.
    #[error("this stick has no k3s for {arch}{}", only_for(.others))]
    NoK3s {
        /// This machine's.
        arch: Arch,
        /// Those for which it has one.
        others: Vec<Arch>,
    },
    /// HAUL has no secrets at all.
    #[error("this stick has no credentials of a cluster")]
    NoSecrets,
    /// HAUL has the secrets of an agent, and this machine is a server.
    #[error("this stick is for agents, and {name} is a server")]
    AgentsOnly {
        /// The node.
        name: String,
    },
    /// A secret is there and can't be meant.
    #[error("the file secrets/{file} on this stick is damaged")]
    Damaged {
        /// Below the directory of secrets.
        file: String,
    },
    /// The disk with k3s's data holds the authorities of another cluster.
    #[error("the data in {data_dir} belong to another cluster: its {file} is another one", data_dir = .data_dir.display())]
    OtherCluster {
        /// k3s's data directory.
        data_dir: PathBuf,
        /// Which certificate, `server-ca.crt`.
        file: &'static str,
    },
    /// `data-dir` can't be meant.
    #[error("`data-dir: {0}` is no absolute path of a directory")]
    DataDir(String),
    /// `cluster.yaml` has no server that an agent could join.
    #[error("cluster.yaml has no node with role: server")]
    NoServer,
    /// The server's address is known to nobody but itself.
    #[error("the server {0} has no address in cluster.yaml")]
    ServerWithoutAddress(String),
}

fn only_for(others: &[Arch]) -> String {
    let names: Vec<String> = others.iter().map(Arch::to_string).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(", only for {}", names.join(" and ")),
    }
}

impl FilesError {
    /// The screen.
    pub(in crate::node) fn problem(&self) -> Problem {
        let edit = "Put the stick into any computer, open cluster.yaml on the drive HAULCFG and";
        let mend = match self {
            FilesError::Io { .. } => "Restart the machine. If it happens again, the memory or the \
                 disk given by `state:` may be full or broken: see the figures of stage state."
                .to_owned(),
            FilesError::NoK3s { arch, .. } => format!(
                "Write the stick again with a k3s for this machine: `builder --k3s FILE` for \
                 {arch}; it may be given once for each architecture."
            ),
            FilesError::NoSecrets => "The image was made by an older builder. Write it again, \
                 with `--credentials DIR` if the cluster has sticks already."
                .to_owned(),
            FilesError::AgentsOnly { name } => format!(
                "Boot this machine from a stick made without `--role agent`, or {} make {name} an \
                 agent.",
                lower(edit)
            ),
            FilesError::Damaged { .. } => "Write the stick again, with the credentials of its \
                 cluster: `builder --credentials DIR`."
                .to_owned(),
            FilesError::OtherCluster { .. } => format!(
                "Boot from the stick of that cluster. If its data are of no more use, {} set \
                 `wipe: true` under `state:` for one boot: everything on the disk is lost then.",
                lower(edit)
            ),
            FilesError::DataDir(_) => {
                format!("{edit} change or remove `data-dir:` under `k3s:`.")
            }
            FilesError::NoServer => format!(
                "{edit} list the server under `nodes:`, or give its address as \
                 `server: https://ADDRESS:6443` under `k3s:`."
            ),
            FilesError::ServerWithoutAddress(name) => {
                format!("{edit} give {name} an `address:`, so that agents know where it is.")
            }
        };
        Problem {
            what: format!("{}.", upper(&self.to_string())),
            mend,
        }
    }
}

fn upper(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}

fn lower(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().collect::<String>() + letters.as_str()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_k3s_names_the_architectures_that_have_one() {
        let error = FilesError::NoK3s {
            arch: Arch::Arm64,
            others: vec![Arch::X86_64],
        };
        let problem = error.problem();
        assert_eq!(
            problem.what,
            "This stick has no k3s for arm64, only for x86_64."
        );
        assert!(problem.mend.contains("builder --k3s FILE"), "{problem:?}");
    }
}
