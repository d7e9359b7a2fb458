//! `builder kubeconfig`: what it is told.

use std::path::PathBuf;

use clap::Args;

/// Print the administrator's kubeconfig of an image's cluster
///
/// It lies beside the image since that was written. With --server it leads to another address:
/// a node that got its address from a DHCP server, or a port that is forwarded to it.
#[derive(Args, Clone, Debug)]
pub struct KubeconfigArgs {
    /// Image, or its directory of credentials
    #[arg(value_name = "IMAGE|DIR")]
    pub image: PathBuf,

    /// Address of the server, with or without port
    #[arg(long, value_name = "ADDRESS")]
    pub server: Option<String>,
}
