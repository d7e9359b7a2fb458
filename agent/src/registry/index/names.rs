//! From the name in a request to repositories of the haul.
//!
//! A client says where an image comes from in one of three ways:
//!
//! - `?ns=HOST` (OCI distribution-spec, "Registry Proxying"; containerd, k3s, rke2, Talos): the
//!   host is a key of our table and nothing else; an unknown one has no repositories.
//! - `/v2/HOST/REPOSITORY`, where the first component is a host of the haul (CRI-O, podman,
//!   people). Wins over a repository without host that begins alike. Since a repository's name
//!   can't have a colon, `HOST_PORT` stands for `HOST:PORT`.
//! - `/v2/REPOSITORY` (Docker, Helm): Hauler's own repository of that name, then Docker Hub's; where
//!   there is neither, every other host's. Only where the haul has nothing at all under that name,
//!   charts that came from a repository so called.

use std::collections::BTreeSet;

use axum::http::HeaderValue;
use image_layout::reference::DOCKER_HUB;
use image_layout::{Digest, Host, Repository, Tag};

use super::{Index, TaggedRepository};

/// A host as the first component of a path: `HOST_PORT` where it has a port.
pub(crate) fn as_component(host: &Host) -> String {
    host.as_str().replace(':', "_")
}

/// A name that means no repository of the haul.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::registry) enum NameError {
    /// The name breaks the grammar.
    Invalid,
    /// The haul has nothing of that host.
    UnknownNamespace,
    /// The haul has no such repository.
    Unknown,
}

/// A tag that means no manifest.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::registry) enum TagError {
    /// No repository in scope has it.
    Unknown,
    /// Several hosts have it with different contents; their repositories' full names.
    Ambiguous(Vec<String>),
}

/// The repositories that a name means.
#[derive(Debug)]
pub(in crate::registry) struct Scope<'a> {
    /// The host that `ns` named, in our words, for `OCI-Namespace`.
    pub(in crate::registry) namespace: Option<&'a HeaderValue>,
    /// At least one. Of several, either the first that has a tag counts, or, if `alike`, none is
    /// better than the other.
    repositories: Vec<&'a TaggedRepository>,
    alike: bool,
}

