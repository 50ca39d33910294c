//! One attempt of a due delivery, from the records in the store to the record of its outcome.
//!
//! ```text
//! deliver ─▶ Target::attempt ─▶ AttemptOutcome ─▶ next_step (queue::decision) ─▶ record ─▶ Store
//! ```

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tracing::field::display;

use super::{
    SinkWorker,
    status::{attempt_record, attempt_span},
};
use crate::{
    deliver::{
        outcome::AttemptOutcome,
        queue::{
            BreakerChange, Queue,
            decision::{Decision, History, decide},
        },
    },
    store::{AttemptDone, AttemptVerdict, Delivery, DeliveryKey, Event, News, StoreError},
    telemetry::{SpanKind, TraceParent},
    util::{clock, panic::panic_text, units::Time},
};

impl SinkWorker {
    /// Attempts a due delivery if it has its turn, and records the outcome with the next step.
    pub(super) async fn deliver(&self, key: DeliveryKey) -> Result<(), StoreError> {
        let Some((delivery, turn)) = self.prepare(key).await? else {
            self.backlog().with(key, |queue| queue.refund(Instant::now()));
            return Ok(());
        };
        let begun = clock::now();
        let Some(event) = self.store.event(key.event).await? else {
            let outcome = AttemptOutcome::unreadable("the record of its event cannot be read");
            self.conclude(key, &delivery, &outcome, begun).await;
            drop(turn);
            return self.wake_next(&delivery).await;
        };
        let trace = event.trace();
        let span = trace.child();
        let outcome = self.attempt(key, &event, span, begun).await?;
        let now = clock::now();
        let span_record = || attempt_span(&delivery, &outcome, span, begun, now);
        self.metrics.spans.record(&trace, SpanKind::Client, span_record);
        let next_step = self.conclude(key, &delivery, &outcome, begun).await;
        // The delay of a redelivery is the operator's, not the sink's.
        if next_step == AttemptVerdict::Delivered && delivery.generation == 0 {
            self.metrics.delays.observe(now.since(delivery.created_at).as_secs_f64());
            if let News::Completion(_) = event.news {
                let delay = now.since(ended_at(&event, &delivery)).as_secs_f64();
                self.metrics.delivered_delay.with_label_values(&[self.name.as_str()]).observe(delay);
            }
        }
        drop(turn);
        self.wake_next(&delivery).await
    }

    /// Sends the event once. A panic becomes an outcome, so that it costs this delivery alone.
    async fn attempt(
        &self,
        key: DeliveryKey,
        event: &Event,
        span: TraceParent,
        now: Time,
    ) -> Result<AttemptOutcome, StoreError> {
        let sending = self.target.attempt(&self.store, (key, self.name.as_str()), event, span, now);
        match AssertUnwindSafe(sending).catch_unwind().await {
            Ok(outcome) => outcome,
            Err(panic) => {
                self.metrics.panics.inc();
                Ok(AttemptOutcome::internal(format!("an internal error: {}", panic_text(&*panic))))
            }
        }
    }

    /// Decides what an outcome means, and records it in the statistics and in the store.
    async fn conclude(
        &self,
        key: DeliveryKey,
        delivery: &Delivery,
        outcome: &AttemptOutcome,
        begun: Time,
    ) -> AttemptVerdict {
        let now = clock::now();
        let host = self.backlog().callbacks().and_then(|origins| origins.host(key));
        let next_step = self.next_step(key, delivery, outcome, host.as_deref(), now);
        self.record((key, delivery), outcome, &next_step, host.as_deref(), now);
        let done = AttemptDone {
            generation: delivery.generation,
            number: delivery.attempt_count + 1,
            attempt: attempt_record(outcome, begun),
            verdict: next_step.clone(),
        };
        self.store.record_attempt(key, &done, now).await;
        next_step
    }

