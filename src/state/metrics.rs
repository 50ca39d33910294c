//! Every metric of the daemon: those of the rooms below, and its own. Gauges are set when `/metrics` is read.

use std::{sync::Arc, time::Duration};

use prometheus::{
    Encoder as _, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    TextEncoder,
};

use crate::{
    deliver::SinkMetrics,
    telemetry::{Catalogue, Exported, Label, Spans, lines_dropped},
    watcher::SourceMetrics,
};

/// Steps from a fast disk to a failing one.
const FLUSH_STEPS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Every metric of the daemon.
pub struct Metrics {
    catalogue: Arc<Catalogue>,
    /// Metrics of the sources.
    pub sources: Arc<SourceMetrics>,
    /// Metrics of the sinks.
    pub sinks: Arc<SinkMetrics>,
    /// 1 while the process does the work, 0 while it waits as a standby or passes requests on as a replica.
    pub active: IntGauge,
    /// Metrics of a process that shares a database.
    pub replica: ReplicaMetrics,
    /// Requests to the local API, by status.
    pub api_requests: IntCounterVec,
    /// Readers of the event stream.
    pub event_readers: IntGauge,
    /// Readers of the event stream that were dropped, by reason.
    pub event_readers_dropped: IntCounterVec,
    /// 1 while the store takes writes.
    pub store_healthy: IntGauge,
    /// Records of the store that were found unreadable.
    pub unreadable_records: IntGauge,
    /// The time that the store takes to make a group of writes durable.
    pub store_flush: Histogram,
    /// Bytes of stored jobs.
    pub spool_bytes: IntGauge,
    /// Reloads of the configuration, by result: `ok` or `refused`.
    pub config_reloads: IntCounterVec,
    /// 1 unless the last reload was rejected.
    pub config_last_reload_ok: IntGauge,
    /// Panics of tasks; each is caught.
    pub panics: IntCounter,
    /// Log lines that were dropped.
    pub log_lines_dropped: IntCounter,
    /// Requests to the collector, by signal and result.
    pub otlp_exports: IntCounterVec,
    /// Spans of the work for jobs, for the collector.
    pub spans: Arc<Spans>,
}

/// The metrics of a replica. Without a database none of them is shown.
pub struct ReplicaMetrics {
    lease_left: GaugeVec,
    lease_epoch: IntGaugeVec,
    units: IntGaugeVec,
    /// Requests to this replica that it passed on to the owner, by result. Empty until it is one that does.
    pub passed_on: IntCounterVec,
}

impl ReplicaMetrics {
    fn new(all: &mut Catalogue) -> Self {
        let result = Label::words("result", &["answered", "failed"]);
        Self {
            lease_left: all.float_gauges(
                "tidings_lease_left_seconds",
                "Time that is left to this process to act as the owner of the database, by its own clock; 0 when it may not. \
                 Only with a database.",
                &[],
            ),
            lease_epoch: all.gauges(
                "tidings_lease_epoch",
                "Number of the lease on the database; each new owner has a greater one. Only on the owner.",
                &[],
            ),
            units: all.gauges(
                "tidings_replica_units",
                "Sources, sinks and other work that this replica owns. Only with a database.",
                &[],
            ),
            passed_on: all.counters(
                "tidings_passed_on_requests_total",
                "Requests that this replica passed on to the owner of the work: answered by it, or failed because there was none \
                 or it went away.",
                &[result],
            ),
        }
    }

    /// Shows a replica that owns nothing.
    pub fn set_relay(&self) {
        self.lease_left.with_label_values::<&str>(&[]).set(0.0);
        self.units.with_label_values::<&str>(&[]).set(0);
    }

