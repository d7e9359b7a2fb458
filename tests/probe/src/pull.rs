//! Pulls images in the way of containerd (containerd: core/remotes/docker): through the mirrors of
//! `registries.yaml`, with `ns=` wherever the endpoint is not the registry itself.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::http::{self, Response};
use crate::registries::{Endpoint, Registries};
use crate::report::{self, condition, verdict};

const FILE: &str = "/etc/rancher/k3s/registries.yaml";
/// The log of the node's registry.
const LOG: &str = "/run/haulboot/logs/registry.log";
/// How long a line may take to get there, and how often it is looked for.
const LOG_PATIENCE: Duration = Duration::from_secs(10);
const LOG_PAUSE: Duration = Duration::from_millis(250);
const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*";

/// An image's name in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    registry: String,
    repository: String,
    tag: String,
}

impl Image {
    /// Reads a name as containerd does: Docker Hub unless the first part is a host.
    pub fn parse(text: &str) -> Image {
        let (name, tag) = match text.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (text, "latest"),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
                (host, rest.to_owned())
            }
            Some(_) => ("docker.io", name.to_owned()),
            None => ("docker.io", format!("library/{name}")),
        };
        Image {
            registry: registry.to_owned(),
            repository,
            tag: tag.to_owned(),
        }
    }
}

/// Reads `registries.yaml`, pulls the pause image and another one, and looks into the registry's
/// log for how these requests came in.
pub fn check(config: &Config) -> Result<()> {
    let file = config.get("private-registry").unwrap_or(FILE);
    let text = std::fs::read_to_string(file).with_context(|| format!("open {file}"))?;
    let registries = Registries::parse(&text).map_err(|why| anyhow!("{file}: {why}"))?;
    let has = |name: &str| {
        registries
            .endpoints(name)
            .is_ok_and(|found| !found.is_empty())
    };
    condition(
        "registries.yaml has a mirror for docker.io",
        has("docker.io"),
        text.len(),
    );
    condition(
        "registries.yaml has one for every other registry",
        has("any.example"),
        text.len(),
    );
    condition(
        "no registry outside is asked",
        config.is_set("disable-default-registry-endpoint"),
        "disable-default-registry-endpoint",
    );

    let pause = config.get("pause-image").unwrap_or(crate::pause_image());
    let pause = Image::parse(pause);
    verdict(
        "the pause image can be pulled",
        pull(&registries, &pause).map_err(|e| format!("{e:#}")),
    );
    match another(&registries, &pause) {
        Ok(Some(image)) => {
            let pulled = pull(&registries, &image).map_err(|error| format!("{error:#}"));
            verdict("another image can be pulled", pulled);
        }
        Ok(None) => report::log("there is no other image in the registry"),
        Err(error) => condition(
            "the registry lists its repositories",
            false,
            format!("{error:#}"),
        ),
    }
    if Path::new(LOG).exists() {
        verdict(
            "the registry saw ns=",
            logged(&pause).map_err(|error| format!("{error:#}")),
        );
    }
    Ok(())
}

/// Pulls everything of an image; says how much that was.
pub fn pull(registries: &Registries, image: &Image) -> Result<String> {
    let endpoints = registries
        .endpoints(&image.registry)
        .map_err(|why| anyhow!(why))?;
    let mut why = anyhow!("no endpoint for {}", image.registry);
    for endpoint in &endpoints {
        match (Puller { endpoint, image }).pull() {
            Ok((blobs, bytes)) => {
                report::event(&json!({
                    "event": "pulled", "image": format!("{}/{}:{}", image.registry, image.repository, image.tag),
                    "blobs": blobs, "bytes": bytes,
                }));
                return Ok(format!(
                    "{}/{}:{} from {}: {blobs} blobs, {bytes} bytes",
                    image.registry, image.repository, image.tag, endpoint.base
                ));
            }
            Err(error) => why = error,
        }
    }
    Err(why)
}

struct Puller<'a> {
    endpoint: &'a Endpoint,
    image: &'a Image,
}

impl Puller<'_> {
    fn pull(&self) -> Result<(usize, u64)> {
        let head = self.ask("HEAD", &format!("manifests/{}", self.image.tag))?;
        let digest = head
            .header("docker-content-digest")
            .context("no digest in the answer")?;
        let mut manifest = self.json(&format!("manifests/{digest}"), digest)?;
        if let Some(members) = manifest["manifests"].as_array() {
            let arch = match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            };
            let ours = members
                .iter()
                .find(|m| m["platform"]["architecture"] == arch);
            let ours = ours.and_then(|member| member["digest"].as_str());
            let digest = ours
                .with_context(|| format!("no image for {arch}"))?
                .to_owned();
            manifest = self.json(&format!("manifests/{digest}"), &digest)?;
        }
        let mut bytes = 0;
        let mut blobs = vec![manifest["config"].clone()];
        blobs.extend(
            manifest["layers"]
                .as_array()
                .context("no layers")?
                .iter()
                .cloned(),
        );
        for blob in &blobs {
            let digest = blob["digest"].as_str().context("a blob without digest")?;
            let body = self.ask("GET", &format!("blobs/{digest}"))?.body;
            verify(digest, &body)?;
            bytes += body.len() as u64;
        }
        Ok((blobs.len(), bytes))
    }

    fn json(&self, what: &str, digest: &str) -> Result<Value> {
        let answer = self.ask("GET", what)?;
        verify(digest, &answer.body)?;
        Ok(serde_json::from_slice(&answer.body)?)
    }

    fn ask(&self, method: &str, what: &str) -> Result<Response> {
        let ns = match self.endpoint.authority == self.image.registry {
            true => String::new(),
            false => format!("?ns={}", self.image.registry.replace(':', "%3A")),
        };
        let path = format!("/{}/{what}{ns}", self.image.repository);
        let answer = get(self.endpoint, method, &path)?;
        ensure!(
            answer.status == 200,
            "{method} {}{path}: {} {}",
            self.endpoint.base,
            answer.status,
            http::reason(answer.status)
        );
        Ok(answer)
    }
}

