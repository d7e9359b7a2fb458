//! The registry as PID 1's child on a node.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::sync::Arc;

use image_layout::status::{Outcome, Problem, Stage};
use tokio::net::TcpListener;

use super::access::{Access, Source};
use super::layout::Layout;
use super::sandbox::{self, View};
use super::state::Registry;
use super::status::StatusSource;
use super::{connections, integrity, listen, logging, medium, serve};
use crate::report::{Report, Sender};

/// Where clients find every node's registry.
pub(crate) const PORT: u16 = 5000;

/// The registry process: goes into its sandbox while it has one thread, then indexes and serves
/// until it is ended. Without a haul it serves the status and says what is wrong.
pub(crate) fn main() -> ExitCode {
    logging::start();
    let reports = Reports(Sender::from_env());
    reports.send(Report::Begin(Stage::Registry));
    match run(&reports) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            tracing::error!("{}", problem.what);
            reports.failed(problem);
            ExitCode::FAILURE
        }
    }
}

#[derive(Clone)]
struct Reports(Option<Sender>);

impl Reports {
    fn send(&self, report: Report) {
        if let Some(sender) = &self.0 {
            sender.send(&report);
        }
    }

    fn end(&self, outcome: Outcome, detail: String, problem: Option<Problem>) {
        self.send(Report::End {
            stage: Stage::Registry,
            outcome,
            detail,
            problem,
        });
    }

    fn failed(&self, problem: Problem) {
        self.end(Outcome::Failed, problem.what.clone(), Some(problem));
    }
}

fn run(reports: &Reports) -> Result<(), Problem> {
    let view = sandbox::enter().map_err(|error| Problem {
        what: format!("the registry's sandbox can't be set up: {error}"),
        mend: "This should not happen on a node. Restart the machine; if it happens again, \
               report it with the lines above."
            .to_owned(),
    })?;
    let status = StatusSource::File(view.status.clone());
    let (mut registry, indexed) = index(&view, status);
    registry.logs = Some(view.logs);
    let source = Source::Node(view.access);
    registry.access = Arc::new(Access::from(&source).unwrap_or_else(|error| {
        tracing::error!("nobody is answered: {error}");
        Access::unknown()
    }));
    let system = |error: std::io::Error| Problem {
        what: format!("the registry can't start: {error}"),
        mend: "Restart the machine; if it happens again, report it with the lines above."
            .to_owned(),
    };
    serve::runtime().map_err(system)?.block_on(async {
        let end = serve::end_signal().map_err(system)?;
        registry.access.follow(source).map_err(system)?;
        let listener = listen_everywhere().map_err(|error| Problem {
            what: format!("the registry can't listen on port {PORT}: {error}"),
            mend: "Another program on this node has the port; the log names the error.".to_owned(),
        })?;
        let detail = |contents: &str| {
            let bound = listener
                .local_addr()
                .map_or_else(|_| PORT.to_string(), |address| address.to_string());
            format!("{contents}, listening on {bound}")
        };
        match indexed {
            Ok(contents) => reports.end(Outcome::Done, detail(&contents), None),
            Err(problem) => {
                tracing::error!("{}", problem.what);
                let without = detail("nothing but the status");
                reports.end(Outcome::Failed, without, Some(problem));
            }
        }
        let registry = Arc::new(registry);
        let console = reports.clone();
        integrity::start(&registry, move |line| console.send(Report::Notice(line)));
        let console = reports.clone();
        medium::start_watch(&registry.medium, move |line| {
            console.send(Report::Notice(line))
        });
        connections::serve(listener, registry, end).await;
        Ok(())
    })
}

/// Indexes what the view has; what went wrong leaves an empty registry, which is served too.
fn index(view: &View, status: StatusSource) -> (Registry, Result<String, Problem>) {
    let opened =
        Layout::open(&view.layout).and_then(|layout| Registry::over(layout, status.clone()));
    match opened {
        Ok((registry, took)) => {
            for warning in &registry.index.warnings {
                tracing::warn!("{warning}");
            }
            let contents = registry.index.summary();
            let contents = match registry.index.warnings.len() {
                0 => format!("{contents}, indexed in {} ms", took.as_millis()),
                1 => format!("{contents}, 1 warning, indexed in {} ms", took.as_millis()),
                n => format!(
                    "{contents}, {n} warnings, indexed in {} ms",
                    took.as_millis()
                ),
            };
            (registry, Ok(contents))
        }
        Err(error) => {
            let what = format!("The haul on this stick can't be served: {error}.");
            let problem = Problem {
                mend: "Write the stick anew; if it happens again, take another stick, or build \
                       the image anew. The node's state is at /status on this port meanwhile."
                    .to_owned(),
                what: what.clone(),
            };
            (Registry::empty(status, what), Err(problem))
        }
    }
}

/// All addresses of both families; IPv4 alone where the kernel has no IPv6.
fn listen_everywhere() -> std::io::Result<TcpListener> {
    match listen::listen((Ipv6Addr::UNSPECIFIED, PORT).into()) {
        Ok(listener) => Ok(listener),
        Err(error) => {
            tracing::warn!(%error, "no IPv6; listening on IPv4 alone");
            listen::listen((Ipv4Addr::UNSPECIFIED, PORT).into())
        }
    }
}
