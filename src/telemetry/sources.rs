//! What is counted of the sources.

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};

use super::{Catalogue, Label};
use crate::{model::job::EventType, schedule::HealthState, upstream::Failure};

/// Metrics by source.
pub struct SourceMetrics {
    /// Watches being followed, by source and phase.
    pub open_watches: IntGaugeVec,
    /// 1 for the state that a source is in, 0 for the others.
    pub state: IntGaugeVec,
    /// The requests a second that the budget of a source allows now.
    pub request_budget: GaugeVec,
    /// Requests sent, by source.
    pub requests: IntCounterVec,
    /// Status requests by source and result.
    pub polls: IntCounterVec,
    /// Requests for full jobs by source and result.
    pub fetches: IntCounterVec,
    /// Requests through the proxy, by source and whether they were answered from what is known.
    pub proxied: IntCounterVec,
    /// Events made, by source and outcome, progress among them.
    pub events: IntCounterVec,
    /// Events that went to no sink, by source.
    pub unrouted: IntCounterVec,
}

impl SourceMetrics {
    pub(super) fn new(catalogue: &mut Catalogue) -> Self {
        let by = |name, words: &[&'static str]| [Label::SOURCE, Label::words(name, words)];
        let failing = |words: &[&'static str]| [words, &Failure::LABELS].concat();
        let outcomes = EventType::ALL.map(EventType::word);
        Self {
            open_watches: catalogue.gauges(
                "tidings_open_watches",
                "Watches being followed.",
                &by("phase", &["watching", "fetching"]),
            ),
            state: catalogue.gauges(
                "tidings_source_state",
                "1 for the state that the source is in, 0 for the others.",
                &by("state", &HealthState::ALL.map(HealthState::as_str)),
            ),
            request_budget: catalogue.float_gauges(
                "tidings_request_budget",
                "Requests a second that the budget allows now; less than configured after the source asked for less.",
                &[Label::SOURCE],
            ),
            requests: catalogue.counters(
                "tidings_requests_total",
                "Requests sent to the source: looks, full jobs, and what the proxy passed on.",
                &[Label::SOURCE],
            ),
            polls: catalogue.counters(
                "tidings_polls_total",
                "Status requests.",
                &by("result", &failing(&["pending", "ended"])),
            ),
            fetches: catalogue.counters(
                "tidings_fetches_total",
                "Requests for full jobs.",
                &by("result", &failing(&["stored", "running", "disk_error"])),
            ),
            proxied: catalogue.counters(
                "tidings_proxy_requests_total",
                "Requests through the proxy: known without asking the source, or forwarded.",
                &by("answer", &["known", "forwarded"]),
            ),
            events: catalogue.counters("tidings_events_total", "Events made.", &by("outcome", &outcomes)),
            unrouted: catalogue.counters(
                "tidings_unrouted_events_total",
                "Events that went to no sink: none took them when they were made.",
                &[Label::SOURCE],
            ),
        }
    }

    pub(super) fn begin(&self, catalogue: &Catalogue, source: &str) {
        let all = [&self.requests, &self.polls, &self.fetches, &self.proxied, &self.events, &self.unrouted];
        for counters in all {
            catalogue.begin(counters, source);
        }
    }

    pub(super) fn forget_gauges(&self) {
        self.open_watches.reset();
        self.state.reset();
        self.request_budget.reset();
    }
}
