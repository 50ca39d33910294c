//! The metrics of sources.

use std::sync::Arc;

use prometheus::{GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec};

use crate::{
    model::job::EventType,
    schedule::HealthState,
    telemetry::{Catalogue, Label, Spans},
    upstream::Failure,
};

/// Steps of up to a minute, which tell a good poller from a fixed two seconds.
const DETECTION_STEPS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Metrics by source.
pub struct SourceMetrics {
    /// Open watches, by source and phase.
    pub open_watches: IntGaugeVec,
    /// 1 for the current state of a source, 0 for the others.
    pub state: IntGaugeVec,
    /// The requests a second that the budget of a source allows now.
    pub request_budget: GaugeVec,
    /// Requests sent, by source.
    pub requests: IntCounterVec,
    /// Polls by source and result.
    pub polls: IntCounterVec,
    /// Fetches by source and result.
    pub fetches: IntCounterVec,
    /// Requests through the proxy, by source and answer.
    pub proxied: IntCounterVec,
    /// Events made, by source and outcome, with progress among the outcomes.
    pub events: IntCounterVec,
    /// Events that no sink took, by source.
    pub unrouted: IntCounterVec,
    /// The time from the end of a job, as its source says, to the poll that noticed it.
    pub detection_delay: Histogram,
    /// Panics in the task of one job.
    pub panics: IntCounter,
    /// Spans for the collector.
    pub spans: Arc<Spans>,
}

impl SourceMetrics {
    /// Registers the metrics. `panics` and `spans` are shared with the other tasks.
    pub(crate) fn new(catalogue: &mut Catalogue, panics: &IntCounter, spans: &Arc<Spans>) -> Self {
        let by = |name, words: &[&'static str]| [Label::SOURCE, Label::words(name, words)];
        let failing = |words: &[&'static str]| [words, &Failure::LABELS].concat();
        let outcomes = EventType::ALL.map(EventType::word);
        let detection_delay = HistogramOpts::new(
            "tidings_detection_delay_seconds",
            "Time from the end of a job, as its source says, to the poll that noticed it.",
        );
        let detection_delay = Histogram::with_opts(detection_delay.buckets(DETECTION_STEPS.to_vec()));
        Self {
            detection_delay: catalogue.add(detection_delay, &[]),
            panics: panics.clone(),
            spans: Arc::clone(spans),
            open_watches: catalogue.gauges(
                "tidings_open_watches",
                "Open watches.",
                &by("phase", &["watching", "fetching"]),
            ),
            state: catalogue.gauges(
                "tidings_source_state",
                "1 for the state that the source is in, 0 for the others.",
                &by("state", &HealthState::ALL.map(HealthState::as_str)),
            ),
            request_budget: catalogue.float_gauges(
                "tidings_request_budget",
                "Requests a second that the budget allows now. Less than configured after the source asked for less.",
                &[Label::SOURCE],
            ),
            requests: catalogue.counters(
                "tidings_requests_total",
                "Requests sent to the source: polls, fetches, and forwarded requests of the proxy.",
                &[Label::SOURCE],
            ),
            polls: catalogue.counters(
                "tidings_polls_total",
                "Polls: status requests.",
                &by("result", &failing(&["pending", "ended"])),
            ),
            fetches: catalogue.counters(
                "tidings_fetches_total",
                "Fetches: requests for results.",
                &by("result", &failing(&["stored", "running", "disk_error"])),
            ),
            proxied: catalogue.counters(
                "tidings_proxy_requests_total",
                "Requests through the proxy: answered from what is known, or forwarded.",
                &by("answer", &["known", "forwarded"]),
            ),
            events: catalogue.counters("tidings_events_total", "Events made.", &by("outcome", &outcomes)),
            unrouted: catalogue.counters(
                "tidings_unrouted_events_total",
                "Events that no sink took when they were made.",
                &[Label::SOURCE],
            ),
        }
    }

    pub(crate) fn begin(&self, catalogue: &Catalogue, source: &str) {
        let all = [&self.requests, &self.polls, &self.fetches, &self.proxied, &self.events, &self.unrouted];
        for counters in all {
            catalogue.begin(counters, source);
        }
    }

    pub(crate) fn forget_gauges(&self) {
        self.open_watches.reset();
        self.state.reset();
        self.request_budget.reset();
    }
}
