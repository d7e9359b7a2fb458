//! How to use the registry from another machine: lines to copy.

use std::fmt::Write as _;

use image_layout::Host;
use image_layout::catalog::{Artifact, ArtifactKind};
use image_layout::reference::DOCKER_HUB;

use super::super::state::Registry;
use super::html::{Escaped, lines};
use super::lists::pull_name;
use crate::mirrors::{Endpoint, Runtime, Scheme};

/// `<section id="use">`.
pub(super) fn section(body: &mut String, registry: &Registry, endpoint: &Endpoint) {
    let artifacts = &registry.index.artifacts;
    let first = |kind| artifacts.iter().find(|artifact| artifact.kind == kind);
    body.push_str(
        "<section id=\"use\" aria-labelledby=\"h-use\">\n\
         <h2 id=\"h-use\">Use it from another machine</h2>\n",
    );
    if endpoint.is_loopback() {
        let _ = writeln!(
            body,
            "<p class=\"muted\">You are on this machine itself. On another one put this machine's \
             address in the place of <code>{}</code>.</p>",
            endpoint.authority
        );
    }
    access(body, endpoint);
    // an example that everybody knows, if there is one
    let of_hub = |artifact: &&Artifact| {
        let host = artifact.host.as_ref().map(Host::as_str);
        artifact.kind == ArtifactKind::Image && host == Some(DOCKER_HUB)
    };
    let image = artifacts.iter().find(of_hub);
    if let Some(image) = image.or_else(|| first(ArtifactKind::Image)) {
        images(body, endpoint, image);
    }
    if let Some(chart) = first(ArtifactKind::Chart) {
        charts(body, endpoint, chart);
    }
    let mut files = registry.index.files.all().iter();
    let file = files.find(|file| file.kind == ArtifactKind::File);
    if let Some(file) = file {
        body.push_str("<h3>Fetch a file</h3>\n");
        body.push_str(&lines(&fetch_line(endpoint, &file.url)));
    }
    mirrors(body, endpoint);
    body.push_str("</section>\n");
}

/// What is asked of clients, where it is more than nothing.
fn access(body: &mut String, endpoint: &Endpoint) {
    if endpoint.scheme == Scheme::Https && endpoint.ca_pem.is_some() {
        body.push_str(
            "<h3>Trust it</h3>\n<p>Its certificate is signed by an authority of this cluster's \
             own: <code>registry-ca.crt</code> in the directory of credentials that was made with \
             the image. Carry that over as <code>ca.crt</code>",
        );
        // -k would show the password to whoever pretends to be this registry
        if endpoint.users {
            body.push_str(".</p>\n");
        } else {
            body.push_str(
                ", or take it from here and compare its fingerprint with that file's:</p>\n",
            );
            body.push_str(&lines(&format!(
                "curl -sSk -o ca.crt {}/mirrors/ca.crt\n\
                 openssl x509 -in ca.crt -noout -fingerprint -sha256",
                endpoint.url()
            )));
        }
    }
    if endpoint.users {
        let _ = write!(
            body,
            "<h3>Log in</h3>\n{}",
            lines(&format!(
                "podman login {at}\nskopeo login {at}\nhelm registry login {at}",
                at = endpoint.authority
            ))
        );
    }
}

fn images(body: &mut String, endpoint: &Endpoint, image: &Artifact) {
    let name = format!("{}/{}", endpoint.authority, pull_name(image));
    let http = endpoint.scheme == Scheme::Http;
    let (skopeo, podman) = match http {
        true => (" --src-tls-verify=false", " --tls-verify=false"),
        false => ("", ""),
    };
    body.push_str("<h3>Pull an image</h3>\n");
    if endpoint.authority.is_ipv6() {
        body.push_str(
            "<p>podman and skopeo know no registry by an address of IPv6: look at this page by a \
             name of this machine, and it says how.</p>\n",
        );
        return;
    }
    if endpoint.ca_pem.is_some() {
        let at = &endpoint.authority;
        let _ = writeln!(
            body,
            "<p>With <code>ca.crt</code> in <code>/etc/containers/certs.d/{at}/</code>:</p>"
        );
    }
    body.push_str(&lines(&format!(
        "podman pull{podman} {name}\n\
         skopeo copy{skopeo} docker://{name} oci-archive:image.tar"
    )));
    body.push_str(
        "<p class=\"muted\">The name is the image's own, with its registry, behind this one's \
         address. An address with a colon has an underscore there: <code>HOST_PORT</code>.</p>\n",
    );
}

