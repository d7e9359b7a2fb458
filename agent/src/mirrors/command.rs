//! `agent mirrors`.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use image_layout::Host;

use super::{Endpoint, Runtime, Scheme, text, tree};

/// Bytes of a CA's certificates.
const CA_BYTES: u64 = 1 << 20;
/// Exit code for wrong usage, as clap's own.
const USAGE: u8 = 2;

/// Print the files that make a runtime use a registry as its mirror
///
/// The files are for other machines: each is printed below the path it belongs to there, or written
/// as a tree that rsync can copy. A running registry gives the same at /mirrors/RUNTIME, with its
/// own address and the registries of its haul filled in.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Mirrors {
    /// For which runtime, of those below
    #[arg(long, value_name = "RUNTIME", hide_possible_values = true)]
    runtime: Runtime,
    /// The registry as the other machine reaches it: http://HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "URL")]
    endpoint: Endpoint,
    /// A registry whose images it has, quay.io; repeat for each
    #[arg(long = "registry", value_name = "HOST")]
    registries: Vec<Host>,
    /// The certificate of the CA that signed the registry's own, as PEM; with https
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The registry wants a user: leave places for name and password
    #[arg(long)]
    users: bool,
    /// Write the files below this directory instead
    #[arg(long, value_name = "OUT")]
    dir: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
RUNTIME     covers                      files
containerd  every registry              certs.d/_default/hosts.toml
cri-o       each --registry             registries.conf.d/50-haulboot.conf
docker      Docker Hub alone            daemon.json
k3s         every registry              registries.yaml, config.yaml.d
podman      each --registry             registries.conf.d/50-haulboot.conf
rke2        every registry              registries.yaml, config.yaml.d
talos       every registry              a patch of the machine's configuration";

/// Why no files were written.
#[derive(Debug, thiserror::Error)]
enum MirrorsError {
    #[error("{0} needs the name of each registry")]
    NoRegistry(Runtime),
    #[error("--ca is for https, and {0} is not")]
    CaWithoutTls(String),
    #[error("reading {path}: {source}", path = path.display())]
    Ca {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is no certificate in PEM", path = .0.display())]
    NotPem(PathBuf),
    #[error(transparent)]
    Tree(#[from] tree::TreeError),
    #[error("writing to standard output: {0}")]
    Out(std::io::Error),
}

impl MirrorsError {
    fn help(&self) -> &'static str {
        match self {
            MirrorsError::NoRegistry(_) => {
                "add --registry docker.io and so on, or take the files from the registry: \
                 curl http://NODE:5000/mirrors/"
            }
            MirrorsError::CaWithoutTls(_) => "leave it out, or give an https:// endpoint",
            MirrorsError::Ca { .. } | MirrorsError::NotPem(_) => {
                "name the file that begins with -----BEGIN CERTIFICATE-----"
            }
            MirrorsError::Tree(_) => "name a directory that can be written with --dir",
            MirrorsError::Out(_) => "write to a directory with --dir",
        }
    }

    fn code(&self) -> ExitCode {
        match self {
            MirrorsError::NoRegistry(_) | MirrorsError::CaWithoutTls(_) => ExitCode::from(USAGE),
            _ => ExitCode::FAILURE,
        }
    }
}

/// `agent mirrors`; see [`Mirrors`].
pub(crate) fn main(options: Mirrors) -> ExitCode {
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}\n  help: {}", error.help());
            error.code()
        }
    }
}

fn run(options: Mirrors) -> Result<(), MirrorsError> {
    let Mirrors {
        runtime,
        mut endpoint,
        mut registries,
        ca,
        users,
        dir,
    } = options;
    registries.sort();
    registries.dedup();
    if runtime.needs_hosts() && registries.is_empty() {
        return Err(MirrorsError::NoRegistry(runtime));
    }
    if ca.is_some() && endpoint.scheme == Scheme::Http {
        return Err(MirrorsError::CaWithoutTls(endpoint.url()));
    }
    endpoint.users = users;
    endpoint.ca_pem = ca.map(read_ca).transpose()?;
    let mirror = super::write(runtime, &endpoint, &registries);
    let said = match dir {
        None => text::render(&mirror),
        Some(dir) => {
            let written = tree::write(&mirror, &dir)?;
            let lines = written.iter().map(|path| format!("{}\n", path.display()));
            lines.chain([text::notes(&mirror)]).collect()
        }
    };
    let mut out = std::io::stdout().lock();
    out.write_all(said.as_bytes())
        .and_then(|()| out.flush())
        .map_err(MirrorsError::Out)
}

fn read_ca(path: PathBuf) -> Result<String, MirrorsError> {
    let mut pem = String::new();
    let read = File::open(&path).and_then(|file| file.take(CA_BYTES).read_to_string(&mut pem));
    match read {
        Ok(_) if pem.contains("-----BEGIN CERTIFICATE-----") => Ok(pem),
        Ok(_) => Err(MirrorsError::NotPem(path)),
        Err(source) => Err(MirrorsError::Ca { path, source }),
    }
}
