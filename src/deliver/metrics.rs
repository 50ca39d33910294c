//! What is counted of the sinks, for `/metrics`.

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::telemetry::{counters, gauges, known};

/// Metrics by sink.
pub struct SinkMetrics {
    /// Attempts to deliver, by sink and result.
    pub attempts: IntCounterVec,
    /// Attempts that failed, by sink and class of error.
    pub failures: IntCounterVec,
    /// How long attempts to deliver take, by sink.
    pub attempt_seconds: HistogramVec,
    /// Deliveries that are pending, by sink.
    pub pending: IntGaugeVec,
    /// The age of the oldest event that is pending, by sink.
    pub oldest_pending: GaugeVec,
    /// 1 while the breaker is open or half-open, by sink.
    pub breaker_open: IntGaugeVec,
    /// How often the breaker opened, by sink.
    pub breaker_opened: IntCounterVec,
    /// 1 while paused, by sink.
    pub paused: IntGaugeVec,
}

impl SinkMetrics {
    /// Every metric, at zero.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            attempts: counters(
                registry,
                "tidings_delivery_attempts_total",
                "Attempts to deliver an event.",
                &["sink", "result"],
            ),
            failures: counters(
                registry,
                "tidings_delivery_failures_total",
                "Attempts to deliver that failed, by class of error.",
                &["sink", "class"],
            ),
            attempt_seconds: known(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "tidings_delivery_attempt_seconds",
                        "How long an attempt to deliver takes, the answer included.",
                    ),
                    &["sink"],
                ),
            ),
            pending: gauges(
                registry,
                "tidings_pending_deliveries",
                "Deliveries that wait or are under way.",
                &["sink"],
            ),
            oldest_pending: known(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "tidings_oldest_pending_delivery_seconds",
                        "The age of the oldest event that waits or is under way; 0 when none does.",
                    ),
                    &["sink"],
                ),
            ),
            breaker_open: gauges(
                registry,
                "tidings_sink_breaker_open",
                "1 while the circuit breaker is open or half-open.",
                &["sink"],
            ),
            breaker_opened: counters(
                registry,
                "tidings_sink_breaker_opened_total",
                "How often the circuit breaker opened.",
                &["sink"],
            ),
            paused: gauges(registry, "tidings_sink_paused", "1 while the sink is paused.", &["sink"]),
        }
    }

    /// Forgets the gauges that are set anew whenever somebody asks.
    pub fn forget_gauges(&self) {
        for gauge in [&self.pending, &self.breaker_open, &self.paused] {
            gauge.reset();
        }
        self.oldest_pending.reset();
    }
}
