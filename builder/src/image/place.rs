//! What the place of an image must not be: an input, or within one.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::ImageError;
use super::output::{Output, parent};
use super::request::Request;
use crate::credentials;

/// A slip of the hand must not cost the haul: `--haul haul.tar.zst -o haul.tar.zst`. Nor may an
/// image lie in a directory that is read for an image.
pub(super) fn refuse_inputs(
    request: &Request,
    manifests: &[PathBuf],
    output: &Output,
) -> Result<(), ImageError> {
    let Output::File(path) = output else {
        return Ok(());
    };
    let refuse = |why: String| ImageError::Output {
        path: path.clone(),
        why,
    };
    let hauls =
        crate::haul::files(&request.hauls).map_err(|error| ImageError::Haul(Box::new(error)))?;
    let others = [&request.k3s, &request.boot_packs, &request.firmware];
    let inputs = hauls
        .iter()
        .chain(others.into_iter().flatten())
        .chain(&request.config)
        .chain(&request.k3s_images)
        .chain(manifests);
    // the kubeconfig beside the image is replaced with it
    let written = [path.clone(), credentials::kubeconfig_beside(path)];
    for target in written.iter().filter_map(|path| identity(path)) {
        if let Some(input) = inputs.clone().find(|input| identity(input) == Some(target)) {
            return Err(refuse(format!(
                "it is one of the inputs ({})",
                input.display()
            )));
        }
    }

    let Ok(place) = fs::canonicalize(parent(path)) else {
        return Ok(());
    };
    let own = credentials::beside(path);
    let read = [&request.hauls, &request.firmware];
    let directories = read.into_iter().flatten().map(PathBuf::as_path);
    let directories = directories.chain(manifests.iter().map(PathBuf::as_path));
    let secret = request
        .credentials
        .as_deref()
        .into_iter()
        .chain([own.as_path()]);
    for directory in directories.chain(secret) {
        let within = fs::canonicalize(directory)
            .is_ok_and(|directory| directory.is_dir() && place.starts_with(directory));
        if within {
            return Err(refuse(format!("it would lie in {}", directory.display())));
        }
    }
    // one that is not there yet
    let is_directory_of_credentials = |path: &Path| {
        request.credentials.as_deref().is_some_and(|directory| {
            fs::canonicalize(parent(directory)).is_ok_and(|above| above == place)
                && directory.file_name() == path.file_name()
        })
    };
    if is_directory_of_credentials(path) {
        let why = "it is the directory of the cluster's credentials";
        return Err(refuse(why.to_owned()));
    }
    if !request.k3s.is_empty() && !request.agents_only {
        let kubeconfig = credentials::kubeconfig_beside(path);
        let refuse = |why: &str| ImageError::Output {
            path: kubeconfig.clone(),
            why: format!("the cluster's kubeconfig goes there, and {why}"),
        };
        if is_directory_of_credentials(&kubeconfig) {
            return Err(refuse("it is the directory of its credentials"));
        }
        if fs::metadata(&kubeconfig).is_ok_and(|found| !found.is_file()) {
            return Err(refuse("it is no file"));
        }
    }
    Ok(())
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}