    /// Shows the lease of an owner.
    pub fn set_owner(&self, left: Duration, epoch: i64, units: usize) {
        self.lease_left.with_label_values::<&str>(&[]).set(left.as_secs_f64());
        self.lease_epoch.with_label_values::<&str>(&[]).set(epoch);
        self.units.with_label_values::<&str>(&[]).set(i64::try_from(units).unwrap_or(i64::MAX));
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers every metric, at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut catalogue = Catalogue::default();
        let all = &mut catalogue;
        let version = Label::each("version", "the version of tidings");
        let build = all.gauges("tidings_build_info", "Always 1; the version is in the label.", &[version]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let dropped = Label::words("reason", &["behind", "write_timeout"]);
        let status = Label::each("status", "HTTP status");
        let result = Label::words("result", &["ok", "refused"]);
        let signal = Label::words("signal", &["traces", "metrics"]);
        let sent = Label::words("result", &["ok", "failed"]);
        let panics = all.add(
            IntCounter::new(
                "tidings_panics_total",
                "Panics of tasks; each is caught, and the daemon goes on.",
            ),
            &[],
        );
        let spans = Arc::new(Spans::new(all.add(
            IntCounter::new(
                "tidings_otlp_spans_dropped_total",
                "Spans that were dropped because the collector did not keep up.",
            ),
            &[],
        )));
        let metrics = Self {
            sources: Arc::new(SourceMetrics::new(all, &panics, &spans)),
            sinks: Arc::new(SinkMetrics::new(all, &panics, &spans)),
            active: gauge(
                all,
                "tidings_active",
                "1 while the process does the work: it holds its data folder, or its lease on the database is not over. 0 while \
                 it waits as a standby, or passes requests on as a replica.",
            ),
            replica: ReplicaMetrics::new(all),
            event_readers: gauge(all, "tidings_event_readers", "Readers of the event stream."),
            event_readers_dropped: all.counters(
                "tidings_event_readers_dropped_total",
                "Readers of the event stream that were dropped.",
                &[dropped],
            ),
            api_requests: all.counters("tidings_api_requests_total", "Requests to the local API.", &[status]),
            store_healthy: gauge(all, "tidings_store_healthy", "1 while the store takes writes."),
            unreadable_records: gauge(
                all,
                "tidings_store_unreadable_records",
                "Unreadable records that the store found since the start and still holds.",
            ),
            store_flush: histogram(
                all,
                "tidings_store_flush_seconds",
                "Time that the store takes to make a group of writes durable.",
                &FLUSH_STEPS,
            ),
            spool_bytes: gauge(
                all,
                "tidings_spool_bytes",
                "Bytes of stored job bodies on disk. Low for a short time after a restart, until existing files are counted.",
            ),
            config_reloads: all.counters(
                "tidings_config_reloads_total",
                "Reloads of the configuration.",
                &[result],
            ),
            config_last_reload_ok: gauge(
                all,
                "tidings_config_last_reload_successful",
                "1 unless the last reload of the configuration was rejected.",
            ),
            otlp_exports: all.counters(
                "tidings_otlp_exports_total",
                "Requests to the OpenTelemetry collector.",
                &[signal, sent],
            ),
            panics,
            spans,
            log_lines_dropped: all.add(Ok(lines_dropped()), &[]),
            catalogue: Arc::new(catalogue),
        };
        metrics.active.set(1);
        metrics.config_last_reload_ok.set(1);
        metrics.catalogue.begin_words(&metrics.event_readers_dropped);
        metrics.catalogue.begin_words(&metrics.config_reloads);
        metrics
    }

    /// Shows the metrics of a source, at zero.
    pub fn begin_source(&self, source: &str) {
        self.sources.begin(&self.catalogue, source);
    }

    /// Shows the metrics of a sink, at zero.
    pub fn begin_sink(&self, sink: &str) {
        self.sinks.begin(&self.catalogue, sink);
    }

    /// Shows the metrics of a replica that passes requests on.
    pub fn begin_relay(&self) {
        self.catalogue.begin_words(&self.replica.passed_on);
        self.replica.set_relay();
    }

    /// Removes the gauges of sources and sinks. The next scrape sets those that are still configured.
    pub fn forget_gauges(&self) {
        self.sources.forget_gauges();
        self.sinks.forget_gauges();
    }

    /// Returns what the collector gets.
    #[must_use]
    pub fn exported(&self) -> Exported {
        Exported {
            catalogue: Arc::clone(&self.catalogue),
            exports: self.otlp_exports.clone(),
            spans: Arc::clone(&self.spans),
        }
    }

    /// Returns every metric that can occur.
    #[must_use]
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// Renders every metric in the Prometheus text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory cannot fail, and the names were checked when they were registered.
        let _ = TextEncoder::new().encode(&self.catalogue.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

fn gauge(catalogue: &mut Catalogue, name: &str, help: &str) -> IntGauge {
    catalogue.add(IntGauge::new(name, help), &[])
}

fn histogram(catalogue: &mut Catalogue, name: &str, help: &str, steps: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(steps.to_vec());
    catalogue.add(Histogram::with_opts(options), &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between these lines of `docs/reference/metrics.md` stands what is generated.
    const FROM: &str = "<!-- generated by the test shipped_metrics -->\n";
    const TO: &str = "<!-- end -->\n";

    #[test]
    fn metrics_are_rendered_in_the_text_format() {
        let metrics = Metrics::new();
        metrics.sources.polls.with_label_values(&["retab", "pending"]).inc();
        let text = metrics.render();
        assert!(text.contains("# TYPE tidings_polls_total counter"), "{text}");
        assert!(text.contains("tidings_polls_total{result=\"pending\",source=\"retab\"} 1"), "{text}");
        assert!(text.contains("tidings_build_info{version="), "{text}");
    }

    #[test]
    fn what_is_counted_begins_at_zero() {
        let metrics = Metrics::new();
        metrics.begin_source("retab");
        metrics.begin_sink("app");
        let text = metrics.render();
        for line in [
            "tidings_requests_total{source=\"retab\"} 0",
            "tidings_polls_total{result=\"unauthorized\",source=\"retab\"} 0",
            "tidings_events_total{outcome=\"lost\",source=\"retab\"} 0",
            "tidings_dead_letters_total{sink=\"app\"} 0",
            "tidings_delivery_failures_total{class=\"timeout\",sink=\"app\"} 0",
            "tidings_delivered_delay_seconds_count{sink=\"app\"} 0",
            "tidings_config_reloads_total{result=\"refused\"} 0",
            "tidings_config_last_reload_successful 1",
        ] {
            assert!(text.lines().any(|there| there == line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_shipped_metrics_are_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/metrics.md");
        let there = std::fs::read_to_string(path).unwrap();
        let (before, rest) = there.split_once(FROM).unwrap();
        let (_, after) = rest.split_once(TO).unwrap();
        let current = format!("{before}{FROM}\n{}\n{TO}{after}", Metrics::new().catalogue().table());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &current).unwrap();
            return;
        }
        assert!(
            there == current,
            "docs/reference/metrics.md is out of date; run: UPDATE=1 cargo test shipped_metrics"
        );
    }

    #[test]
    fn names_follow_prometheus() {
        let metrics = Metrics::new();
        for metric in metrics.catalogue().metrics() {
            let name = &metric.name;
            assert!(name.starts_with("tidings_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == "counter", "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains('|'), "{name}: {}", metric.help);
            assert!(metric.kind != "histogram" || metric.unit() == "seconds", "{name}");
        }
    }
}
