//! The metrics of sources.

use std::sync::Arc;

use prometheus::{GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use crate::{
    model::job::EventType,
    schedule::HealthState,
    telemetry::{Catalogue, Label, Spans},
    upstream::Failure,
    util::delays::Delays,
};

use super::HookResult;

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
    /// Pages of lists, by source and result.
    pub lists: IntCounterVec,
    /// Jobs that lists brought, by source.
    pub discovered: IntCounterVec,
    /// Polls that pages of lists answered, by source.
    pub list_answers: IntCounterVec,
    /// Requests through the proxy, by source and answer.
    pub proxied: IntCounterVec,
    /// Hooks of the source, by source and result.
    pub hooks: IntCounterVec,
    /// Creations that the proxy held to the budget, by source and result.
    pub paced: IntCounterVec,
    /// The time for which they waited before they were sent, by source.
    pub paced_wait: HistogramVec,
    /// Events made, by source and outcome, with progress among the outcomes.
    pub events: IntCounterVec,
    /// Events that no sink took, by source.
    pub unrouted: IntCounterVec,
    /// The time from the end of a job, as its source says, to the poll that noticed it.
    pub detection_delay: Histogram,
    /// The same delays in finer steps, for the overview.
    pub detection_delays: Delays,
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
        let outcomes = EventType::OF_JOBS.map(EventType::word);
        let detection_delay = HistogramOpts::new(
            "tidings_detection_delay_seconds",
            "Time from the end of a job, as its source says, to the poll that noticed it.",
        );
        let paced_wait = HistogramOpts::new(
            "tidings_paced_wait_seconds",
            "Time for which creations waited for the request budget before they were sent.",
        );
        let detection_delay = Histogram::with_opts(detection_delay.buckets(DETECTION_STEPS.to_vec()));
        Self {
            detection_delay: catalogue.add(detection_delay, &[]),
            detection_delays: Delays::default(),
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
                "Requests sent to the source: polls, fetches, pages of lists, and forwarded requests of the proxy.",
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
            lists: catalogue.counters(
                "tidings_lists_total",
                "Requests for a page of the list of a source.",
                &by("result", &failing(&["read"])),
            ),
            discovered: catalogue.counters(
                "tidings_discovered_jobs_total",
                "Jobs that were registered because a list showed them.",
                &[Label::SOURCE],
            ),
            list_answers: catalogue.counters(
                "tidings_list_answers_total",
                "Polls that a page of a list answered: those not sent, and those that found the end of a job.",
                &[Label::SOURCE],
            ),
            proxied: catalogue.counters(
                "tidings_proxy_requests_total",
                "Requests through the proxy: answered from what is known, or forwarded.",
                &by("answer", &["known", "forwarded"]),
            ),
            hooks: catalogue.counters(
                "tidings_hooks_total",
                "Hooks that came for the source, verified or not.",
                &by("result", &HookResult::ALL.map(HookResult::word)),
            ),
            paced: catalogue.counters(
                "tidings_paced_creations_total",
                "Creations that the proxy held to the request budget.",
                &by("result", &["sent", "sent_again", "refused"]),
            ),
            paced_wait: catalogue.histograms(
                paced_wait.buckets(DETECTION_STEPS.to_vec()),
                &[Label::SOURCE],
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
        let all = [
            &self.requests,
            &self.polls,
            &self.fetches,
            &self.proxied,
            &self.discovered,
            &self.events,
            &self.hooks,
            &self.list_answers,
            &self.lists,
            &self.paced,
            &self.unrouted,
        ];
        for counters in all {
            catalogue.begin(counters, source);
        }
        drop(self.paced_wait.with_label_values(&[source]));
    }

    pub(crate) fn forget_gauges(&self) {
        self.open_watches.reset();
        self.state.reset();
        self.request_budget.reset();
    }
}