    /// Decides the next step of a delivery, and updates the queue by what its outcome says about
    /// the sink.
    fn next_step(
        &self,
        key: DeliveryKey,
        delivery: &Delivery,
        outcome: &AttemptOutcome,
        host: Option<&str>,
        wall: Time,
    ) -> AttemptVerdict {
        let decided = {
            let mut backlog = self.backlog();
            let decided = backlog.with(key, |queue| update_queue(queue, key, delivery, outcome, wall));
            if let (Some((decision, _)), Some(origins)) = (&decided, backlog.callbacks()) {
                origins.update_host(key, decision.signal, outcome.error.as_deref());
            }
            decided
        };
        // A callback that was forgotten meanwhile has no queue, and no delivery that a decision
        // could change.
        let Some((decision, change)) = decided else { return AttemptVerdict::Defer(wall) };
        self.log_breaker(change, outcome, host);
        // The change may release waiting deliveries, or make them wait for another time.
        self.wake.notify_one();
        decision.next_step
    }

    fn log_breaker(&self, change: Option<BreakerChange>, outcome: &AttemptOutcome, host: Option<&str>) {
        let sink = &self.name;
        match change {
            Some(BreakerChange::Closed) => tracing::info!(sink, host, "breaker closed: the sink works again"),
            Some(BreakerChange::Opened) => {
                self.metrics.breaker_opened.with_label_values(&[sink.as_str()]).inc();
                let error = outcome.error.as_deref().unwrap_or_default();
                tracing::warn!(sink, host, error, "breaker opened: the sink keeps failing; probing it");
            }
            None => {}
        }
    }

    /// Records an outcome in the log, the statistics and the metrics.
    fn record(
        &self,
        (key, delivery): (DeliveryKey, &Delivery),
        outcome: &AttemptOutcome,
        next_step: &AttemptVerdict,
        host: Option<&str>,
        now: Time,
    ) {
        let (sink, source, job) = (&self.name, delivery.topic.source(), delivery.topic.job());
        let job_id = job.map(|job| display(&job.job_id));
        let (event_id, attempt) = (&delivery.event_id, delivery.attempt_count + 1);
        let error = outcome.error.as_deref().unwrap_or_default();
        let result = self.stats().record(next_step, error, now);
        match next_step {
            AttemptVerdict::Delivered => {
                tracing::debug!(sink, host, source, job_id, event_id, attempt, "delivered");
            }
            AttemptVerdict::Retry(next) | AttemptVerdict::Defer(next) => {
                tracing::warn!(sink, host, source, job_id, event_id, attempt, error, %next, "delivery attempt failed");
            }
            AttemptVerdict::Dead(reason) => {
                tracing::error!(
                    sink,
                    host,
                    source,
                    job_id,
                    event_id,
                    attempt,
                    reason,
                    "delivery became a dead letter"
                );
                self.metrics.dead_letters.with_label_values(&[sink.as_str()]).inc();
                self.metrics.dead.add(key, delivery, reason);
            }
        }
        self.metrics.attempts.with_label_values(&[sink.as_str(), result]).inc();
        if let Some(class) = outcome.error_class {
            self.metrics.failures.with_label_values(&[sink.as_str(), class.as_str()]).inc();
        }
        let seconds = outcome.duration.as_secs_f64();
        self.metrics.attempt_seconds.with_label_values(&[sink.as_str()]).observe(seconds);
    }
}

/// Decides what an outcome means, and updates the breaker of the queue by it.
fn update_queue(
    queue: &mut Queue,
    key: DeliveryKey,
    delivery: &Delivery,
    outcome: &AttemptOutcome,
    wall: Time,
) -> (Decision, Option<BreakerChange>) {
    let now = Instant::now();
    let history = History {
        step: delivery.step,
        spared: delivery.spared,
        spared_for: Duration::from_millis(delivery.spared_ms),
        passed_by: queue.passed_by(key),
    };
    let (taking, retry) = (queue.is_taking(now), &queue.limits().retry);
    let decision = decide(outcome, history, taking, retry, wall, rand::random());
    let change = queue.update_breaker(key, decision.signal, outcome.retry_after(), now, rand::random());
    (decision, change)
}

/// Returns when the job of an event ended by our clock. After a jump of that clock the store moved
/// the delivery's stamp and not the event's; their difference is the jump.
fn ended_at(event: &Event, delivery: &Delivery) -> Time {
    let moved = delivery.created_at.0.saturating_sub(event.created_at.0);
    Time(event.news.time_by_our_clock().0.saturating_add(moved))
}