fn charts(body: &mut String, endpoint: &Endpoint, chart: &Artifact) {
    let version = chart.tag.as_ref();
    let version = version.map_or_else(String::new, |tag| format!(" --version {tag}"));
    let flags = match (endpoint.scheme, &endpoint.ca_pem) {
        (Scheme::Http, _) => " --plain-http",
        (Scheme::Https, Some(_)) => " --ca-file ca.crt",
        (Scheme::Https, None) => "",
    };
    let name = format!("oci://{}/{}", endpoint.authority, chart.repository);
    body.push_str("<h3>Install a chart</h3>\n");
    body.push_str(&lines(&format!(
        "helm pull {name}{version}{flags}\nhelm install NAME {name}{version}{flags}"
    )));
}

/// One drawer a runtime.
fn mirrors(body: &mut String, endpoint: &Endpoint) {
    body.push_str(
        "<h3>Make it a mirror</h3>\n<p>Then images keep their names: what a machine asks for from \
         <code>docker.io</code> or any other registry of the haul comes from here.</p>\n",
    );
    for runtime in Runtime::ALL {
        let _ = write!(
            body,
            "<details><summary>{} <span>– {}</span></summary>\n{}\
             <p><a href=\"/mirrors/{runtime}\">The files for {runtime}, and what to know</a></p>\n\
             </details>\n",
            Escaped(runtime.title()),
            runtime.about(),
            lines(&install_lines(runtime, endpoint))
        );
    }
}

/// curl with what the registry asks for.
fn curl(endpoint: &Endpoint) -> &'static str {
    match (&endpoint.ca_pem, endpoint.users) {
        (None, false) => "curl -sS",
        (None, true) => "curl -sS -u USER",
        (Some(_), false) => "curl -sS --cacert ca.crt",
        (Some(_), true) => "curl -sS --cacert ca.crt -u USER",
    }
}

/// What fetches a file under its own name.
pub(super) fn fetch_line(endpoint: &Endpoint, path: &str) -> String {
    format!("{} -OJ {}{path}", curl(endpoint), endpoint.url())
}

/// What puts the files of a runtime in their places.
pub(super) fn install_lines(runtime: Runtime, endpoint: &Endpoint) -> String {
    let curl = curl(endpoint);
    let url = endpoint.url();
    // -k keeps what a person wrote there before, and says so
    let unpack =
        |flags: &str| format!("{curl} {url}/mirrors/{runtime}.tar | sudo tar -x{flags}C /");
    // with users there are log-ins among them, filled in by now, where a person's others may be
    let own = if endpoint.users { "k" } else { "" };
    match runtime {
        Runtime::Containerd | Runtime::Podman => unpack(own),
        Runtime::CriO => format!("{}\nsudo systemctl restart crio", unpack(own)),
        Runtime::Docker => format!("{}\nsudo systemctl restart docker", unpack("k")),
        Runtime::K3s => format!("{}\nsudo systemctl restart k3s", unpack("k")),
        Runtime::Rke2 => format!("{}\nsudo systemctl restart rke2-server", unpack("k")),
        Runtime::Talos => format!(
            "{curl} -O {url}/mirrors/talos/talos-1.12.yaml\n\
             talosctl patch machineconfig --nodes NODE --patch @talos-1.12.yaml"
        ),
    }
}
