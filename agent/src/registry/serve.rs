//! `agent serve HAUL`: the registry on any Linux host, as an ordinary user.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use image_layout::Arch;
use image_layout::status::{Outcome, Stage, StageReport, Status};
use rustix::process::{Resource, Rlimit};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::access::{Access, AccessError, Files, Source};
use super::confine::{self, Reach};
use super::layout::{Layout, LayoutError};
use super::state::Registry;
use super::status::StatusSource;
use super::{connections, integrity, limits, logging, medium};
use crate::cli::Serve;

/// Threads that talk to clients. More do not make a stick or a network card faster.
const WORKERS: usize = 8;
/// Bytes of a thread's stack.
const STACK_BYTES: usize = 512 << 10;

/// Why `agent serve` ended without having served.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("listening on {address}: {error}")]
    Listen {
        address: SocketAddr,
        error: std::io::Error,
    },
    #[error("{what}: {error}")]
    System {
        what: &'static str,
        error: std::io::Error,
    },
}

impl ServeError {
    fn help(&self) -> Cow<'static, str> {
        match self {
            ServeError::Layout(error) => error.help(),
            ServeError::Access(error) => error.help().into(),
            ServeError::Listen { .. } => {
                "name another address with --listen ADDRESS:PORT; port 0 picks a free port".into()
            }
            ServeError::System { .. } => "look at the limits of this user and this machine".into(),
        }
    }
}

/// `agent serve HAUL`; see [`Serve`].
pub(crate) fn main(options: &Serve) -> ExitCode {
    logging::start();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}\n  help: {}", error.help());
            ExitCode::FAILURE
        }
    }
}

/// A runtime for the server: few threads with small stacks.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors.min(WORKERS))
        .max_blocking_threads(limits::READ_THREADS)
        .thread_stack_size(STACK_BYTES)
        .thread_name("registry")
        .enable_all()
        .build()
}

/// Becomes true, and is then dropped, when SIGTERM or SIGINT comes. Inside a runtime.
pub(super) fn end_signal() -> std::io::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // nobody listening means that the server has ended already
        let _ = sender.send(true);
    });
    Ok(receiver)
}

fn run(options: &Serve) -> Result<(), ServeError> {
    raise_descriptors();
    let layout = Layout::open(&options.haul)?;
    let source = Source::Files(Files {
        tls: options.tls_cert.clone().zip(options.tls_key.clone()),
        ca: options.tls_ca.clone(),
        users: options.users.clone(),
    });
    let access = Arc::new(Access::from(&source)?);
    let confined = confine::enter(&Reach {
        // certificates are renewed while the registry runs
        read: [vec![options.haul.clone()], source.reach()].concat(),
        port: options.listen.port(),
    });
    let system = |what| move |error| ServeError::System { what, error };
    let (mut registry, took) = Registry::over(layout, StatusSource::Own(Box::default()))?;
    confined.log();
    for warning in &registry.index.warnings {
        tracing::warn!("{warning}");
    }
    let detail = format!(
        "{}, indexed in {} ms",
        registry.index.summary(),
        took.as_millis()
    );
    let notices = [confined.notices, registry.index.warnings.clone()].concat();
    registry.access = Arc::clone(&access);
    registry.status = StatusSource::Own(Box::new(own_status(&detail, took, notices)));
    runtime()
        .map_err(system("starting threads"))?
        .block_on(async {
            // before anyone is told that the server is there
            let end = end_signal().map_err(system("waiting for signals"))?;
            access
                .follow(source)
                .map_err(system("watching certificates and users"))?;
            let listen = |error| ServeError::Listen {
                address: options.listen,
                error,
            };
            let listener = super::listen::listen(options.listen).map_err(listen)?;
            let address = listener.local_addr().map_err(listen)?;
            // whoever started this may not read it; serving is what counts
            let mut out = std::io::stdout();
            let scheme = if access.tls() { "https" } else { "http" };
            let _ = writeln!(out, "listening on {scheme}://{address} ({detail})");
            let _ = out.flush();
            let registry = Arc::new(registry);
            // the log has it
            integrity::start(&registry, |_| {});
            medium::start_watch(&registry.medium, |_| {});
            connections::serve(listener, registry, end).await;
            Ok(())
        })
}

/// As many descriptors as the machine allows: the usual 1024 do not last for as many connections as
/// are taken. On a node the sandbox sets the number.
fn raise_descriptors() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the number of descriptors stays as it is");
    }
}

/// What is known without a node: who serves, and how indexing went.
fn own_status(detail: &str, took: Duration, notices: Vec<String>) -> Status {
    let system = rustix::system::uname();
    let at = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let report = StageReport {
        stage: Stage::Registry,
        outcome: Outcome::Done,
        detail: detail.to_owned(),
        at: at.tv_sec as f64 + at.tv_nsec as f64 / 1e9,
        took: took.as_secs_f64(),
        problem: None,
    };
    Status {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        arch: std::env::consts::ARCH.parse::<Arch>().ok(),
        kernel: system.release().to_string_lossy().into_owned(),
        stages: vec![report],
        notices,
        ..Status::default()
    }
}