impl Index {
    /// What `name` of a request means, with the value of `ns` if there was one.
    pub(in crate::registry) fn scope(
        &self,
        name: &str,
        ns: Option<&str>,
    ) -> Result<Scope<'_>, NameError> {
        match ns.filter(|ns| !ns.is_empty()) {
            Some(ns) => self.scope_of_namespace(name, ns),
            None => self.scope_of_path(name),
        }
    }

    /// The host of the haul that a client's string means.
    pub(in crate::registry) fn host(&self, text: &str) -> Option<(&Host, &HeaderValue)> {
        self.hosts.get_key_value(&text.parse::<Host>().ok()?)
    }

    /// The host of the haul that the first component of a path means.
    fn host_of_component(&self, component: &str) -> Option<&Host> {
        let with_port = || {
            let (name, port) = component.rsplit_once('_')?;
            let number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            number.then(|| self.host(&format!("{name}:{port}")))?
        };
        self.host(component)
            .or_else(with_port)
            .map(|(host, _)| host)
    }

    fn scope_of_namespace(&self, name: &str, ns: &str) -> Result<Scope<'_>, NameError> {
        let (host, namespace) = self.host(ns).ok_or(NameError::UnknownNamespace)?;
        // a mirror configured with the host in its path gets both
        let stripped = name
            .split_once('/')
            .and_then(|(first, rest)| (self.host_of_component(first)? == host).then_some(rest));
        let found = self
            .repository_of(host, name)
            .or_else(|| self.repository_of(host, stripped?));
        match found {
            Some(repository) => Ok(Scope {
                namespace: Some(namespace),
                repositories: vec![repository],
                alike: false,
            }),
            None => Err(Index::unknown_or_invalid(stripped.unwrap_or(name))),
        }
    }

    fn scope_of_path(&self, name: &str) -> Result<Scope<'_>, NameError> {
        let with_host = name
            .split_once('/')
            .and_then(|(first, rest)| self.repository_of(self.host_of_component(first)?, rest));
        if let Some(repository) = with_host {
            return Ok(Scope {
                namespace: None,
                repositories: vec![repository],
                alike: false,
            });
        }
        let after_host = name
            .split_once('/')
            .filter(|(first, _)| self.host_of_component(first).is_some())
            .map_or(name, |(_, rest)| rest);
        let path: Repository = name
            .parse()
            .map_err(|_| Index::unknown_or_invalid(after_host))?;
        let of_path = self.by_path.get(&path).map_or(&[][..], Vec::as_slice);
        let of_path: Vec<_> = of_path
            .iter()
            .filter_map(|&at| self.repositories.get(at))
            .collect();
        let completed = self.repository_of(&Host::docker_hub(), name);
        // what the haul has under a name itself goes before what a registry called so
        let mut all_of_name = completed.into_iter().chain(of_path.iter().copied());
        let own = all_of_name.any(|it| !it.only_origin);
        let all = || of_path.iter().copied().filter(|it| !own || !it.only_origin);
        let preferred = |repository: &&TaggedRepository| {
            repository
                .host
                .as_ref()
                .is_none_or(|host| host.as_str() == DOCKER_HUB)
        };
        let mut repositories: Vec<_> = all().filter(preferred).collect();
        // Hauler's own have no other name; Docker Hub's can be asked for with their host
        repositories.sort_by_key(|repository| repository.host.is_some());
        let alike = repositories.is_empty();
        if alike {
            repositories = all().collect();
        }
        if repositories.is_empty() {
            repositories.extend(completed);
        }
        if repositories.is_empty() {
            return Err(NameError::Unknown);
        }
        Ok(Scope {
            namespace: None,
            repositories,
            alike,
        })
    }

    /// A host's repository; Docker Hub's short names are completed.
    fn repository_of(&self, host: &Host, name: &str) -> Option<&TaggedRepository> {
        let find = |path: Repository| {
            let at = *self.by_name.get(&(Some(host.clone()), path))?;
            self.repositories.get(at)
        };
        let completed = || {
            let short = host.as_str() == DOCKER_HUB && !name.contains('/');
            short.then(|| find(format!("library/{name}").parse().ok()?))?
        };
        let exact = find(name.parse().ok()?);
        match exact.filter(|repository| !repository.only_origin) {
            Some(own) => Some(own),
            None => completed().or(exact),
        }
    }

    fn unknown_or_invalid(name: &str) -> NameError {
        match name.parse::<Repository>() {
            Ok(_) => NameError::Unknown,
            Err(_) => NameError::Invalid,
        }
    }
}

impl Scope<'_> {
    /// The manifest that a tag means.
    pub(in crate::registry) fn tag(&self, tag: &Tag) -> Result<Digest, TagError> {
        let mut having = self
            .repositories
            .iter()
            .filter_map(|repository| Some((*repository.tags.get(tag)?, repository)));
        let (first, _) = having.next().ok_or(TagError::Unknown)?;
        if self.alike && having.any(|(digest, _)| digest != first) {
            return Err(TagError::Ambiguous(self.full_names()));
        }
        Ok(first)
    }

    /// All tags, sorted by their bytes; or the full names of repositories none of which is meant.
    pub(in crate::registry) fn tags(&self) -> Result<BTreeSet<&Tag>, Vec<String>> {
        if self.alike && self.repositories.len() > 1 {
            return Err(self.full_names());
        }
        let tags = self.repositories.iter().flat_map(|r| r.tags.keys());
        Ok(tags.collect())
    }

    fn full_names(&self) -> Vec<String> {
        self.repositories.iter().map(|r| r.full_name()).collect()
    }
}
