//! Logs, metrics and traces.

mod catalogue;
mod metrics;
mod otlp;
mod sources;
mod spans;
mod trace;

use std::io::IsTerminal as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, fmt, prelude::*, reload};

pub use catalogue::{Catalogue, Described, Label, Values};
pub use metrics::Metrics;
pub use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
pub use otlp::{Exporter, OtlpConfig};
pub use sources::SourceMetrics;
pub use spans::{Span, Spans, number, text};
pub use trace::{BadTraceParent, JobTrace, TRACEPARENT, TraceParent};

pub(crate) use catalogue::loose_counter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`: what is written to stderr.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,tidings::deliver=debug`.
    /// `RUST_LOG` overrides it, and `--log-level` that.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// The level at which a process logs, to be changed while it runs.
#[derive(Clone, Debug)]
pub struct LogLevel {
    filter: reload::Handle<EnvFilter, tracing_subscriber::Registry>,
    /// The command line or the environment has decided.
    fixed: bool,
}

impl LogLevel {
    /// Logs at this level from now on, unless the command line or `RUST_LOG` says otherwise.
    pub fn set(&self, level: &str) {
        if let Ok(filter) = EnvFilter::try_new(level)
            && !self.fixed
        {
            // It fails only when the subscriber is gone, and nothing is logged then.
            let _ = self.filter.reload(filter);
        }
    }
}

/// Starts to log to stderr. Only the first call of a process counts. `flag` is the level that the command line
/// names; it wins over `RUST_LOG`, which wins over the configuration.
pub fn start_logging(config: &LogConfig, flag: Option<&str>) -> LogLevel {
    let decided = flag
        .and_then(|level| EnvFilter::try_new(level).ok())
        .or_else(|| EnvFilter::try_from_default_env().ok());
    let fixed = decided.is_some();
    let filter =
        decided.or_else(|| EnvFilter::try_new(&config.level).ok()).unwrap_or_else(|| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    // A second subscriber in one process is a test's own affair.
    let _ = match config.format {
        LogFormat::Text => registry.with(layer.with_ansi(std::io::stderr().is_terminal())).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true).with_span_list(false)).try_init(),
    };
    std::panic::set_hook(Box::new(|panic| {
        let text = crate::store::panic_text(panic.payload());
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "a panic: {text}");
    }));
    LogLevel { filter: handle, fixed }
}
