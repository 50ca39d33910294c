//! What the watcher reports of a job's events: the sinks for each, its counter and its span.

use super::SourceState;
use crate::{
    model::job::{EventType, Outcome},
    store::{Watch, WatchStage},
    telemetry::{SpanKind, TraceSpan, number, text},
    util::clock,
};

impl SourceState {
    /// Returns the function that chooses the sinks of an event. The store calls it in the
    /// transaction that makes the event.
    pub(super) fn route(&self) -> impl Fn(&Watch, EventType) -> Vec<String> + Clone + Send + use<> {
        let router = self.routing.router();
        move |watch, event| router.sinks(watch, event)
    }

    /// Counts an event.
    pub(super) fn count_event(&self, event: EventType) {
        self.metrics.events.with_label_values(&[self.source.name.as_str(), event.word()]).inc();
    }

    /// Records the span of a job, from its registration to its event.
    pub(super) fn record_job_span(&self, watch: &Watch, outcome: Outcome, polls: u64) {
        self.metrics.spans.record(&watch.trace(), SpanKind::Internal, || TraceSpan {
            name: "job",
            id: None,
            start: watch.registered_at,
            end: clock::now(),
            attributes: vec![
                ("tidings.source", text(&watch.source)),
                ("tidings.job_id", text(watch.job_id.as_str())),
                ("tidings.outcome", text(outcome.as_str())),
                ("tidings.polls", number(polls)),
            ],
            error: (outcome == Outcome::Lost).then(|| "lost".to_owned()),
        });
    }

    /// Gives a job up: makes the event that says that it is lost, and why.
    pub(super) async fn give_up(&self, number: u64, reason: &str) {
        let polls = self.schedule().entry(number).map_or(0, |(entry, _)| u64::from(entry.polls));
        let kind = self.source.recorded(self.source.default_kind());
        self.store.lose(number, reason, (polls, kind), self.route(), clock::now()).await;
        if let Ok(Some(watch)) = self.store.watch(number).await
            && watch.stage == WatchStage::Finished
        {
            self.count_event(EventType::Ended(Outcome::Lost));
            self.record_job_span(&watch, Outcome::Lost, polls);
            tracing::warn!(source = self.source.name, job_id = %watch.job_id, reason, "job lost");
        }
    }
}
