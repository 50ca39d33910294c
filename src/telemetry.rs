//! Logs and metrics.

use std::io::IsTerminal as _;

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::deliver::SinkMetrics;
use tracing_subscriber::{EnvFilter, fmt, prelude::*, reload};

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

/// What the process counts, for `/metrics`.
pub struct Metrics {
    registry: Registry,
    /// Of the sinks.
    pub sinks: SinkMetrics,
    /// Watches being followed, by source and phase.
    pub open_watches: IntGaugeVec,
    /// Status requests by source and result.
    pub polls: IntCounterVec,
    /// Requests for full jobs by source and result.
    pub fetches: IntCounterVec,
    /// Requests through the proxy, by source and whether they were answered from what is known.
    pub proxied: IntCounterVec,
    /// Events made, by source and outcome, progress among them.
    pub events: IntCounterVec,
    /// From the end of a job, as its source says, to our noticing it.
    pub detection_delay: Histogram,
    /// Requests to the local API, by status class.
    pub api_requests: IntCounterVec,
    /// Readers of the event stream.
    pub event_readers: IntGauge,
    /// Readers of the event stream that were dropped, by reason.
    pub event_readers_dropped: IntCounterVec,
    /// 1 while the store takes writes.
    pub store_healthy: IntGauge,
    /// How often the configuration was read again, by result.
    pub config_reloads: IntCounterVec,
    /// 1 when the last time was a success.
    pub config_last_reload: IntGauge,
    /// Panics that were contained.
    pub panics: IntCounter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Every metric, at zero.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let build =
            gauges(&registry, "tidings_build_info", "Always 1; the version is in the label.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        // Up to a minute in steps that tell a good poller from a fixed two seconds.
        let steps = vec![0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];
        let delay = HistogramOpts::new(
            "tidings_detection_delay_seconds",
            "From the end of a job, as its source says, to our noticing it.",
        )
        .buckets(steps);
        Self {
            sinks: SinkMetrics::new(&registry),
            open_watches: gauges(
                &registry,
                "tidings_open_watches",
                "Watches being followed.",
                &["source", "phase"],
            ),
            polls: counters(&registry, "tidings_polls_total", "Status requests.", &["source", "result"]),
            fetches: counters(
                &registry,
                "tidings_fetches_total",
                "Requests for full jobs.",
                &["source", "result"],
            ),
            proxied: counters(
                &registry,
                "tidings_proxy_requests_total",
                "Requests through the proxy: known without asking the source, or forwarded.",
                &["source", "answer"],
            ),
            events: counters(&registry, "tidings_events_total", "Events made.", &["source", "outcome"]),
            event_readers: known(
                &registry,
                IntGauge::new("tidings_event_readers", "Readers of the event stream."),
            ),
            event_readers_dropped: counters(
                &registry,
                "tidings_event_readers_dropped_total",
                "Readers of the event stream that were dropped.",
                &["reason"],
            ),
            detection_delay: known(&registry, Histogram::with_opts(delay)),
            api_requests: counters(
                &registry,
                "tidings_api_requests_total",
                "Requests to the local API.",
                &["status"],
            ),
            store_healthy: known(
                &registry,
                IntGauge::new("tidings_store_healthy", "1 while the store takes writes."),
            ),
            config_reloads: counters(
                &registry,
                "tidings_config_reloads_total",
                "How often the configuration was read again: applied, or refused for a mistake in it.",
                &["result"],
            ),
            config_last_reload: known(
                &registry,
                IntGauge::new(
                    "tidings_config_last_reload_successful",
                    "1 unless the configuration that was read last was refused.",
                ),
            ),
            panics: known(
                &registry,
                IntCounter::new("tidings_panics_total", "Panics in one job's work that were contained."),
            ),
            registry,
        }
    }

    /// Forgets the gauges that are set anew whenever somebody asks.
    pub fn forget_gauges(&self) {
        self.open_watches.reset();
        self.sinks.forget_gauges();
    }

    /// Everything in the Prometheus text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory cannot fail, and the names were checked when they were registered.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

pub(crate) fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    known(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

pub(crate) fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    known(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

pub(crate) fn known<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    #[expect(clippy::expect_used, reason = "the names above are constants, and a test makes them all")]
    let collector = made.expect("a metric's name is valid");
    // Each name is registered once.
    let _ = registry.register(Box::new(collector.clone()));
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_rendered_in_the_text_format() {
        let metrics = Metrics::new();
        metrics.polls.with_label_values(&["retab", "pending"]).inc();
        let text = metrics.render();
        assert!(text.contains("# TYPE tidings_polls_total counter"), "{text}");
        assert!(text.contains("tidings_polls_total{result=\"pending\",source=\"retab\"} 1"), "{text}");
        assert!(text.contains("tidings_build_info{version="), "{text}");
    }
}
