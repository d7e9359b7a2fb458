//! `/logs/NAME`: the bounded logs that PID 1 keeps of each process.
//!
//! They name what a cluster runs, so they answer this machine alone unless `cluster.yaml` says
//! `registry: {logs: true}`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use image_layout::limits::{LOG_BYTES, STATUS_BYTES};
use image_layout::status::Status;

use super::answers;
use super::state::Registry;

const TEXT: &str = "text/plain; charset=utf-8";
/// Logs that are listed; PID 1 keeps a handful.
const LOGS: usize = 64;

/// Where logs come from.
#[derive(Clone, Debug)]
pub(super) struct LogSource {
    /// The directory with `NAME.log` and, once that was full, `NAME.log.1` before it.
    pub(super) directory: PathBuf,
    /// The node's state, which says what `cluster.yaml` allows. That file itself is root's alone.
    pub(super) status: PathBuf,
}

impl LogSource {
    /// Whether other machines may read them. A file that can't be read allows nothing.
    fn is_open(&self) -> bool {
        let json = read(&self.status, STATUS_BYTES).unwrap_or_default();
        let status = serde_json::from_slice::<Status>(&json).unwrap_or_default();
        status.node.is_some_and(|node| node.logs)
    }

    /// The names of all logs.
    fn names(&self) -> Vec<String> {
        let name = |path: PathBuf| {
            let log = path.extension() == Some(OsStr::new("log"));
            let stem = path.file_stem().filter(|_| log)?;
            stem.to_str().map(str::to_owned)
        };
        let entries = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| name(entry.path()))
            .take(LOGS)
            .collect();
        names.sort();
        names
    }
}

/// Answers with a log, or with the names of all where `name` is empty.
pub(super) fn answer(registry: &Registry, client: Option<IpAddr>, name: &str) -> Response {
    let none = || {
        answers::text(
            StatusCode::NOT_FOUND,
            "no such log; /logs/ says which there are",
        )
    };
    let Some(source) = &registry.logs else {
        return none();
    };
    if !client.is_some_and(|client| client.is_loopback()) && !source.is_open() {
        let line = "logs are for the node itself; `registry: {logs: true}` in cluster.yaml shows \
                    them to other machines";
        return answers::text(StatusCode::FORBIDDEN, line);
    }
    let names = source.names();
    let mut response = match name {
        "" => answers::text(StatusCode::OK, &names.join("\n")),
        // looked up among the names; the request's text becomes no path
        name => match names.iter().find(|known| *known == name) {
            Some(known) => match whole(&source.directory, known) {
                Ok(log) => answers::whole(StatusCode::OK, TEXT, log),
                Err(error) => {
                    tracing::warn!(name = %known, %error, "reading a log failed");
                    answers::text(StatusCode::INTERNAL_SERVER_ERROR, "the log can't be read")
                }
            },
            None => none(),
        },
    };
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}

/// What was kept of a log, the older part first. It lies in memory: this never waits.
fn whole(directory: &Path, name: &str) -> io::Result<Vec<u8>> {
    let mut log = match read(&directory.join(format!("{name}.log.1")), LOG_BYTES) {
        Ok(older) => older,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    log.extend(read(&directory.join(format!("{name}.log")), LOG_BYTES)?);
    Ok(log)
}

fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::body::Body;
    use http_body_util::BodyExt as _;

    use super::super::status::StatusSource;
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(192, 168, 0, 9)));

    fn registry(directory: &Path) -> Registry {
        let status = StatusSource::Own(Box::default());
        let mut registry = Registry::empty(status, String::new());
        registry.logs = Some(LogSource {
            directory: directory.to_owned(),
            status: directory.join("status.json"),
        });
        registry
    }

    async fn body(response: Response<Body>) -> (u16, String) {
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_log_is_its_older_part_and_its_newer_one_and_others_are_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("k3s.log.1", "first\n");
        write("k3s.log", "second\n");
        write("node.log", "node\n");
        write("secret", "secret");
        let registry = registry(directory.path());
        let get = async |name: &str| body(answer(&registry, HERE, name)).await;
        assert_eq!(get("k3s").await, (200, "first\nsecond\n".to_owned()));
        assert_eq!(get("").await, (200, "k3s\nnode\n".to_owned()));
        for name in ["secret", "k3s.log", "../secret", "K3S", "..", "node\0"] {
            assert_eq!(get(name).await.0, 404, "{name:?}");
        }
    }

    #[tokio::test]
    async fn other_machines_read_logs_only_where_cluster_yaml_says_so() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("k3s.log"), "k3s\n").unwrap();
        let registry = registry(directory.path());
        let get = async |client| body(answer(&registry, client, "k3s")).await.0;
        assert_eq!(get(HERE).await, 200);
        assert_eq!(get(THERE).await, 403);
        assert_eq!(get(None).await, 403);
        let status = |json: &str| fs::write(directory.path().join("status.json"), json).unwrap();
        for (json, answer) in [
            ("{\"node\": {\"logs\": false}}", 403),
            ("{\"node\": {\"logs\": true}}", 200),
            ("{\"node\": {}}", 403),
            ("{\"node\": {\"logs\": true}", 403),
        ] {
            status(json);
            assert_eq!(get(THERE).await, answer, "{json}");
        }
    }

    #[tokio::test]
    async fn a_registry_that_is_no_nodes_has_no_logs() {
        let registry = Registry::empty(StatusSource::Own(Box::default()), String::new());
        assert_eq!(body(answer(&registry, HERE, "")).await.0, 404);
    }
}