/// Asks an endpoint for a path below its `/v2`.
pub fn get(endpoint: &Endpoint, method: &str, path: &str) -> Result<Response> {
    let Some(rest) = endpoint.base.strip_prefix("http://") else {
        bail!("{}: the probe pulls without TLS", endpoint.base);
    };
    let (_, base) = rest.split_once('/').unwrap_or((rest, ""));
    let authority = match endpoint.authority.contains(':') {
        true => endpoint.authority.clone(),
        false => format!("{}:80", endpoint.authority),
    };
    let ask = |headers: &[(&str, &str)]| {
        let mut stream = http::connect(&authority)?;
        let path = format!("/{base}{path}");
        http::ask(&mut stream, method, &endpoint.authority, &path, headers)
    };
    let answer = ask(&[("Accept", ACCEPT)])?;
    let Some(authorization) = &endpoint.authorization else {
        return Ok(answer);
    };
    if answer.status != 401 {
        return Ok(answer);
    }
    // it says who it is only where it is asked, and asked for that
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    ensure!(
        challenge.to_ascii_lowercase().starts_with("basic "),
        "{authority} asks who is there by {challenge:?}"
    );
    ask(&[("Accept", ACCEPT), ("Authorization", authorization)])
}

/// Checks bytes against their digest.
pub fn verify(digest: &str, body: &[u8]) -> Result<()> {
    let found = format!("sha256:{}", hex::encode(Sha256::digest(body)));
    ensure!(found == digest, "{digest} has the bytes of {found}");
    Ok(())
}

/// A repository with an image that is not the pause image, from the catalog.
fn another(registries: &Registries, pause: &Image) -> Result<Option<Image>> {
    let endpoints = registries
        .endpoints("docker.io")
        .map_err(|why| anyhow!(why))?;
    let endpoint = endpoints.first().context("docker.io has no mirror")?;
    let list = |path: &str, key: &str| -> Result<Vec<String>> {
        let answer = get(endpoint, "GET", path)?;
        ensure!(answer.status == 200, "{path}: {}", answer.status);
        let value: Value = serde_json::from_slice(&answer.body)?;
        let items = value[key].as_array().cloned().unwrap_or_default();
        Ok(items
            .iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect())
    };
    for name in list("/_catalog", "repositories")? {
        // only whole names say which registry an image is of
        if !name
            .split('/')
            .next()
            .is_some_and(|host| host.contains('.'))
        {
            continue;
        }
        for tag in list(&format!("/{name}/tags/list"), "tags")? {
            let image = Image::parse(&format!("{name}:{tag}"));
            if image.repository == pause.repository {
                continue;
            }
            // charts and files are in the catalog too
            if pull(registries, &image).is_ok() {
                return Ok(Some(image));
            }
        }
    }
    Ok(None)
}

/// Looks for the pull in the log, which PID 1 writes a little later.
fn logged(pause: &Image) -> Result<String> {
    let deadline = Instant::now() + LOG_PATIENCE;
    loop {
        let log = std::fs::read(LOG).with_context(|| format!("open {LOG}"))?;
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| line.contains(&pause.repository))
            .collect();
        let ns = format!("ns={}", pause.registry);
        let with = lines.iter().filter(|line| line.contains(&ns)).count();
        if with > 0 {
            return Ok(format!("{with} of {} lines", lines.len()));
        }
        ensure!(
            Instant::now() < deadline,
            "{} lines name {}, none of them has {ns}",
            lines.len(),
            pause.repository
        );
        std::thread::sleep(LOG_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_read_as_containerd_reads_them() {
        for (text, registry, repository, tag) in [
            (
                "rancher/mirrored-pause:3.6",
                "docker.io",
                "rancher/mirrored-pause",
                "3.6",
            ),
            ("busybox", "docker.io", "library/busybox", "latest"),
            ("quay.io/a/b:1", "quay.io", "a/b", "1"),
            ("localhost:5000/a", "localhost:5000", "a", "latest"),
        ] {
            let image = Image::parse(text);
            assert_eq!(image.registry, registry, "{text}");
            assert_eq!(
                (image.repository.as_str(), image.tag.as_str()),
                (repository, tag),
                "{text}"
            );
        }
    }
}
