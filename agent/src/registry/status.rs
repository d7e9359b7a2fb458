//! `/status`: the node's state as JSON.

use std::io::Read as _;
use std::path::PathBuf;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use image_layout::limits::STATUS_BYTES;
use image_layout::status::{RegistryStatus, Status};

use super::answers;
use super::state::Registry;

/// Where the state comes from.
#[derive(Clone, Debug)]
pub(super) enum StatusSource {
    /// The file that PID 1 writes, read anew for each request.
    File(PathBuf),
    /// What this process knows by itself.
    Own(Box<Status>),
}

/// Answers with the state.
pub(super) fn answer(registry: &Registry) -> Response {
    let mut response = match &registry.status {
        StatusSource::Own(status) => {
            let mut status = status.clone();
            status.registry = Some(of_registry(registry));
            answers::json(StatusCode::OK, &status)
        }
        StatusSource::File(path) => match read(path) {
            Ok(bytes) => match serde_json::from_slice::<Status>(&bytes) {
                Ok(mut status) => {
                    status.registry = Some(of_registry(registry));
                    answers::json(StatusCode::OK, &status)
                }
                // better than nothing for whoever looks what is wrong
                Err(_) => answers::whole(StatusCode::OK, "application/json", bytes),
            },
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "reading the status failed");
                let line = "PID 1 has not written the node's state yet; try again";
                answers::text(StatusCode::NOT_FOUND, line)
            }
        },
    };
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}

/// The state, as far as it is known.
pub(super) fn current(registry: &Registry) -> Option<Status> {
    match &registry.status {
        StatusSource::Own(status) => Some(Status::clone(status)),
        StatusSource::File(path) => serde_json::from_slice(&read(path).ok()?).ok(),
    }
}

/// What only this process knows.
fn of_registry(registry: &Registry) -> RegistryStatus {
    RegistryStatus {
        medium_errors: registry.medium.errors(),
        bytes_read: registry.medium.bytes_read(),
        integrity: registry.integrity.status(),
    }
}

/// Reads the file. It lies in memory: this never waits.
fn read(path: &PathBuf) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(STATUS_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
