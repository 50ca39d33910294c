//! The status of a sink, and the record and the span of an attempt.

use tokio::time::Instant;

use super::SinkWorker;
use crate::{
    deliver::{
        outcome::AttemptOutcome,
        queue::{Queue, backlog::Backlog},
    },
    model::{
        delivery::{DeliveryAttempt, WaitsFor},
        sink::{SinkState, SinkStatus},
    },
    store::{Delivery, DeliveryKey, Store},
    telemetry::{TraceParent, TraceSpan, number, text},
    util::{clock, units::Time},
};

impl SinkWorker {
    /// Returns the status of the sink.
    pub async fn status(&self) -> SinkStatus {
        let (mut status, oldest) = self.health();
        status.oldest_pending_at = match oldest {
            Some(key) => event_created_at(&self.store, key).await,
            None => None,
        };
        status
    }

    /// Returns the status of the sink without what only the store knows: the age of the oldest delivery,
    /// which comes with it.
    pub(super) fn health(&self) -> (SinkStatus, Option<DeliveryKey>) {
        let (now, wall) = (Instant::now(), clock::now());
        let mut status = SinkStatus::new(&self.name, self.target.kind(), &self.target.shown());
        let oldest = {
            let mut backlog = self.backlog();
            let (pending, in_flight) = backlog.counts();
            (status.pending, status.in_flight) = (pending as u64, in_flight as u64);
            match &mut *backlog {
                Backlog::Sink(queue) => fill(&mut status, queue, now, wall),
                Backlog::Callbacks(origins) => status.origins = origins.statuses(now),
            }
            backlog.oldest()
        };
        self.stats().fill(&mut status);
        if status.paused_at.is_some() {
            status.state = SinkState::Paused;
        }
        (status, oldest)
    }

    /// Returns what keeps a pending delivery from being attempted, and until when; without a time
    /// until an operator acts.
    pub(super) fn waits_for(&self, key: DeliveryKey) -> Option<(WaitsFor, Option<Time>)> {
        if self.stats().paused_at.is_some() {
            return Some((WaitsFor::Paused, None));
        }
        let (now, wall) = (Instant::now(), clock::now());
        let until = |at: Instant| Some(wall.after(at.saturating_duration_since(now)));
        let by_queue = |queue: &mut Queue| {
            let quiet = queue.quiet_until(now).map(|at| (WaitsFor::Limited, until(at)));
            quiet.or_else(|| queue.breaker().probe_at().map(|at| (WaitsFor::Failing, until(at))))
        };
        self.backlog().with(key, by_queue).flatten()
    }
}

/// Copies the state of a sink's queue into `status`.
fn fill(status: &mut SinkStatus, queue: &Queue, now: Instant, wall: Time) {
    let later = |at: Instant| wall.after(at.saturating_duration_since(now));
    let breaker = queue.breaker();
    if queue.is_failing(now) {
        status.state = SinkState::Failing;
    }
    status.breaker = breaker.state();
    status.next_probe_at = breaker.probe_at().map(later);
    status.quiet_until = queue.quiet_until(now).map(later);
    status.rate = queue.rate();
    status.success_share = breaker.success_share(now);
    status.failures_in_row = queue.failures_in_row();
}

/// Returns when the event of a delivery was created; `None` when it is gone or the store cannot be
/// read.
pub(super) async fn event_created_at(store: &Store, key: DeliveryKey) -> Option<Time> {
    store.delivery(key).await.ok().flatten().map(|delivery| delivery.created_at)
}

/// Returns the span of an attempt in the trace of its job.
pub(super) fn attempt_span(
    delivery: &Delivery,
    outcome: &AttemptOutcome,
    span: TraceParent,
    start: Time,
    end: Time,
) -> TraceSpan {
    let mut attributes = vec![
        ("tidings.sink", text(&delivery.sink)),
        ("tidings.event_id", text(&delivery.event_id)),
        ("tidings.attempt", number(delivery.attempt_count + 1)),
    ];
    attributes.extend(outcome.status.map(|status| ("http.response.status_code", number(status))));
    TraceSpan {
        name: "deliver",
        id: Some(span.span_id),
        start,
        end,
        attributes,
        error: outcome.error.clone(),
    }
}

/// Returns the record of an attempt that began at `at`.
pub(super) fn attempt_record(outcome: &AttemptOutcome, at: Time) -> DeliveryAttempt {
    DeliveryAttempt {
        at,
        duration_ms: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
        status: outcome.status,
        error: outcome.error.clone(),
        error_class: outcome.error_class,
        response: outcome.response.clone(),
    }
}
