//! Logs, metrics and traces: the log and its level, the catalogue of metrics, the spans of a job,
//! and the export of both over OTLP. Each other room declares its own metrics.

mod catalogue;
mod log_queue;
mod otlp;
mod spans;
mod trace;

use std::{io::IsTerminal as _, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    filter::{LevelFilter, ParseError, Targets},
    fmt::{self, writer::BoxMakeWriter},
    prelude::*,
    reload,
};

pub use catalogue::{Catalogue, Described, Label, Values};
pub use log_queue::{flush, lines_dropped, log_in_background, say};
pub use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
pub use otlp::{Exported, Exporter, OtlpConfig};
pub use spans::{Spans, TraceSpan, number, text};
pub use trace::{BadTraceParent, JobTrace, TRACEPARENT, TraceParent};

pub(crate) use catalogue::loose_counter;

use crate::util::foreign;

/// The formats of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`: the log on stderr.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// The level: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as
    /// `info,tidings::deliver=debug`. `RUST_LOG` overrides it, and `--log-level` overrides both.
    pub level: String,
    /// The format of the lines: `text` or `json`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// The lines of this crate.
const OWN: &str = env!("CARGO_CRATE_NAME");

/// Reads a level or a filter such as `info, tidings::deliver=debug`. What other crates log at `info` is one line for each step of
/// theirs, so it is shown from `debug` on, or where the filter names the crate.
///
/// # Errors
/// Returns an error when the text is not a filter.
pub fn log_filter(level: &str) -> Result<Targets, ParseError> {
    let words = level.split(',').map(str::trim).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(",");
    // An empty word would name every module.
    let filter: Targets = if words.is_empty() { "error" } else { &words }.parse()?;
    let names_own = filter.iter().any(|(target, _)| target == OWN);
    Ok(match filter.default_level() {
        Some(LevelFilter::INFO) if names_own => filter.with_default(LevelFilter::WARN),
        Some(LevelFilter::INFO) => filter.with_default(LevelFilter::WARN).with_target(OWN, LevelFilter::INFO),
        _ => filter,
    })
}

/// The level of the log, which can change while the process runs.
#[derive(Clone, Debug)]
pub struct LogLevel {
    filter: reload::Handle<Targets, tracing_subscriber::Registry>,
    /// Whether the command line or the environment set the level.
    fixed: bool,
}

impl LogLevel {
    /// Sets the level, unless the command line or `RUST_LOG` set it.
    pub fn set(&self, level: &str) {
        if let Ok(filter) = log_filter(level)
            && !self.fixed
        {
            // This fails only after the subscriber is gone, when no line is logged.
            let _ = self.filter.reload(filter);
        }
    }
}

/// Starts the log on stderr. Only the first call of a process counts. `flag`, the level of the
/// command line, has priority over `RUST_LOG`, and that over the configuration.
pub fn start_logging(config: &LogConfig, flag: Option<&str>) -> LogLevel {
    #[expect(
        clippy::disallowed_methods,
        reason = "the variable that every Rust program takes its log level from"
    )]
    let variable = std::env::var("RUST_LOG").ok().filter(|level| !level.trim().is_empty());
    let decided = [flag, variable.as_deref()].into_iter().flatten().find_map(|level| log_filter(level).ok());
    let fixed = decided.is_some();
    let filter = decided
        .or_else(|| log_filter(&config.level).ok())
        .unwrap_or_else(|| Targets::new().with_target(OWN, LevelFilter::INFO));
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let writer = match log_queue::queue() {
        Some(queue) => BoxMakeWriter::new(Arc::clone(queue)),
        None => BoxMakeWriter::new(std::io::stderr),
    };
    let layer = fmt::layer().with_writer(writer).with_target(false);
    // Only tests start a second subscriber in one process.
    let _ = match config.format {
        LogFormat::Text => {
            let fields = fmt::format::debug_fn(foreign::log_field);
            let layer = layer.with_ansi(std::io::stderr().is_terminal()).fmt_fields(fields);
            registry.with(layer).try_init()
        }
        LogFormat::Json => {
            let layer = layer.map_writer(foreign::Escaped).json().flatten_event(true).with_span_list(false);
            registry.with(layer).try_init()
        }
    };
    std::panic::set_hook(Box::new(|panic| {
        let text = crate::util::panic::panic_text(panic.payload());
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic: {text}");
    }));
    LogLevel { filter: handle, fixed }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::log_filter;

    #[test]
    fn a_filter_is_a_level_and_exceptions_from_it() {
        let filter = log_filter(" info , tidings::deliver=debug,, sled=off").unwrap();
        let passes = |target, level| filter.would_enable(target, &level);
        assert!(
            passes("tidings::poll", tracing::Level::INFO) && !passes("tidings::poll", tracing::Level::DEBUG)
        );
        assert!(passes("tidings::deliver::webhook", tracing::Level::DEBUG));
        assert!(!passes("sled::pagecache", tracing::Level::ERROR));
        // What another crate tells of its steps is no news.
        for foreign in ["tokio_postgres::connection", "object_store::client"] {
            let shows = |filter, level| log_filter(filter).unwrap().would_enable(foreign, &level);
            assert!(shows("info", tracing::Level::WARN) && !shows("info", tracing::Level::INFO), "{foreign}");
            assert!(shows("debug", tracing::Level::INFO), "{foreign}");
            assert!(shows("info,tokio_postgres=info,object_store=info", tracing::Level::INFO), "{foreign}");
        }
        assert!(
            log_filter("info,tidings=debug").unwrap().would_enable("tidings::app", &tracing::Level::DEBUG)
        );
        assert_eq!(log_filter(",").unwrap().default_level(), Some(LevelFilter::ERROR));
        log_filter("tidings=loud").unwrap_err();
    }
}
