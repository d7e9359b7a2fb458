//! The three tests of "Kubernetes in the Air Gap" (doi 10.1184/R1/28792073).

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::haul::NGINX;
use super::machines::Machines;
use crate::clients;
use crate::qemu_process::WEB_PORT;

/// From a request to a running pod. Under emulation the first pod took 40 s.
const POD_BOUND: Duration = Duration::from_secs(600);
/// The same as kubectl and helm take it, and the time that they may take beyond it.
const POD_TIMEOUT: &str = "--timeout=600s";
const MARGIN: Duration = Duration::from_secs(60);
/// Before a page is asked for again that is not there yet.
const AGAIN: Duration = Duration::from_secs(2);

const MULTI_POD: &str = include_str!("../../acceptance/multi-pod.yaml");

/// Runs the test of that number and says what was seen.
pub(super) fn test(number: usize, machines: &Machines, directory: &Path) -> Result<String> {
    match number {
        1 => mirror(machines),
        2 => helm(machines),
        3 => multi_pod(machines, directory),
        other => bail!("the paper has no test {other}"),
    }
}

fn mirror(machines: &Machines) -> Result<String> {
    let long = POD_BOUND + MARGIN;
    // Kubernetes makes it a moment after its start; pods are refused without.
    machines.kubectl_within(
        &[
            "wait",
            "--for=create",
            "serviceaccount/default",
            POD_TIMEOUT,
        ],
        long,
    )?;
    machines.kubectl(&["run", "test", "--restart=Never", "--image=hello-world"])?;
    machines.kubectl_within(
        &[
            "wait",
            "--for=jsonpath={.status.phase}=Succeeded",
            "pod/test",
            POD_TIMEOUT,
        ],
        long,
    )?;
    let said = machines.kubectl(&["logs", "test"])?;
    ensure!(said.contains("Hello from Docker!"), "the pod says {said:?}");
    Ok("the pod says: Hello from Docker!".to_owned())
}

fn helm(machines: &Machines) -> Result<String> {
    let registry = machines.server.registry()?;
    let chart = format!("oci://{registry}/hauler/hello-world");
    let image = format!("image={NGINX},containerPort=80");
    machines.helm(
        &[
            "install",
            "ahoy",
            &chart,
            "--plain-http",
            "--set",
            &image,
            "--wait",
            "--timeout=10m",
        ],
        POD_BOUND + MARGIN,
    )?;
    let label = "-l=app.kubernetes.io/managed-by=Helm,app.kubernetes.io/instance=ahoy";
    let found = machines.kubectl(&[
        "get",
        "deployments,pods,services,serviceaccounts",
        "--all-namespaces",
        label,
        "-o=name",
    ])?;
    for kind in ["deployment.apps/", "pod/", "service/", "serviceaccount/"] {
        ensure!(
            found.lines().any(|line| line.starts_with(kind)),
            "the release has no {kind} among {found:?}"
        );
    }
    Ok("Deployment, Pod, Service and ServiceAccount are up".to_owned())
}

fn multi_pod(machines: &Machines, directory: &Path) -> Result<String> {
    let long = POD_BOUND + MARGIN;
    let dns = [
        "-n",
        "kube-system",
        "rollout",
        "status",
        "deployment/coredns",
        POD_TIMEOUT,
    ];
    machines.kubectl_within(&dns, long).context("cluster DNS")?;
    let manifest = directory.join("multi-pod.yaml");
    std::fs::write(&manifest, MULTI_POD).context("writing the manifest")?;
    let manifest = manifest.to_string_lossy();
    machines.kubectl(&["apply", "-f", &manifest])?;
    for deployment in ["deployment/database", "deployment/front"] {
        machines.kubectl_within(&["rollout", "status", deployment, POD_TIMEOUT], long)?;
    }
    let address = machines.server.port(WEB_PORT)?;
    println!("     $ curl http://{address}/");
    let deadline = Instant::now() + POD_BOUND;
    loop {
        let found = clients::get(address, "/").map(|answer| {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            (answer.status, body)
        });
        match found {
            Ok((200, body)) if body.contains("A row of the database.") => {
                return Ok(
                    "the front on one node answers with the row of the database on the other"
                        .to_owned(),
                );
            }
            last => ensure!(
                Instant::now() < deadline,
                "the front does not answer as it should: {last:?}"
            ),
        }
        // Services take a moment to be routed on every node.
        sleep(AGAIN);
    }
}
