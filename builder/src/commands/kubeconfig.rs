//! `builder kubeconfig`.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use anyhow::Context as _;
use image_layout::paths::secrets;

use crate::cli::kubeconfig::KubeconfigArgs;
use crate::credentials::{self, CredentialsError};

/// Bytes of a kubeconfig that are read; one that the builder wrote has some 5 KiB.
const BYTES: u64 = 1 << 20;

/// Prints the kubeconfig, for another server if one is named.
///
/// # Errors
/// If there is none, or the address can't be one.
pub fn run(args: &KubeconfigArgs) -> anyhow::Result<()> {
    let places = match args.image.is_dir() {
        true => [
            args.image.join(secrets::KUBECONFIG),
            args.image.join(secrets::KUBECONFIG),
        ],
        false => [
            credentials::kubeconfig_beside(&args.image),
            credentials::beside(&args.image).join(secrets::KUBECONFIG),
        ],
    };
    let Some(path) = places.iter().find(|path| path.is_file()) else {
        let [first, second] = places;
        return Err(CredentialsError::Nowhere { first, second }.into());
    };
    let reading = || format!("reading {}", path.display());
    let mut bytes = Vec::new();
    File::open(path)
        // one byte more than allowed, so that a larger file is noticed and not cut off
        .and_then(|file| file.take(BYTES + 1).read_to_end(&mut bytes))
        .with_context(reading)?;
    let mut text = match bytes.len() as u64 > BYTES {
        true => Err(CredentialsError::NoKubeconfig),
        false => credentials::kubeconfig_text(bytes),
    }
    .with_context(reading)?;
    if let Some(server) = &args.server {
        text = credentials::with_server(text.as_bytes(), server)
            .with_context(|| format!("changing the server of {}", path.display()))?;
    }
    io::stdout()
        .write_all(text.as_bytes())
        .context("writing to standard output")
}
