//! The metrics of the sinks.

use std::sync::Arc;

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use crate::{
    deliver::DeadLetters,
    model::delivery::ErrorClass,
    telemetry::{Catalogue, Label, Spans},
    util::delays::Delays,
};

/// The buckets of the delay in seconds, up to a whole retry schedule.
const DELAY_STEPS: [f64; 15] =
    [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 18_000.0, 43_200.0, 86_400.0];

/// Metrics by sink.
pub struct SinkMetrics {
    /// Attempts, by sink and result.
    pub attempts: IntCounterVec,
    /// Failed attempts, by sink and class of error.
    pub failures: IntCounterVec,
    /// Dead letters, by sink.
    pub dead_letters: IntCounterVec,
    /// From the end of a job to its first delivery, by sink.
    pub delivered_delay: HistogramVec,
    /// From an event to its first success at a sink, for the overview.
    pub delays: Delays,
    /// The duration of attempts, by sink.
    pub attempt_seconds: HistogramVec,
    /// Pending deliveries, by sink.
    pub pending: IntGaugeVec,
    /// The age of the oldest pending event, by sink.
    pub oldest_pending: GaugeVec,
    /// 1 while the sink is failing, by sink.
    pub failing: IntGaugeVec,
    /// 1 while the breaker is open or half-open, by sink.
    pub breaker_open: IntGaugeVec,
    /// Times that the breaker opened, by sink.
    pub breaker_opened: IntCounterVec,
    /// 1 while paused, by sink.
    pub paused: IntGaugeVec,
    /// Dead letters that no notice has told of.
    pub dead: DeadLetters,
    /// Panics in one delivery's work.
    pub panics: IntCounter,
    /// Spans for the collector.
    pub spans: Arc<Spans>,
}

impl SinkMetrics {
    /// Registers the metrics. `panics` and `spans` are shared with the other tasks.
    pub(crate) fn new(catalogue: &mut Catalogue, panics: &IntCounter, spans: &Arc<Spans>) -> Self {
        let by = |name, words: &[&'static str]| [Label::SINK, Label::words(name, words)];
        let classes = ErrorClass::ALL.map(ErrorClass::as_str);
        let attempt_seconds = HistogramOpts::new(
            "tidings_delivery_attempt_seconds",
            "Duration of an attempt to deliver, including the answer.",
        );
        let delivered_delay = HistogramOpts::new(
            "tidings_delivered_delay_seconds",
            "Time from the end of a job, by its source if it says when, to its first delivery.",
        );
        Self {
            dead: DeadLetters::default(),
            delays: Delays::default(),
            panics: panics.clone(),
            spans: Arc::clone(spans),
            attempts: catalogue.counters(
                "tidings_delivery_attempts_total",
                "Attempts to deliver an event.",
                &by("result", &["delivered", "failed", "dead"]),
            ),
            failures: catalogue.counters(
                "tidings_delivery_failures_total",
                "Failed attempts to deliver, by class of error.",
                &by("class", &classes),
            ),
            dead_letters: catalogue.counters(
                "tidings_dead_letters_total",
                "Deliveries that became dead letters.",
                &[Label::SINK],
            ),
            delivered_delay: catalogue
                .histograms(delivered_delay.buckets(DELAY_STEPS.to_vec()), &[Label::SINK]),
            attempt_seconds: catalogue.histograms(attempt_seconds, &[Label::SINK]),
            pending: catalogue.gauges(
                "tidings_pending_deliveries",
                "Deliveries that wait or are in flight.",
                &[Label::SINK],
            ),
            oldest_pending: catalogue.float_gauges(
                "tidings_oldest_pending_delivery_seconds",
                "Age of the oldest event that waits or is in flight; 0 without one.",
                &[Label::SINK],
            ),
            failing: catalogue.gauges(
                "tidings_sink_failing",
                "1 while the breaker is not closed, or the last attempts failed without a success since.",
                &[Label::SINK],
            ),
            breaker_open: catalogue.gauges(
                "tidings_sink_breaker_open",
                "1 while the circuit breaker is open or half-open.",
                &[Label::SINK],
            ),
            breaker_opened: catalogue.counters(
                "tidings_sink_breaker_opened_total",
                "Times that the circuit breaker opened.",
                &[Label::SINK],
            ),
            paused: catalogue.gauges("tidings_sink_paused", "1 while the sink is paused.", &[Label::SINK]),
        }
    }

    pub(crate) fn begin(&self, catalogue: &Catalogue, sink: &str) {
        for counters in [&self.attempts, &self.failures, &self.dead_letters, &self.breaker_opened] {
            catalogue.begin(counters, sink);
        }
        for histograms in [&self.delivered_delay, &self.attempt_seconds] {
            drop(histograms.with_label_values(&[sink]));
        }
    }

    /// Resets the gauges, which each scrape sets again.
    pub fn forget_gauges(&self) {
        for gauge in [&self.pending, &self.failing, &self.breaker_open, &self.paused] {
            gauge.reset();
        }
        self.oldest_pending.reset();
    }
}
