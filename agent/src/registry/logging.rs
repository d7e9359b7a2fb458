//! Where the registry's log goes: standard error.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging, at `info` or what `RUST_LOG` says, such as `debug` or `agent=trace,info`.
pub(super) fn start() {
    // Not `EnvFilter`, which brings an engine for regular expressions.
    let filter = std::env::var("RUST_LOG")
        .ok()
        .and_then(|levels| levels.parse::<Targets>().ok())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    // a second start, in tests, changes nothing
    let _ = tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .try_init();
}
